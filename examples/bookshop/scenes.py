"""What the demo plays: nine ways in which a bookshop fails, and what must come of each."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.rpc.error_details_pb2 import BadRequest, LocalizedMessage, PreconditionFailure, RetryInfo

from bookshop.v1 import bookshop_pb2 as pb
from examples.bookshop import orders, stock
from examples.bookshop.errors import shop
from grpc_faultwire import Category, DeadlineExceeded, Fault, Internal, Origin, StatusError, Unknown

if TYPE_CHECKING:
    from examples.bookshop.players import Evidence

PRIDE, EMMA, DRACULA, MOBY_DICK, WALDEN = (
    "9780141439518",
    "9780141439587",
    "9780141439846",
    "9780142437247",
    "9780140390445",
)
MISSING = "9780262033848"
"""A real book, but of another shop."""
ADA, MARY = "ada@example.com", "mary@example.com"
PASSWORD = "opensesame"
MANY = 270
"""Lines of the long order."""
BUDGET = 6144
"""Bytes that an error may take as it travels: Faultwire's default."""

Check = tuple[str, Callable[["Evidence"], Any]]
"""What must be so, in words, and whether it is."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One failure.

    Attributes:
        title: of the scene.
        story: what happens, in a sentence.
        method: which is called.
        requests: what is sent; of a method without a request stream the only one.
        source: a piece of the server's line that fails, to find it by.
        catches: the class that the caller names in its ``except``.
        does: what the caller does about the error: sentences made from what arrived.
        checks: what must be so.
        calls: how often it is called; only the last call fails.
        timeout: seconds that the caller gives each call.
        plain: whether the server has no interceptor.
        log_mark: what the server's line is known by, where the caller has no error id.
    """

    title: str
    story: str
    method: str
    requests: Sequence[Any]
    source: str
    catches: type[StatusError]
    does: Callable[[Evidence], Sequence[str]]
    checks: Sequence[Check]
    calls: int = 1
    timeout: float = 90.0
    plain: bool = False
    log_mark: str = ""

    def faults(self, evidence: Evidence) -> list[str]:
        """Return what is not as it must be."""
        if type(evidence.error) is not self.catches:
            return [f"the {evidence.world} caller caught {evidence.error!r}, not a {self.catches.__name__}"]
        return [
            f"it is not so in {evidence.world} that {words}" for words, holds in self.all_checks if not holds(evidence)
        ]

    @property
    def all_checks(self) -> tuple[Check, ...]:
        return (*self.checks, *(PLAIN if self.plain else GUARDED))


def _secrets(text: str) -> list[str]:
    return [secret for secret in (PASSWORD, "archive.internal", "Failed to connect", ADA, MARY) if secret in text]


GUARDED: tuple[Check, ...] = (
    ("no secret travels", lambda seen: not _secrets(seen.wire)),
    ("the server logged the error", lambda seen: seen.logged),
    ("the log shows no password and no customer", lambda seen: not {PASSWORD, ADA, MARY} & set(_secrets(seen.logged))),
)
PLAIN: tuple[Check, ...] = (("the caller has no error id", lambda seen: not seen.error.error_id),)
IDENTIFIED: Check = ("the caller has the error id of the log", lambda seen: seen.error.error_id in seen.logged != "")


def line(isbn: str, quantity: int, email: str = ADA) -> pb.OrderLine:
    return pb.OrderLine(isbn=isbn, quantity=quantity, email=email)


def _long_order() -> list[pb.OrderLine]:
    books = json.loads(stock.BOOKS.read_text(encoding="utf-8"))
    isbns = itertools.cycle(book["isbn"] for book in books if not book.get("archived"))
    return [line(isbn, 50, MARY) for isbn in itertools.islice(isbns, MANY)]


# What the caller does about each error.


def offer_search(seen: Evidence) -> list[str]:
    return [f"searches elsewhere for {seen.error.metadata['isbn']}, and does not ask again"]


def mark_fields(seen: Evidence) -> list[str]:
    violations = seen.error.find(BadRequest).field_violations
    return [f"marks {one.field}: {one.description}" for one in violations]


def come_back(seen: Evidence) -> list[str]:
    pushback = seen.trailers["grpc-retry-pushback-ms"]
    return [f"comes back in {seen.error.retry_delay:.1f} s; gRPC's own retries are told to by pushback-ms {pushback}"]


def show_id(_seen: Evidence) -> list[str]:
    return ["shows the id to its user; who has the id finds the line below, with exception and stack"]


def read_password(_seen: Evidence) -> list[str]:
    return [f"cannot tell what to do, but now knows the database's password: {PASSWORD}"]


def try_again(seen: Evidence) -> list[str]:
    return [f"tries again in {seen.error.retry_delay} s, and does not learn where the supplier lives"]


def give_up(_seen: Evidence) -> list[str]:
    return ["knows that its own time was up, whoever was slow"]


def keep_quotes(seen: Evidence) -> list[str]:
    prices = " and ".join(f"{quote.price_cents / 100:.2f}" for quote in seen.received)
    return [f"keeps the quotes that had come ({prices}), and asks for {seen.error.metadata['left']} copies"]


def wait_for_delivery(seen: Evidence) -> list[str]:
    arrived = len(seen.error.find(PreconditionFailure).violations)
    german = seen.error.find(LocalizedMessage).message
    return [f"waits {seen.error.retry_delay:.0f} s; shows {arrived} of the {MANY} lines, and '{german}'"]


SCENES = (
    Scene(
        title="A book that is not there",
        story="The catalogue on the proto enum made the class, with its code, message and metadata.",
        method="GetBook",
        requests=[pb.GetBookRequest(isbn=MISSING)],
        source="raise shop.BookNotFound(isbn=request",
        catches=shop.BookNotFound,
        does=offer_search,
        checks=(
            IDENTIFIED,
            ("the metadata name the book", lambda seen: seen.error.metadata == {"isbn": MISSING}),
            ("it is the caller's fault", lambda seen: seen.error.fault is Fault.CLIENT),
        ),
    ),
    Scene(
        title="An order with three invalid fields",
        story="All are named at once, in google.rpc.BadRequest, which callers in any language know.",
        method="PlaceOrder",
        requests=[line("9780141439519", 1), line(EMMA, 0), line(PRIDE, 2, "nobody")],
        source="raise shop.OrderInvalid(",
        catches=shop.OrderInvalid,
        does=mark_fields,
        checks=(IDENTIFIED, ("three fields are named", lambda seen: len(mark_fields(seen)) == 3)),
    ),
    Scene(
        title="One order too many",
        story="Three orders were placed; the fourth has to wait. The key `customer` is declared PERSONAL.",
        method="PlaceOrder",
        requests=[line(PRIDE, 1), line(EMMA, 2)],
        source="raise shop.OrderQuotaExceeded(",
        catches=shop.OrderQuotaExceeded,
        does=come_back,
        calls=orders.Quota.LIMIT + 1,
        checks=(
            IDENTIFIED,
            ("three orders were placed", lambda seen: len(seen.received) == orders.Quota.LIMIT),
            ("only the limit leaves, not the customer", lambda seen: seen.error.metadata == {"limit": "3"}),
            ("RetryInfo says when to come back", lambda seen: 50 < seen.error.retry_delay <= 60),
        ),
    ),
    Scene(
        title="A bug, masked and found again",
        story="An exception that nobody declared: its text names a password. The caller gets a constant and an id.",
        method="GetBook",
        requests=[pb.GetBookRequest(isbn=WALDEN)],
        source="raise RuntimeError(",
        catches=Internal,
        does=show_id,
        checks=(
            IDENTIFIED,
            ("the message is a constant", lambda seen: seen.error.message == "Internal error."),
            ("the log has the exception", lambda seen: 'exception="RuntimeError: no connection' in seen.logged),
            ("the log has its place", lambda seen: "stock.py" in seen.logged and "_from_archive" in seen.logged),
        ),
    ),
    Scene(
        title="The same bug on a plain gRPC server",
        story="For contrast, without Faultwire: the exception's text leaves, and nothing ties it to the log.",
        method="GetBook",
        requests=[pb.GetBookRequest(isbn=WALDEN)],
        source="raise RuntimeError(",
        catches=Unknown,
        does=read_password,
        plain=True,
        log_mark="ERROR grpc.",
        checks=(
            ("the password travels", lambda seen: PASSWORD in seen.wire),
            ("there are no details", lambda seen: seen.error.origin is Origin.UNKNOWN and not seen.error.error_details),
        ),
    ),
    Scene(
        title="A supplier that is down",
        story="150 copies are priced by the wholesaler, whose port is closed. What gRPC says of that stays inside.",
        method="QuotePrices",
        requests=[line(EMMA, 150)],
        source="yield prices.GetPrice(",
        catches=shop.PricesUnavailable,
        does=try_again,
        checks=(
            IDENTIFIED,
            ("it is the dependency's fault", lambda seen: seen.error.category is Category.DEPENDENCY),
            ("it may be tried again", lambda seen: seen.error.retry_delay == 0.5),
            ("the log knows more", lambda seen: "Connection refused" in seen.logged),
        ),
    ),
    Scene(
        title="A deadline that expires",
        story="Imported books are priced by the importer, who keeps silent. After 0.3 s the caller's clock ends it.",
        method="QuotePrices",
        requests=[line(MOBY_DICK, 1)],
        source="yield prices.GetPrice(",
        catches=DeadlineExceeded,
        does=give_up,
        timeout=0.3,
        log_mark="code=DEADLINE_EXCEEDED",
        checks=(
            ("it is a matter of time", lambda seen: seen.error.category is Category.TIMEOUT),
            ("the caller waited no longer than it said", lambda seen: 0.25 < seen.seconds < 2),
        ),
    ),
    Scene(
        title="An error in the middle of a stream",
        story="Two quotes have been sent when the third line fails: a plain Python exception, mapped by its name.",
        method="QuotePrices",
        requests=[line(PRIDE, 2), line(EMMA, 1), line(DRACULA, 60)],
        source="raise OutOfStock(",
        catches=shop.OutOfStock,
        does=keep_quotes,
        checks=(
            IDENTIFIED,
            ("the quotes before it arrive", lambda seen: [one.price_cents for one in seen.received] == [899, 999]),
            ("the attributes became metadata", lambda seen: seen.error.metadata == {"isbn": DRACULA, "left": "7"}),
        ),
    ),
    Scene(
        title="An error of 40 KiB",
        story=f"{MANY} lines have to wait, each with its reasons: too much for trailers. The least useful is left out.",
        method="PlaceOrder",
        requests=_long_order(),
        source="raise shop.DeliveryAwaited(",
        catches=shop.DeliveryAwaited,
        does=wait_for_delivery,
        checks=(
            IDENTIFIED,
            ("it had 40 KiB", lambda seen: seen.error.report.truncation.original_bytes * 3 / 4 >= 40 * 1024),
            ("it fits", lambda seen: seen.details_size <= BUDGET),
            ("its reason is whole", lambda seen: seen.error.reason == "DELIVERY_AWAITED"),
            ("its metadata are whole", lambda seen: seen.error.metadata == {"count": str(MANY)}),
            ("RetryInfo is there", lambda seen: seen.error.find(RetryInfo).retry_delay.seconds == 20),
            ("some violations are there", lambda seen: seen.error.find(PreconditionFailure).violations),
        ),
    ),
)

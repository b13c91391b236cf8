"""faultwire call: one RPC of each shape, by reflection or descriptors, with what became of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection

from bookshop.v1 import bookshop_faultwire, bookshop_pb2, bookshop_pb2_grpc
from grpc_faultwire import Unavailable
from grpc_faultwire.diagnostics import ErrorGroups
from grpc_faultwire.diagnostics.sync import DiagnosticsServicer
from grpc_faultwire.policies import BreakerPolicy
from grpc_faultwire.state import PolicyState
from grpc_faultwire.sync.server import ServerInterceptor
from grpc_faultwire.testing import serve

from .conftest import Run

GET = "bookshop.v1.Bookshop/GetBook"


class Shop(bookshop_pb2_grpc.BookshopServicer):
    """Answers by ISBN."""

    def __init__(self) -> None:
        self.calls = 0
        self.down = False
        self.metadata: list[tuple[str, str | bytes]] = []

    def GetBook(self, request: Any, context: Any) -> Any:
        self.calls += 1
        self.metadata = list(context.invocation_metadata())
        if request.isbn == "flaky" and self.calls < 3:
            raise bookshop_faultwire.PricesUnavailable(retry_delay=0.01)
        if request.isbn == "down" and self.calls < 3:
            raise Unavailable("Not now.")
        if request.isbn == "lost":
            raise bookshop_faultwire.BookNotFound(isbn="lost")
        if request.isbn == "secret":
            raise bookshop_faultwire.BookNotFound("\x1b[31mno password=hunter2", isbn="x")
        return bookshop_pb2.Book(isbn=request.isbn, title="A book", price_cents=5)

    def ListBooks(self, request: Any, context: Any) -> Iterator[Any]:
        yield bookshop_pb2.Book(title="first")
        yield bookshop_pb2.Book(title="second")
        if request.author == "lost":
            raise bookshop_faultwire.BookNotFound(isbn="third")

    def PlaceOrder(self, request_iterator: Any, context: Any) -> Any:
        self.calls += 1
        if self.calls < 3 and self.down:
            raise Unavailable("Not now.")
        return bookshop_pb2.Order(id="o", total_cents=sum(line.quantity for line in request_iterator))

    def QuotePrices(self, request_iterator: Any, context: Any) -> Iterator[Any]:
        for line in request_iterator:
            yield bookshop_pb2.Quote(isbn=line.isbn, price_cents=line.quantity)


@pytest.fixture
def shop() -> Shop:
    """Make the servicer."""
    return Shop()


@pytest.fixture
def target(shop: Shop) -> Iterator[str]:
    """Serve the shop, with reflection and diagnostics."""
    names = [bookshop_pb2.DESCRIPTOR.services_by_name["Bookshop"].full_name]
    state = PolicyState()
    state.breaker(("shop", *names), BreakerPolicy())
    diagnostics = DiagnosticsServicer(ErrorGroups(), [state], authorise=lambda context, action: True)
    with serve([shop, reflection.ReflectionServicer(names), diagnostics], [ServerInterceptor()]) as server:
        yield server.address


@pytest.mark.parametrize("types", ["", "--descriptors bookshop.binpb", "--module bookshop.v1.bookshop_pb2"])
def test_types_come_from_anywhere(run: Run, folder: Path, target: str, types: str) -> None:
    """Reflection, a descriptor set and a module give the same call."""
    done = run(f"call --plaintext {types} {target} {GET} -d @book.json")
    assert json.loads(done.out) == {"isbn": "978-1", "title": "A book", "price_cents": "5"}
    assert done.code == 0
    assert re.search(r"^1 +OK +\d\.\d{3}$", done.err, re.MULTILINE)
    assert re.search(r"^OK in \d\.\d{3} s$", done.err, re.MULTILINE)


def test_an_error_is_decoded(run: Run, folder: Path, target: str) -> None:
    """A failed call shows the error's tree, its attempts and its time, and exits with 1."""
    done = run(f'call --plaintext --descriptors bookshop.binpb {target} {GET} -d \'{{"isbn": "lost"}}\'')
    assert (done.code, done.out) == (1, "")
    lines = done.err.splitlines()
    assert lines[0] == "NOT_FOUND No book has the ISBN lost."
    for fact in (
        "reason: BOOK_NOT_FOUND",
        "isbn: lost",
        "origin: remote",
        "docs: https://bookshop.example.com/errors#BOOK_NOT_FOUND",
    ):
        assert any(line.endswith(fact) for line in lines), fact
    assert lines[-1].startswith("NOT_FOUND in ")


def test_attempts_are_listed(run: Run, folder: Path, target: str, shop: Shop) -> None:
    """The policies retry an idempotent method, and each attempt is shown with its delay."""
    done = run(f'call --plaintext {target} {GET} -d \'{{"isbn": "flaky"}}\'')
    assert (done.code, shop.calls) == (0, 3)
    rows = [line.split() for line in done.err.splitlines()[1:4]]
    assert [row[:2] for row in rows] == [["1", "UNAVAILABLE"], ["2", "UNAVAILABLE"], ["3", "OK"]]
    assert [len(row) for row in rows] == [4, 4, 3]


@pytest.mark.parametrize(
    ("method", "option", "attempts"),
    [("GetBook", "", 3), ("PlaceOrder", "", 1), ("PlaceOrder", "--idempotent", 3)],
)
def test_only_what_is_idempotent_is_sent_again(
    run: Run, folder: Path, target: str, shop: Shop, method: str, option: str, attempts: int
) -> None:
    """What the proto calls free of side effects is retried, and anything else only if the caller says so."""
    shop.down = True
    data = '{"isbn": "down"}'
    done = run(["call", "--plaintext", *option.split(), target, f"bookshop.v1.Bookshop/{method}", "-d", data])
    assert (shop.calls, done.code) == (attempts, 0 if attempts == 3 else 1)


def test_one_attempt_is_one_attempt(run: Run, folder: Path, target: str, shop: Shop) -> None:
    """--attempts 1 does not retry."""
    assert run(f'call --plaintext --attempts 1 {target} {GET} -d \'{{"isbn": "flaky"}}\'').code == 1
    assert shop.calls == 1


@pytest.mark.parametrize(
    ("method", "data", "answers"),
    [
        ("ListBooks", "{}", [{"title": "first"}, {"title": "second"}]),
        ("PlaceOrder", '{"quantity": 1} {"quantity": 3}', [{"id": "o", "total_cents": "4"}]),
        ("PlaceOrder", "", [{"id": "o"}]),
        ("QuotePrices", '{"isbn": "a"},{"isbn": "b"}', [{"isbn": "a"}, {"isbn": "b"}]),
    ],
)
def test_streams_are_lines(run: Run, folder: Path, target: str, method: str, data: str, answers: list[Any]) -> None:
    """Each response of a stream is a line of JSON; requests stand one after another."""
    done = run(["call", "--plaintext", target, f"bookshop.v1.Bookshop/{method}", "-d", data])
    assert [json.loads(line) for line in done.out.splitlines()] == answers
    assert done.code == 0


def test_a_stream_that_fails_shows_what_came_before(run: Run, folder: Path, target: str) -> None:
    """Responses before an error are on standard output, the error is on standard error."""
    done = run(["call", "--plaintext", target, "bookshop.v1.Bookshop/ListBooks", "-d", '{"author": "lost"}'])
    assert (done.code, len(done.out.splitlines())) == (1, 2)
    assert done.err.startswith("NOT_FOUND No book has the ISBN third.\n")


def test_data_may_come_from_standard_input(run: Run, folder: Path, target: str) -> None:
    """`-d -` reads the requests from a pipe."""
    assert json.loads(run(f"call --plaintext {target} {GET} -d -", '{"isbn": "piped"}').out)["isbn"] == "piped"


def test_metadata_are_sent(run: Run, folder: Path, target: str, shop: Shop) -> None:
    """Headers are sent as metadata; binary ones are given in base64."""
    run(f"call --plaintext {target} {GET} -H 'X-Shop: 7: b' -H 'trace-bin: AAE='")
    assert {("x-shop", "7: b"), ("trace-bin", b"\x00\x01")} <= set(shop.metadata)


def test_a_hostile_server_cannot_write_over_the_terminal(run: Run, folder: Path, target: str) -> None:
    """Control characters are escaped and secrets redacted, unless they are asked for."""
    done = run(f'call --plaintext {target} {GET} -d \'{{"isbn": "secret"}}\'')
    assert "\x1b" not in done.err
    assert "hunter2" not in done.err


def test_a_server_without_reflection_is_told_from_one_that_is_away(run: Run, folder: Path, shop: Shop) -> None:
    """No reflection is a sentence and exit code 2; no server is an error of the call."""
    with serve([shop]) as server:
        done = run(f"call --plaintext {server.address} {GET}")
        assert (done.code, done.err) == (2, "faultwire: the server has no reflection: give --descriptors or --module\n")
        address = server.address
    done = run(f"call --plaintext {address} {GET}")
    assert done.code == 1
    assert done.err.startswith("UNAVAILABLE ")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("GetBook", "GetBook is no method: give it as package.Service/Method"),
        ("bookshop.v1.Bookshop/Burn", "bookshop.v1.Bookshop has no method Burn; it has GetBook, ListBooks"),
        ("bookshop.v1.Shop/GetBook", "no service is called bookshop.v1.Shop"),
        (f"{GET} --timeout 0", "a call needs a timeout above 0 and one attempt at least"),
        (f"{GET} -d nonsense", "the data are no JSON: "),
        (f"{GET} -d '[1]'", "this is no bookshop.v1.GetBookRequest: "),
        (f"{GET} -d '7'", "this is no bookshop.v1.GetBookRequest: "),
        (f"{GET} -d '{{\"no\": 1}}'", "this is no bookshop.v1.GetBookRequest: "),
        (f"{GET} -d '{{}}{{}}'", "bookshop.v1.Bookshop.GetBook takes one request, not 2"),
        (f"{GET} -d @nowhere.json", "nowhere.json cannot be read: No such file or directory"),
        (f"{GET} -d @status.bin", "@status.bin is no UTF-8 text"),
        (f"{GET} -H nonsense", "'nonsense' is no metadata: give it as 'key: value'"),
        (f"{GET} -H 'bad key: 1'", "'bad key: 1' is no metadata: give it as 'key: value'"),
        (f"{GET} -H 'a-bin: !'", "metadata a-bin is binary: give its value in base64"),
    ],
)
def test_arguments_that_make_no_sense_get_a_sentence(run: Run, folder: Path, line: str, sentence: str) -> None:
    """What cannot be called is told in a sentence before anything is sent."""
    Path("status.bin").write_bytes(b"\xff")
    done = run(f"call --plaintext --descriptors bookshop.binpb localhost:1 {line}")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"faultwire: {sentence}")
    assert done.err.count("\n") == 1


def test_tls_is_the_default(run: Run, folder: Path, target: str) -> None:
    """Without --plaintext a plaintext server is not reached; a file of certificates must be there."""
    done = run(f"call --descriptors bookshop.binpb --timeout 5 --attempts 1 {target} {GET}")
    assert (done.code, done.err.partition(" ")[0]) == (1, "UNAVAILABLE")
    done = run(f"call --ca nowhere.pem {target} {GET}")
    assert (done.code, done.err) == (2, "faultwire: nowhere.pem cannot be read: No such file or directory\n")
    assert grpc.ssl_channel_credentials() is not None

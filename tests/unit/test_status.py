"""The wire: what leaves for an error, and what any trailers, however hostile, are decoded to."""

import asyncio
import pickle
import random
import threading
from concurrent import futures

import grpc
import grpc.aio
import pytest
from google.protobuf import any_pb2, struct_pb2, wrappers_pb2
from google.rpc import code_pb2, status_pb2
from google.rpc import error_details_pb2 as rpc
from grpc._channel import _InactiveRpcError, _RPCState
from grpc_status import rpc_status
from hypothesis import given, settings
from hypothesis import strategies as st

from bookshop.v1 import bookshop_pb2
from faultwire.v1 import errors_pb2
from grpc_faultwire.catalogue import Catalogue
from grpc_faultwire.category import REDACTED, Category, RetryScope, Sensitivity, Severity
from grpc_faultwire.declaration import Declaration, MetadataKey
from grpc_faultwire.details import MAX_DETAILS, pack
from grpc_faultwire.error_info import MAX_RETRY_DELAY
from grpc_faultwire.errors import (
    Aborted,
    Internal,
    InvalidArgument,
    NotFound,
    Origin,
    ResourceExhausted,
    StatusError,
    Unavailable,
    Unknown,
    error_class,
)
from grpc_faultwire.redaction import Redactor
from grpc_faultwire.status import (
    DETAILS_KEY,
    MAX_CAUSES,
    MAX_STATUS_BYTES,
    Reply,
    decode,
    encode,
    from_rpc_error,
)
from grpc_faultwire.trailers import PUSHBACK_KEY, valid_trailer

CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
CANARY = "canary-7f3a"
OVERSIZE = "Stream removed (received metadata size exceeds soft limit (9000 vs. 8192); :status:42B)"
bookshop = Catalogue.of(bookshop_pb2.BookshopError)


class Declared(InvalidArgument):
    declaration = Declaration(
        reason="DECLARED",
        domain="status.example.com",
        code="INVALID_ARGUMENT",
        message="{isbn} of {email}",
        metadata=(
            MetadataKey(key="isbn"),
            MetadataKey(key="email", sensitivity=Sensitivity.PERSONAL),
            MetadataKey(key="pin", sensitivity=Sensitivity.SECRET),
            MetadataKey(key="api_key"),
            MetadataKey(key="page_token", sensitivity=Sensitivity.PUBLIC),
        ),
    )


def sent(error: StatusError, *, redactor: Redactor | None = None, **more) -> Reply:
    return encode(
        error, service="shop.v1.Shop", method="GetBook", redactor=redactor or Redactor(), now=1_700_000_000.25, **more
    )


def trailers_of(reply: Reply, key: str = DETAILS_KEY) -> list:
    return [value for name, value in reply.trailers if name == key]


def status_of(reply: Reply) -> status_pb2.Status:
    (value,) = trailers_of(reply)
    return status_pb2.Status.FromString(value)


def arrived(reply: Reply) -> StatusError:
    return decode(reply.code, reply.message, trailing_metadata=reply.trailers)


# What leaves.

DETAILS = st.lists(
    st.sampled_from(
        [
            rpc.Help(links=[{"description": "d", "url": "https://example.com"}]),
            rpc.BadRequest(field_violations=[{"field": "isbn", "description": "bad"}]),
            rpc.QuotaFailure(violations=[{"subject": "s", "quota_dimensions": {"a": "b"}}]),
            rpc.PreconditionFailure(violations=[{"type": "T"}]),
            rpc.ResourceInfo(resource_type="book", resource_name="1"),
            rpc.LocalizedMessage(locale="de", message="Ü"),
            rpc.RequestInfo(request_id="r1"),
            bookshop_pb2.Book(isbn="1", title="Dune"),
            errors_pb2.BatchReport(total=3, failed=1),
        ]
    ),
    max_size=5,
    unique_by=lambda message: message.DESCRIPTOR.full_name,
)


@settings(max_examples=60, deadline=None)
@given(
    code=st.sampled_from(CODES),
    message=st.text(alphabet=st.characters(codec="utf-8", exclude_characters="@"), max_size=60),
    reason=st.none() | st.from_regex(r"[A-Z][A-Z0-9_]{1,20}[A-Z0-9]", fullmatch=True),
    metadata=st.dictionaries(st.sampled_from(["isbn", "count", "title"]), st.text(alphabet="abc é%\n", max_size=9)),
    details=DETAILS,
    delay=st.none() | st.floats(0, MAX_RETRY_DELAY),
    scope=st.none() | st.sampled_from(RetryScope),
    category=st.none() | st.sampled_from(Category),
    severity=st.none() | st.sampled_from(Severity),
)
def test_what_was_said_arrives(code, message, reason, metadata, details, delay, scope, category, severity):
    """An error that fits arrives as it was raised, but for secrets."""
    redactor = Redactor(metadata_keys=["isbn", "count", "title"])
    error = error_class(code)(
        message,
        reason=reason,
        domain="d.example.com",
        metadata=metadata,
        error_details=details,
        retry_delay=delay,
        retry_scope=scope,
        category=category,
        severity=severity,
    )
    reply = sent(error, redactor=redactor)
    got = arrived(reply)
    assert (got.code(), got.message) == (code, redactor.text(message))
    assert (got.reason, got.domain, got.metadata) == (error.reason, "d.example.com", error.metadata)
    assert (got.category, got.severity) == (error.category, error.severity)
    assert got.declared_retry_scope is scope
    assert got.retry_delay == (None if delay is None else pytest.approx(delay, abs=1e-9, rel=1e-12))
    assert (got.error_id, got.origin, got.anomalies) == (error.error_id, Origin.REMOTE, ())
    for one in details:
        assert got.find(type(one)) == one
    kinds = [type(one) for one in got.error_details]
    assert len(kinds) == len(set(kinds))
    assert (reply.dropped, reply.undeclared, len(trailers_of(reply))) == ((), (), 1)


def test_a_declared_error_arrives_as_its_class():
    """In a caller that knows the catalogue, the error is of its class again, and bears what the server added."""
    # The generated module, if anything has imported it since, has put its own classes into their place.
    known = Catalogue.of(bookshop_pb2.BookshopError)
    got = arrived(sent(known.OrderQuotaExceeded(limit=5, customer=CANARY)))
    assert type(got) is known.OrderQuotaExceeded
    assert (got.message, got.metadata) == ("A customer may place 5 orders a minute.", {"limit": "5"})
    assert (got.retry_delay, got.declared_retry_scope) == (30.0, RetryScope.REQUEST)
    report = got.report
    assert (report.service, report.method, report.occurred_at.ToNanoseconds()) == (
        "shop.v1.Shop",
        "GetBook",
        1_700_000_000_250_000_000,
    )
    assert report.retry.delay.seconds == got.find(rpc.RetryInfo).retry_delay.seconds == 30


def test_others_read_our_errors():
    """grpcio-status reads what we send."""
    reply = sent(NotFound("It is missing."))

    class Ended(grpc.Call):
        code = staticmethod(lambda: reply.code)
        details = staticmethod(lambda: reply.message)
        trailing_metadata = staticmethod(lambda: reply.trailers)
        initial_metadata = add_callback = cancel = is_active = time_remaining = None

    assert rpc_status.from_call(Ended()) == status_of(reply)


@pytest.mark.parametrize(
    ("error", "domain", "expected"),
    [
        pytest.param(NotFound(), "", "shop.v1.Shop", id="service"),
        pytest.param(NotFound(), "translator.example.com", "translator.example.com", id="translator"),
        pytest.param(NotFound(domain="own.example.com"), "translator.example.com", "own.example.com", id="own"),
    ],
)
def test_the_domain(error, domain, expected):
    """An error's own domain goes before the translator's, and that before the service's name."""
    assert arrived(sent(error, domain=domain)).domain == expected


def test_request_info_carries_the_error_id():
    """A RequestInfo tells callers of any library the error id, unless the error has one of its own."""
    error = NotFound()
    assert arrived(sent(error)).find(rpc.RequestInfo).request_id == error.error_id
    own = NotFound(error_details=[rpc.RequestInfo(request_id="mine")])
    assert arrived(sent(own)).find(rpc.RequestInfo).request_id == "mine"


METADATA = [
    pytest.param(NotFound(metadata={"isbn": CANARY}), {}, ("isbn",), id="undeclared"),
    pytest.param(NotFound(metadata={"allowed": "1"}), {"allowed": "1"}, (), id="allowed-by-the-redactor"),
    pytest.param(NotFound(metadata={"allowed": "a@b.de"}), {"allowed": REDACTED}, (), id="detected"),
    pytest.param(NotFound(metadata={"token": CANARY}), {"token": REDACTED}, (), id="allowed-but-by-name-a-secret"),
    pytest.param(Declared(metadata={"isbn": "1"}), {"isbn": "1"}, (), id="declared"),
    pytest.param(Declared(metadata={"isbn": "a@b.de"}), {"isbn": REDACTED}, (), id="declared-and-detected"),
    pytest.param(Declared(metadata={"email": CANARY}), {}, (), id="personal"),
    pytest.param(Declared(metadata={"pin": CANARY}), {}, (), id="secret"),
    pytest.param(Declared(metadata={"api_key": CANARY}), {"api_key": REDACTED}, (), id="by-name-a-secret"),
    pytest.param(Declared(metadata={"page_token": "p2"}), {"page_token": "p2"}, (), id="public-in-spite-of-its-name"),
    pytest.param(Declared(metadata={"page_token": "a@b.de"}), {"page_token": REDACTED}, (), id="public-detected"),
    pytest.param(Declared(metadata={"allowed": CANARY}), {}, ("allowed",), id="not-of-this-declaration"),
    pytest.param(
        NotFound(error_details=[rpc.ErrorInfo(reason="ABC", metadata={"isbn": CANARY})]),
        {},
        ("isbn",),
        id="by-hand",
    ),
]


@pytest.mark.parametrize(("error", "metadata", "undeclared"), METADATA)
def test_metadata(error, metadata, undeclared):
    """Only declared keys leave, what is personal or secret does not, and what was left behind is named."""
    reply = sent(error, redactor=Redactor(metadata_keys=["allowed", "token"]))
    assert arrived(reply).metadata == metadata
    assert reply.undeclared == undeclared
    assert CANARY.encode() not in trailers_of(reply)[0]
    assert CANARY not in reply.message


@pytest.mark.parametrize("wrap", ["failure", "group", "status", "any"])
@pytest.mark.parametrize(("error", "metadata", "undeclared"), METADATA)
def test_metadata_in_a_status_in_the_details(error, metadata, undeclared, wrap):
    """An ErrorInfo in an item's status, or wherever it is, carries what it would carry at the top."""
    info = rpc.ErrorInfo(reason=error.reason, domain=error.domain, metadata=error.metadata)
    status = status_pb2.Status(code=5, details=[pack(info)])
    detail = {
        "failure": lambda: errors_pb2.BatchReport(failures=[{"status": status}]),
        "group": lambda: errors_pb2.BatchReport(groups=[{"status": status}]),
        "status": lambda: status,
        "any": lambda: errors_pb2.BatchReport(failures=[{"status": {"details": [nested_any(info)]}}]),
    }[wrap]()
    reply = sent(Unknown(error_details=[detail]), redactor=Redactor(metadata_keys=["allowed", "token"]))
    left = arrived(reply).find(type(detail))
    inner = left if wrap == "status" else (left.groups if wrap == "group" else left.failures)[0].status
    found = rpc.ErrorInfo.FromString(inner.details[0].value)
    assert (found.reason, found.domain, dict(found.metadata)) == (info.reason, info.domain, metadata)
    assert CANARY.encode() not in trailers_of(reply)[0]


def nested_any(message):
    """Return an Any in an Any."""
    return any_pb2.Any(type_url="h/google.protobuf.Any", value=pack(message).SerializeToString())


@pytest.mark.parametrize(
    "own",
    [
        rpc.ErrorInfo(reason="ABC", metadata={"isbn": CANARY}),
        rpc.RetryInfo(retry_delay={"seconds": 7}),
        errors_pb2.ErrorReport(service=CANARY),
        rpc.DebugInfo(detail=CANARY),
    ],
    ids=lambda own: own.DESCRIPTOR.name,
)
def test_an_any_in_an_any_is_no_way_round(own):
    """What an error says of itself, and what is private, does not come in a second time, wrapped."""
    reply = sent(NotFound(error_details=[nested_any(own)]))
    names = [one.type_url.rpartition("/")[2] for one in status_of(reply).details]
    assert names == ["google.rpc.ErrorInfo", "google.rpc.RequestInfo", "faultwire.v1.ErrorReport"]
    assert CANARY.encode() not in trailers_of(reply)[0]


def test_the_message_is_redacted():
    """What looks like a secret leaves neither in the message nor in its copy in the details."""
    reply = sent(NotFound("at postgres://u:hunter2@db"))
    assert reply.message == status_of(reply).message == "at postgres://[redacted]@db"


@pytest.mark.parametrize(
    "detail",
    [
        pytest.param(rpc.DebugInfo(detail=CANARY), id="plain"),
        pytest.param(pack(rpc.DebugInfo(detail=CANARY)), id="packed"),
        pytest.param(
            any_pb2.Any(type_url="h/google.protobuf.Any", value=pack(rpc.DebugInfo(detail=CANARY)).SerializeToString()),
            id="packed-twice",
        ),
        pytest.param(status_pb2.Status(details=[pack(rpc.DebugInfo(detail=CANARY))]), id="in-a-status"),
        pytest.param(errors_pb2.ErrorReport(causes=[{"message": CANARY}]), id="a-report-by-hand"),
        pytest.param(any_pb2.Any(type_url="h/nobody.Knows", value=CANARY.encode()), id="unknown"),
        pytest.param(bookshop_pb2.OrderLine(email=CANARY), id="personal"),
        pytest.param(any_pb2.Any(type_url="h/google.rpc.ErrorInfo", value=b"\xff" + CANARY.encode()), id="broken-info"),
    ],
)
def test_what_never_leaves_by_hand(detail):
    """A DebugInfo or report given by hand, and what cannot be looked into, stay on the server."""
    reply = sent(NotFound(error_details=[detail]))
    assert CANARY.encode() not in trailers_of(reply)[0]
    assert [type(one) for one in arrived(reply).error_details].count(rpc.ErrorInfo) == 1


def test_a_stack_that_may_be_shown():
    """The stack that an exposure allows is the only DebugInfo."""
    reply = sent(NotFound(error_details=[rpc.DebugInfo(detail=CANARY)]), stack=["shop.py:1 get"])
    assert arrived(reply).find(rpc.DebugInfo) == rpc.DebugInfo(stack_entries=["shop.py:1 get"])


# Causes.


def test_causes_are_a_flat_tree():
    """Causes travel with their parents first, each naming its parent's index."""
    leaf = InvalidArgument("leaf", reason="LEAF_REASON", domain="d.example.com")
    left, right = NotFound("left", causes=[leaf]), Aborted("right password=hunter2")
    error = Internal("root", causes=[left, right])
    causes = arrived(sent(error)).report.causes
    assert [(one.parent, one.message, one.code) for one in causes] == [
        (-1, "left", 5),
        (-1, f"right password={REDACTED}", 10),
        (0, "leaf", 3),
    ]
    assert (causes[2].reason, causes[2].domain, causes[2].category) == ("LEAF_REASON", "d.example.com", 1)


def test_cycles_of_causes_end():
    """A cause that leads back to its error, or is named twice, travels once."""
    one, two = NotFound("1"), NotFound("2")
    one.__cause__, two.__cause__ = two, one
    assert [cause.message for cause in arrived(sent(one)).report.causes] == ["2"]
    assert len(arrived(sent(Internal(causes=[one, one, two]))).report.causes) == 2


def test_the_number_of_causes_is_bounded():
    """Of a chain of thousands, or of thousands side by side, a few travel."""
    chain = NotFound("deepest")
    for _ in range(5000):
        chain = NotFound("x", causes=[chain])
    assert len(arrived(sent(chain)).report.causes) == MAX_CAUSES
    assert len(arrived(sent(Internal(causes=[NotFound("x") for _ in range(5000)]))).report.causes) == MAX_CAUSES


@pytest.mark.parametrize("origin", [Origin.REMOTE, Origin.LOCAL, Origin.UNKNOWN])
def test_only_causes_of_this_process_travel(origin):
    """What another server said stays behind, with all that led to it."""
    cause = NotFound(CANARY, causes=[NotFound(CANARY)])
    cause.origin = origin
    reply = sent(Internal(causes=[cause, NotFound("ours")]))
    assert [one.message for one in arrived(reply).report.causes] == ["ours"]
    assert CANARY.encode() not in trailers_of(reply)[0]


def test_exceptions_are_no_causes():
    """The text of an exception that led to an error stays on the server."""
    error = NotFound("It.")
    error.__cause__ = ValueError(CANARY)
    error.__context__ = KeyError(CANARY)
    error.add_note(CANARY)
    assert CANARY.encode() not in trailers_of(sent(error))[0]


# Pushback.


@pytest.mark.parametrize(
    ("arguments", "remaining", "jitter", "pushback"),
    [
        pytest.param({}, None, 0.0, [], id="nothing-said"),
        pytest.param({"retry_scope": RetryScope.REQUEST}, None, 0.0, [], id="request-without-a-delay"),
        pytest.param({"retry_delay": 1.5}, None, 0.0, ["1500"], id="delay"),
        pytest.param({"retry_delay": 1.5, "retry_scope": RetryScope.REQUEST}, None, 0.0, ["1500"], id="request"),
        pytest.param({"retry_delay": 1.5}, None, 0.5, ["1650"], id="jitter"),
        pytest.param({"retry_delay": 1.5}, None, 1.0, ["1800"], id="most-jitter"),
        pytest.param({"retry_delay": 0.0}, None, 0.0, ["1"], id="never-0"),
        pytest.param({"retry_delay": 0.0001}, None, 0.0, ["1"], id="less-than-a-millisecond"),
        pytest.param({"retry_delay": MAX_RETRY_DELAY}, None, 1.0, [str(2**31 - 1)], id="at-most-int32"),
        pytest.param({"retry_scope": RetryScope.NEVER}, None, 0.0, ["-1"], id="never"),
        pytest.param({"retry_scope": RetryScope.NEVER, "retry_delay": 1.0}, None, 0.0, ["-1"], id="never-first"),
        pytest.param({"retry_scope": RetryScope.OPERATION}, None, 0.0, ["-1"], id="operation"),
        pytest.param({"retry_scope": RetryScope.AFTER_REFRESH}, None, 0.0, ["-1"], id="after-refresh"),
        pytest.param({"retry_delay": 2.0}, 2.0, 0.0, ["2000"], id="just-fits-the-deadline"),
        pytest.param({"retry_delay": 2.0}, 1.9, 0.0, ["-1"], id="past-the-deadline"),
        pytest.param({"retry_delay": 0.0}, -0.1, 0.0, ["-1"], id="deadline-has-passed"),
    ],
)
def test_pushback(arguments, remaining, jitter, pushback):
    """Native clients are told to wait, jittered and at least a millisecond, or not to try again."""
    reply = sent(Unavailable(**arguments), remaining=remaining, jitter=jitter)
    assert trailers_of(reply, PUSHBACK_KEY) == pushback


def test_what_was_retried_already_is_not_retried_again():
    """A server that has tried again itself tells its callers, native ones and ours, not to."""
    error = Unavailable(retry_delay=1.0)
    error.already_retried = True
    reply = sent(error)
    assert trailers_of(reply, PUSHBACK_KEY) == ["-1"]
    assert arrived(reply).report.retry.already_retried


@given(st.floats(0, 1e6), st.floats(0, 1, exclude_max=True))
def test_pushback_is_never_shorter_than_the_delay(delay, jitter):
    """Jitter only adds, a fifth at the most."""
    (pushback,) = trailers_of(sent(Unavailable(retry_delay=delay), jitter=jitter), PUSHBACK_KEY)
    assert max(1, round(delay * 1000)) <= int(pushback) <= max(1, round(delay * 1200))


@pytest.mark.parametrize(
    ("value", "kept"),
    [("400", "400"), ("-1", "-1"), ("-7", "-1"), ("0", "1"), ("abc", "-1"), ("1.5", "-1"), ("9" * 30, str(2**31 - 1))],
)
def test_the_users_own_pushback(value, kept):
    """A pushback that the handler set is made one that callers survive; what the error says goes before it."""
    assert trailers_of(sent(Unavailable(), trailers=[(PUSHBACK_KEY, value)]), PUSHBACK_KEY) == [kept]
    ours = sent(Unavailable(retry_delay=1.0), trailers=[(PUSHBACK_KEY, value)])
    assert trailers_of(ours, PUSHBACK_KEY) == ["1000"]


# The user's trailers.


def test_the_users_trailers_travel_but_for_details():
    """Trailers that can travel do, in order; a details trailer is replaced by ours."""
    own = [("x-a", "1"), ("x-b-bin", b"\x00\xff"), (DETAILS_KEY, b"theirs"), ("x-a", "2"), ("x-bytes", b"ascii")]
    reply = sent(NotFound(), trailers=own)
    assert reply.trailers[:4] == (("x-a", "1"), ("x-b-bin", b"\x00\xff"), ("x-a", "2"), ("x-bytes", b"ascii"))
    assert trailers_of(reply) != [b"theirs"]
    assert len(trailers_of(reply)) == 1


@pytest.mark.parametrize(
    ("key", "value", "valid"),
    [
        pytest.param("x-a", "text", True, id="text"),
        pytest.param("x-a", b"text", True, id="bytes-of-text"),
        pytest.param("x-a-bin", b"\x00\xff", True, id="binary"),
        pytest.param("x_1.2-a", "", True, id="all-kinds-of-characters"),
        pytest.param(DETAILS_KEY, b"", True, id="details"),
        pytest.param("X-A", "text", False, id="upper-case"),
        pytest.param("", "text", False, id="no-key"),
        pytest.param("x a", "text", False, id="space-in-key"),
        pytest.param("x-a\n", "text", False, id="newline-behind-key"),
        pytest.param(":status", "200", False, id="pseudo-header"),
        pytest.param("x-a", "line\n", False, id="newline"),
        pytest.param("x-a", "ü", False, id="not-ascii"),
        pytest.param("x-a", b"\xff", False, id="bytes-not-ascii"),
        pytest.param("x-a-bin", "text", False, id="text-under-binary"),
        pytest.param("x-a", 5, False, id="number"),
        pytest.param(5, "text", False, id="key-no-text"),
        pytest.param("grpc-timeout", "1S", False, id="ends-the-process-in-core"),
    ],
)
def test_trailers_that_can_travel(key, value, valid):
    """One trailer that cannot travel would make gRPC's core replace the whole status."""
    assert valid_trailer(key, value) is valid
    kept = [(key, value)] if valid and key != DETAILS_KEY else []
    assert list(sent(NotFound(), trailers=[(key, value)]).trailers[:-1]) == kept


# What arrives: the table of how peers differ.


def packed(code=14, message="outer", details=()) -> bytes:
    return status_pb2.Status(code=code, message=message, details=[pack(one) for one in details]).SerializeToString()


INFO = rpc.ErrorInfo(reason="SOME_REASON", domain="peer.example.com")


def typed(url: str) -> any_pb2.Any:
    return any_pb2.Any(type_url=url, value=INFO.SerializeToString())


BAD_UTF8 = any_pb2.Any(type_url="type.googleapis.com/google.rpc.BadRequest", value=b"\x0a\x04\x0a\x02\xff\xfe")


def nested(levels: int) -> bytes:
    status = status_pb2.Status(code=14, message="outer")
    for _ in range(levels):
        status = status_pb2.Status(code=14, message="outer", details=[pack(status)])
    return status.SerializeToString()


@pytest.mark.parametrize(
    ("trailers", "reason", "anomaly"),
    [
        pytest.param([], "UNAVAILABLE", None, id="none"),
        pytest.param([(DETAILS_KEY, packed(details=[INFO]))], "SOME_REASON", None, id="good"),
        pytest.param([(DETAILS_KEY, b"\xff\xff\xff")], "UNAVAILABLE", "cannot be decoded", id="garbage"),
        pytest.param([(DETAILS_KEY, b"")], "UNAVAILABLE", "the details say code 0", id="empty"),
        pytest.param(
            [(DETAILS_KEY, packed(5, details=[INFO]))],
            "SOME_REASON",
            "say code 5, the RPC ended with 14",
            id="other-code",
        ),
        pytest.param(
            [(DETAILS_KEY, packed(message="inner", details=[INFO]))],
            "SOME_REASON",
            "another message",
            id="other-message",
        ),
        pytest.param(
            [(DETAILS_KEY, packed(details=[INFO])), (DETAILS_KEY, packed(5, "b"))],
            "SOME_REASON",
            "2 grpc-status-details-bin trailers: the first is read",
            id="two",
        ),
        pytest.param(
            [(DETAILS_KEY, b"\xff"), (DETAILS_KEY, packed(details=[INFO]))], "UNAVAILABLE", "the first", id="bad-first"
        ),
        pytest.param([(DETAILS_KEY, packed(99, details=[INFO]))], "SOME_REASON", "say code 99", id="code-99"),
        pytest.param([(DETAILS_KEY, packed(-1, details=[INFO]))], "SOME_REASON", "say code -1", id="code-below-0"),
        pytest.param([(DETAILS_KEY, packed(0, details=[INFO]))], "SOME_REASON", "say code 0", id="ok-in-details"),
        pytest.param([(DETAILS_KEY, "text")], "UNAVAILABLE", "no bytes", id="text"),
        pytest.param([(DETAILS_KEY, None)], "UNAVAILABLE", "no bytes", id="none-value"),
        pytest.param([(DETAILS_KEY, b"\x00" * (MAX_STATUS_BYTES + 1))], "UNAVAILABLE", "too large", id="too-large"),
        pytest.param([("GRPC-STATUS-DETAILS-BIN", packed())], "UNAVAILABLE", None, id="upper-case-is-another-key"),
        pytest.param([(DETAILS_KEY, packed(details=[BAD_UTF8, INFO]))], "SOME_REASON", None, id="one-bad-detail"),
        pytest.param(
            [(DETAILS_KEY, packed(details=[INFO] + [any_pb2.Any()] * 100_000))],
            "SOME_REASON",
            "100001 details",
            id="100000",
        ),
        pytest.param([(DETAILS_KEY, nested(3000))], "UNAVAILABLE", None, id="3000-deep"),
        pytest.param(
            [(DETAILS_KEY, packed(details=[typed("evil.example/google.rpc.ErrorInfo")]))],
            "SOME_REASON",
            None,
            id="other-host",
        ),
        pytest.param(
            [(DETAILS_KEY, packed(details=[typed("google.rpc.ErrorInfo")]))],
            "UNAVAILABLE",
            None,
            id="type-without-a-slash",
        ),
        pytest.param(
            [(DETAILS_KEY, packed(details=[typed("h/nobody.Knows")]))], "UNAVAILABLE", None, id="unknown-type"
        ),
        pytest.param([(DETAILS_KEY, packed(details=[any_pb2.Any()]))], "UNAVAILABLE", None, id="empty-any"),
        pytest.param([(f"x-{n}", "v") for n in range(100_000)], "UNAVAILABLE", None, id="100000-trailers"),
        pytest.param(
            [(DETAILS_KEY, packed(details=[INFO, rpc.ErrorInfo(reason="SECOND")]))], "SOME_REASON", None, id="two-infos"
        ),
    ],
)
def test_the_rpcs_own_status_wins(trailers, reason, anomaly):
    """Whatever the details trailer holds, the RPC's own code and message stay, and what is odd is noted."""
    error = decode(grpc.StatusCode.UNAVAILABLE, "outer", trailing_metadata=trailers)
    assert (type(error), error.code(), error.message) == (Unavailable, grpc.StatusCode.UNAVAILABLE, "outer")
    assert error.reason == reason
    assert error.recovered is False
    assert (anomaly is None and not error.anomalies) or any(anomaly in one for one in error.anomalies)
    use(error)


def use(error: StatusError) -> None:
    """Ask all that can be asked."""
    assert str(error).isprintable()
    assert repr(error).isprintable()
    assert len(error.error_details) <= MAX_DETAILS
    for kind in (rpc.BadRequest, rpc.Help, rpc.QuotaFailure, errors_pb2.BatchReport, status_pb2.Status):
        error.find(kind)
    assert isinstance(error.category, Category)
    assert isinstance(error.severity, Severity)
    assert isinstance(error.retry_scope, RetryScope)
    assert error.retry_delay is None or 0 <= error.retry_delay <= MAX_RETRY_DELAY
    assert isinstance(error.error_id, str)
    assert isinstance(error.metadata, dict | type(error.metadata))
    assert error.status.code == error.code().value[0]
    error.replace(message="x")
    sent(error)


def test_other_details_survive_a_bad_one():
    """Details are isolated: one with bad UTF-8 stays an Any and becomes an anomaly when it is looked at."""
    trailers = [(DETAILS_KEY, packed(details=[BAD_UTF8, INFO, rpc.Help(links=[{"url": "u"}])]))]
    error = decode(grpc.StatusCode.UNAVAILABLE, "outer", trailing_metadata=trailers)
    assert error.find(rpc.BadRequest) is None
    assert error.find(rpc.Help).links[0].url == "u"
    assert error.error_details[0] == BAD_UTF8
    assert error.anomalies == ("a google.rpc.BadRequest detail cannot be decoded",)


@pytest.mark.parametrize(
    ("duration", "delay"),
    [
        pytest.param({"seconds": 10**18}, MAX_RETRY_DELAY, id="huge"),
        pytest.param({"seconds": -5}, 0.0, id="negative"),
        pytest.param({"nanos": 2**31 - 1}, 2.147483647, id="nanos-out-of-range"),
        pytest.param({"seconds": -(2**63), "nanos": -(2**31)}, 0.0, id="hugely-negative"),
    ],
)
def test_absurd_durations(duration, delay):
    """An absurd delay becomes one that can be waited for, and sent on."""
    for details in (
        [rpc.RetryInfo(retry_delay=duration)],
        [errors_pb2.ErrorReport(retry={"delay": duration})],
        [rpc.RetryInfo(), errors_pb2.ErrorReport(retry={"delay": duration})],
    ):
        trailers = [(DETAILS_KEY, packed(details=details))]
        error = decode(grpc.StatusCode.UNAVAILABLE, "outer", trailing_metadata=trailers)
        assert error.retry_delay == delay
        use(error)


def test_numbers_of_a_newer_peer():
    """A category, severity or scope that this release does not know leaves what the code means."""
    report = errors_pb2.ErrorReport()
    report.MergeFromString(b"\x10\x63\x18\x63\x22\x02\x08\x63")
    assert (report.category, report.severity, report.retry.scope) == (99, 99, 99)
    error = decode(grpc.StatusCode.NOT_FOUND, "outer", trailing_metadata=[(DETAILS_KEY, packed(5, details=[report]))])
    assert (error.category, error.severity) == (Category.NOT_FOUND, Severity.INFO)
    assert (error.retry_scope, error.declared_retry_scope) == (RetryScope.NEVER, None)
    assert error.report == report
    use(error)


class Odd:
    def __init__(self, fault):
        self.fault = fault

    def __iter__(self):
        raise self.fault

    def __bool__(self):
        raise self.fault


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param(None, id="none"),
        pytest.param((), id="empty"),
        pytest.param(5, id="number"),
        pytest.param("text", id="text"),
        pytest.param(["a", 5, None], id="no-pairs"),
        pytest.param([{}], id="dicts"),
        pytest.param({"a": "b"}, id="dict"),
        pytest.param([()], id="empty-pairs"),
        pytest.param(Odd(KeyError("x")), id="raises-key-error"),
        pytest.param(Odd(RuntimeError("x")), id="raises-runtime-error"),
        pytest.param(object(), id="object"),
    ],
)
def test_anything_in_the_place_of_metadata(metadata):
    """Whatever stands in the place of trailing metadata, there is an error, and it keeps that."""
    error = decode(grpc.StatusCode.NOT_FOUND, "outer", trailing_metadata=metadata, initial_metadata=metadata)
    assert (type(error), error.message, error.origin) == (NotFound, "outer", Origin.UNKNOWN)
    assert error.trailing_metadata() is metadata
    assert error.initial_metadata() is metadata


@pytest.mark.parametrize(
    "make", [tuple, list, lambda pairs: grpc.aio.Metadata(*pairs)], ids=["tuple", "list", "aio-metadata"]
)
def test_metadata_of_each_world(make):
    """Trailers are read from what either world returns, and given back as they came."""
    metadata = make([("x", "y"), (DETAILS_KEY, packed(5, details=[INFO]))])
    error = decode(grpc.StatusCode.NOT_FOUND, "outer", trailing_metadata=metadata)
    assert error.reason == "SOME_REASON"
    assert error.trailing_metadata() is metadata


@pytest.mark.parametrize(
    "code", [None, grpc.StatusCode.OK, 5, "NOT_FOUND", pytest.param(object(), id="object")], ids=repr
)
def test_what_is_no_code_is_unknown(code):
    """An error was asked for: what has no error's code is UNKNOWN."""
    error = decode(code, "x", trailing_metadata=[(DETAILS_KEY, packed(14, "x", details=[INFO]))])
    assert type(error) is Unknown
    assert (error.message, error.reason) == ("x", "SOME_REASON")


@pytest.mark.parametrize("message", [None, b"bytes", 5, object()], ids=["none", "bytes", "number", "object"])
@pytest.mark.parametrize("code", [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.RESOURCE_EXHAUSTED], ids=lambda c: c.name)
def test_what_is_no_message_is_none(code, message):
    """A message that is no text is none."""
    trailers = [(DETAILS_KEY, packed(details=[INFO]))]
    assert decode(code, message, trailing_metadata=trailers).message == ""


@pytest.mark.parametrize(
    ("details", "origin"),
    [
        pytest.param([], Origin.UNKNOWN, id="none"),
        pytest.param([rpc.Help()], Origin.REMOTE, id="standard"),
        pytest.param([errors_pb2.ErrorReport()], Origin.REMOTE, id="stamp"),
        pytest.param([any_pb2.Any(type_url="h/x.Y")], Origin.REMOTE, id="unknown-type"),
    ],
)
def test_origin(details, origin):
    """An error with details was said by its server; without, nobody knows who said it."""
    trailers = [(DETAILS_KEY, packed(details=details))]
    assert decode(grpc.StatusCode.UNAVAILABLE, "outer", trailing_metadata=trailers).origin is origin


@pytest.mark.parametrize(
    ("details", "error_id"),
    [
        pytest.param([errors_pb2.ErrorReport(error_id="ab")], "ab", id="report"),
        pytest.param([rpc.RequestInfo(request_id="cd")], "cd", id="request-info"),
        pytest.param([rpc.RequestInfo(request_id="cd"), errors_pb2.ErrorReport(error_id="ab")], "ab", id="both"),
        pytest.param([rpc.Help()], "", id="none"),
        pytest.param([rpc.RequestInfo(request_id="x" * 100_000)], "x" * 128, id="endless"),
    ],
)
def test_the_id_of_a_received_error(details, error_id):
    """The error id is the report's, or a RequestInfo's, and bounded."""
    trailers = [(DETAILS_KEY, packed(details=details))]
    assert decode(grpc.StatusCode.UNAVAILABLE, "outer", trailing_metadata=trailers).error_id == error_id


# An oversize status that the core replaced.


@pytest.mark.parametrize(
    ("code", "message", "inner", "recovered"),
    [
        pytest.param("RESOURCE_EXHAUSTED", OVERSIZE, 5, True, id="replaced"),
        pytest.param("RESOURCE_EXHAUSTED", OVERSIZE, 8, True, id="replaced-by-its-own-code"),
        pytest.param("RESOURCE_EXHAUSTED", "quota", 5, False, id="other-message"),
        pytest.param("UNAVAILABLE", OVERSIZE, 5, False, id="other-code"),
        pytest.param("RESOURCE_EXHAUSTED", OVERSIZE, 0, False, id="ok-inside"),
        pytest.param("RESOURCE_EXHAUSTED", OVERSIZE, 17, False, id="no-code-inside"),
        pytest.param("RESOURCE_EXHAUSTED", OVERSIZE, -3, False, id="negative-inside"),
    ],
)
def test_an_oversize_status_is_restored(code, message, inner, recovered):
    """What the core replaced as too large is restored from the trailer that it left, and marked."""
    trailers = [(DETAILS_KEY, packed(inner, "It is missing.", details=[INFO]))]
    error = decode(grpc.StatusCode[code], message, trailing_metadata=trailers)
    assert error.recovered is recovered
    if recovered:
        assert error.code().value[0] == inner
        assert (error.message, error.anomalies) == ("It is missing.", ())
    else:
        assert (error.code().name, error.message) == (code, message)
    use(error)


def test_an_oversize_status_without_a_trailer_stays():
    """Where the core has dropped the trailer too, its own word is all there is."""
    error = decode(grpc.StatusCode.RESOURCE_EXHAUSTED, OVERSIZE)
    assert (type(error), error.message, error.recovered) == (ResourceExhausted, OVERSIZE, False)


# Fuzz.

ANYS = st.builds(
    any_pb2.Any,
    type_url=st.sampled_from(
        [
            f"type.googleapis.com/google.rpc.{name}"
            for name in ["ErrorInfo", "RetryInfo", "BadRequest", "Help", "RequestInfo", "Status"]
        ]
        + ["type.googleapis.com/faultwire.v1.ErrorReport", "h/google.protobuf.Any", "h/", "x"]
    )
    | st.text(max_size=10),
    value=st.binary(max_size=40),
)
STATUSES = st.builds(
    status_pb2.Status,
    code=st.integers(-(2**31), 2**31 - 1),
    message=st.text(max_size=20),
    details=st.lists(ANYS, max_size=6),
)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(CODES),
    st.text(max_size=20) | st.just(OVERSIZE),
    st.binary(max_size=200) | STATUSES.map(lambda status: status.SerializeToString()),
)
def test_any_bytes_can_be_decoded(code, message, value):
    """Whatever bytes arrive, decoding does not raise, and the RPC's code stays unless its status was restored."""
    error = decode(code, message, trailing_metadata=[(DETAILS_KEY, value)])
    assert error.recovered or (error.code(), error.message) == (code, message)
    use(error)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 8))
def test_mutated_statuses_can_be_decoded(seed, faults):
    """A good status with a few bytes flipped, dropped or doubled does not raise either."""
    reply = sent(
        Unavailable(
            "outer",
            reason="SOME_REASON",
            error_details=[rpc.BadRequest(field_violations=[{"field": "a"}]), rpc.Help(links=[{"url": "u"}])],
            retry_delay=1.5,
            causes=[NotFound("cause")],
        )
    )
    value = bytearray(trailers_of(reply)[0])
    rng = random.Random(seed)
    for _ in range(faults):
        at = rng.randrange(len(value))
        match rng.randrange(3):
            case 0:
                value[at] ^= 1 << rng.randrange(8)
            case 1:
                del value[at]
            case _:
                value[at:at] = value[at : at + rng.randrange(20)]
    error = decode(reply.code, reply.message, trailing_metadata=[(DETAILS_KEY, bytes(value))])
    assert (error.code(), error.message) == (reply.code, reply.message)
    use(error)


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(st.none() | st.integers() | st.text() | st.binary(), lambda one: st.lists(one) | st.tuples(one, one))
)
def test_any_metadata_can_be_decoded(metadata):
    """Whatever metadata is, there is an error."""
    assert decode(grpc.StatusCode.NOT_FOUND, "x", trailing_metadata=metadata).code() is grpc.StatusCode.NOT_FOUND


# Errors of channels that nobody wrapped.


def test_a_status_error_is_returned_as_it_is():
    """What is typed already is not decoded again."""
    error = NotFound()
    assert from_rpc_error(error) is error


def test_an_aio_error():
    """An error of grpc.aio is decoded, with its metadata and debug string, and is the cause."""
    metadata = grpc.aio.Metadata((DETAILS_KEY, packed(5, details=[INFO])))
    original = grpc.aio.AioRpcError(
        grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(("a", "b")), metadata, details="outer", debug_error_string="dbg"
    )
    error = from_rpc_error(original)
    assert (type(error), error.message, error.reason) == (NotFound, "outer", "SOME_REASON")
    assert error.__cause__ is original
    assert error.trailing_metadata() is metadata
    assert error.initial_metadata() == grpc.aio.Metadata(("a", "b"))
    assert error.debug_error_string() == "dbg"
    assert pickle.loads(pickle.dumps(error)).reason == "SOME_REASON"


def test_an_inactive_sync_error():
    """An error of a blocking call is decoded the same way."""
    state = _RPCState((), (), ((DETAILS_KEY, packed(5, details=[INFO])),), grpc.StatusCode.NOT_FOUND, b"outer")
    state.debug_error_string = "dbg"
    error = from_rpc_error(_InactiveRpcError(state))
    assert (type(error), error.message, error.reason, error.debug_error_string()) == (
        NotFound,
        "outer",
        "SOME_REASON",
        "dbg",
    )


class Raising(grpc.RpcError):
    def code(self):
        raise RuntimeError(CANARY)

    details = initial_metadata = trailing_metadata = debug_error_string = code


class Waits(grpc.RpcError):
    async def code(self):
        await asyncio.sleep(0)
        return grpc.StatusCode.NOT_FOUND

    details = initial_metadata = trailing_metadata = debug_error_string = code


class Coroutines(grpc.RpcError):
    async def code(self):
        return grpc.StatusCode.NOT_FOUND

    async def details(self):
        return "gone"


@pytest.mark.parametrize(
    "original",
    [
        pytest.param(grpc.RpcError(), id="bare"),
        pytest.param(grpc.RpcError("text"), id="bare-with-text"),
        pytest.param(Raising(), id="every-method-raises"),
        pytest.param(Waits(), id="coroutines-that-wait"),
        pytest.param(object(), id="object"),
        pytest.param(None, id="none"),
        pytest.param(ValueError("x"), id="exception"),
    ],
)
def test_what_has_no_status_is_unknown(original):
    """Anything at all gives an error; what says nothing gives UNKNOWN."""
    error = from_rpc_error(original)
    assert (type(error), error.message, error.origin) == (Unknown, "", Origin.UNKNOWN)
    assert error.__cause__ is (original if isinstance(original, BaseException) else None)


def test_coroutines_that_need_not_wait_are_asked():
    """What answers in coroutines is decoded, if they have nothing to wait for."""
    error = from_rpc_error(Coroutines())
    assert (type(error), error.message) == (NotFound, "gone")


@pytest.fixture(scope="module")
def channel():
    """A plain server that ends each RPC as its method's name says, and a plain channel to it."""
    release = threading.Event()

    def end(method):
        def behave(request, context):
            if method == "Hang":
                release.wait(10)
            yield b"1"
            context.set_trailing_metadata(((DETAILS_KEY, packed(5, "It is missing.", details=[INFO])),))
            context.abort(grpc.StatusCode.NOT_FOUND, "It is missing.")

        return behave

    class Handler(grpc.GenericRpcHandler):
        def service(self, details):
            return grpc.unary_stream_rpc_method_handler(end(details.method.rpartition("/")[2]))

    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as plain:
        yield plain
    release.set()
    server.stop(None).wait()


def test_a_finished_rendezvous(channel):
    """The error that a stream raises, which is its call too, is decoded."""
    call = channel.unary_stream("/x/End")(b"")
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    for original in (caught.value, call):
        error = from_rpc_error(original)
        assert (type(error), error.reason, error.anomalies) == (NotFound, "SOME_REASON", ())
        assert pickle.loads(pickle.dumps(error)).trailing_metadata() == tuple(map(tuple, original.trailing_metadata()))


def test_a_call_cancelled_here(channel):
    """A stream that its caller cancelled is decoded at once, though its debug string never comes."""
    call = channel.unary_stream("/x/Hang")(b"")
    call.cancel()
    error = from_rpc_error(call)
    assert (error.code(), error.origin, error.debug_error_string()) == (
        grpc.StatusCode.CANCELLED,
        Origin.UNKNOWN,
        None,
    )


def test_codes_are_googles():
    """Every status code has google.rpc's number."""
    assert {code.name: code.value[0] for code in grpc.StatusCode} == dict(code_pb2.Code.items())


def test_values_of_wrappers_travel():
    """Details of any known type travel, not only google.rpc's."""
    struct = struct_pb2.Struct()
    struct.update({"isbn": "1"})
    got = arrived(sent(NotFound(error_details=[struct, wrappers_pb2.Int64Value(value=5)])))
    assert got.find(struct_pb2.Struct) == struct
    assert got.find(wrappers_pb2.Int64Value).value == 5


def test_a_page_about_the_reason_travels_as_help() -> None:
    """The catalogue's docs URL becomes a google.rpc.Help, unless the error brings its own."""
    error = bookshop.BookNotFound(isbn="1")
    settings_ = {"service": "s.S", "method": "M", "redactor": Redactor(), "now": 0.0}
    reply = encode(error, **settings_)
    found = decode(reply.code, reply.message, trailing_metadata=reply.trailers).find(rpc.Help)
    assert [link.url for link in found.links] == ["https://bookshop.example.com/errors#BOOK_NOT_FOUND"]
    own = bookshop.BookNotFound(isbn="1", error_details=[rpc.Help(links=[{"url": "https://example.com/own"}])])
    reply = encode(own, **settings_)
    found = decode(reply.code, reply.message, trailing_metadata=reply.trailers).find(rpc.Help)
    assert [link.url for link in found.links] == ["https://example.com/own"]

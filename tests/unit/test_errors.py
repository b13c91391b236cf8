"""The errors themselves: what they say, how they print, copy and compare with grpc's own."""

import copy
import itertools
import pickle

import grpc
import grpc.aio
import pytest
from google.protobuf import any_pb2, struct_pb2
from google.rpc import error_details_pb2 as rpc
from grpc._channel import _InactiveRpcError, _RPCState
from hypothesis import given
from hypothesis import strategies as st

from bookshop.v1 import bookshop_pb2
from faultwire.v1 import errors_pb2
from grpc_faultwire import status_error
from grpc_faultwire.catalogue import Catalogue
from grpc_faultwire.category import Category, Fault, RetryScope, Severity, meaning
from grpc_faultwire.declaration import Declaration, MetadataKey
from grpc_faultwire.details import pack
from grpc_faultwire.errors import (
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
from grpc_faultwire.status import DETAILS_KEY, decode

bookshop = Catalogue.of(bookshop_pb2.BookshopError)
CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
_serial = itertools.count()


class ShelfError(NotFound):
    """A subclass with a constructor and an attribute of its own."""

    def __init__(self, shelf: int) -> None:
        super().__init__(f"No shelf {shelf}.", reason="SHELF_NOT_FOUND")
        self.shelf = shelf


def domain() -> str:
    return f"d{next(_serial)}.example.com"


def declared(base=NotFound, **changes):
    declaration = Declaration(**{"reason": "SOME_REASON", "domain": domain(), "code": base.status_code.name} | changes)
    return type("Declared", (base,), {"declaration": declaration})


def received(world: str = "sync") -> StatusError:
    status = NotFound("It is missing.", reason="BOOK_NOT_FOUND", metadata={"isbn": "9780441172719"}).status
    report = errors_pb2.ErrorReport(error_id="0f" * 16, category=4, severity=2)
    status.details.add().CopyFrom(pack(report))
    status.details.add().CopyFrom(pack(rpc.BadRequest(field_violations=[{"field": "isbn"}])))
    trailers = ((DETAILS_KEY, status.SerializeToString()), ("x-user", "1"))
    if world == "aio":
        return decode(
            grpc.StatusCode.NOT_FOUND,
            "It is missing.",
            initial_metadata=grpc.aio.Metadata(("a", "b")),
            trailing_metadata=grpc.aio.Metadata(*trailers),
        )
    from grpc._cython.cygrpc import _Metadatum

    return decode(
        grpc.StatusCode.NOT_FOUND,
        "It is missing.",
        initial_metadata=(_Metadatum("a", "b"),),
        trailing_metadata=tuple(_Metadatum(*pair) for pair in trailers),
    )


# What an error says.


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_a_class_per_code(code):
    """Each code has a class of its name, whose defaults are what the code means."""
    cls = error_class(code)
    assert cls.__name__.lower() == code.name.replace("_", "").lower()
    error = cls()
    assert (error.code(), error.reason, error.message, error.details()) == (code, code.name, "", "")
    meant = meaning(code.value[0])
    assert (error.category, error.retry_scope) == meant
    assert (error.fault, error.severity) == (meant.category.fault, meant.category.severity)
    assert (error.domain, dict(error.metadata), error.retry_delay, error.declared_retry_scope) == (None, {}, None, None)
    assert (error.origin, error.attempts, error.anomalies, error.recovered) == (Origin.RAISED, (), (), False)
    assert (error.report, error.batch) == (None, None)


def test_what_else_an_error_is_made_of_has_its_turn():
    """The constructor of a user's own exception, beside ours in a class, is run; nothing is left in ``args``."""

    class ShopError(Exception):
        def __init__(self) -> None:
            super().__init__()
            self.shop = 1

    class Missing(NotFound, ShopError):
        pass

    error = Missing("It is missing.", reason="GONE")
    assert (error.shop, error.args, error.details(), error.reason) == (1, (), "It is missing.", "GONE")


@pytest.mark.parametrize("base", [grpc.RpcError, grpc.aio.AioRpcError, grpc.Call, grpc.Future, StatusError])
def test_it_is_what_grpc_raises(base):
    """Whoever catches grpc's own errors, or asks for a Call, catches these too."""
    assert isinstance(NotFound(), base)
    if issubclass(base, BaseException):
        with pytest.raises(base):
            raise NotFound


def test_what_is_said_beats_the_declaration_and_the_code():
    """The raised error speaks first, then its class's declaration, then its code."""
    cls = declared(
        category=Category.QUOTA,
        severity=Severity.CRITICAL,
        retry_scope=RetryScope.OPERATION,
        retry_delay=3.0,
        message="Declared.",
    )
    by_class = cls()
    assert (by_class.category, by_class.severity, by_class.fault) == (Category.QUOTA, Severity.CRITICAL, Fault.CLIENT)
    assert (by_class.retry_scope, by_class.retry_delay, by_class.message) == (RetryScope.OPERATION, 3.0, "Declared.")
    by_hand = cls(
        "By hand.",
        reason="OTHER",
        domain="other.example.com",
        category=Category.OVERLOAD,
        severity=Severity.DEBUG,
        retry_scope=RetryScope.NEVER,
        retry_delay=0.0,
    )
    assert (by_hand.category, by_hand.severity, by_hand.fault) == (Category.OVERLOAD, Severity.DEBUG, Fault.SERVER)
    assert (by_hand.retry_scope, by_hand.retry_delay, by_hand.message) == (RetryScope.NEVER, 0.0, "By hand.")
    assert (by_hand.reason, by_hand.domain) == ("OTHER", "other.example.com")


def test_error_info_and_retry_info_may_be_given_as_details():
    """An ErrorInfo or RetryInfo among the details says what the arguments of the same meaning would."""
    info = rpc.ErrorInfo(reason="SOME_REASON", domain="a.example.com", metadata={"key": "1"})
    retry = rpc.RetryInfo(retry_delay={"seconds": 2, "nanos": 500_000_000})
    error = NotFound(error_details=[pack(info), retry])
    assert (error.reason, error.domain, error.metadata) == ("SOME_REASON", "a.example.com", {"key": "1"})
    assert error.retry_delay == 2.5
    assert error.error_details == (info, retry)
    assert NotFound(reason="MINE", error_details=[info]).reason == "MINE"


def test_an_error_info_without_a_reason_says_nothing_of_it():
    """An ErrorInfo that has no reason leaves the code's name."""
    assert NotFound(error_details=[rpc.ErrorInfo(domain="a.example.com")]).reason == "NOT_FOUND"


def test_details_are_found_by_type():
    """find() gives the first detail of a type, error_details all of them, and an unknown type stays an Any."""
    unknown = any_pb2.Any(type_url="type.googleapis.com/nobody.Knows", value=b"\x01")
    help_, batch = rpc.Help(links=[{"url": "https://example.com"}]), errors_pb2.BatchReport(total=3)
    error = NotFound(error_details=[help_, unknown, batch])
    assert error.find(rpc.Help) == help_
    assert error.find(rpc.BadRequest) is None
    assert error.batch == batch
    assert error.error_details == (rpc.ErrorInfo(reason="NOT_FOUND"), help_, unknown, batch)
    assert error.status.code == 5
    assert [detail.type_url for detail in error.status.details][2] == unknown.type_url


def test_metadata_cannot_be_changed_from_outside():
    """What metadata gives is a view, and its values are texts."""
    error = NotFound(metadata={"count": 3})
    assert error.metadata == {"count": "3"}
    with pytest.raises(TypeError):
        error.metadata["count"] = "4"


def test_unpaired_surrogates_are_replaced():
    """What UTF-8 cannot carry is replaced when the error is made, as grpc could not send it."""
    error = NotFound("a\ud800b", metadata={"key": "\udfff"})
    assert (error.message, error.metadata["key"]) == ("a\ufffdb", "\ufffd")
    assert error.status.message == "a\ufffdb"


@pytest.mark.parametrize(
    ("arguments", "kind", "sentence"),
    [
        pytest.param({"reason": "lower_case"}, ValueError, r"reason 'lower_case' does not match", id="reason"),
        pytest.param({"reason": ""}, ValueError, r"reason '' does not match", id="empty-reason"),
        pytest.param({"reason": "A" * 64}, ValueError, r"reason 'A{64}'", id="long-reason"),
        pytest.param({"reason": "SOME_REASON\n"}, ValueError, r"reason 'SOME_REASON\\n'", id="newline-in-reason"),
        pytest.param({"reason": 5}, ValueError, r"reason 5 does not match", id="reason-no-text"),
        pytest.param({"domain": "a\nb"}, ValueError, r"domain 'a\\nb' is not a printable name", id="domain"),
        pytest.param({"domain": "a" * 254}, ValueError, r"of 1 to 253 characters", id="long-domain"),
        pytest.param({"metadata": {"Key": 1}}, ValueError, r"metadata key 'Key' does not match", id="key"),
        pytest.param({"metadata": {5: 1}}, ValueError, r"metadata key 5 does not match", id="key-no-text"),
        pytest.param({"metadata": {"k" * 65: 1}}, ValueError, r"metadata key 'k{65}'", id="long-key"),
        pytest.param({"retry_delay": -1}, ValueError, r"retry_delay -1 is not between 0", id="negative-delay"),
        pytest.param({"retry_delay": float("nan")}, ValueError, r"retry_delay nan is not", id="nan-delay"),
        pytest.param({"retry_delay": 1e12}, ValueError, r"retry_delay 1000000000000.0 is not", id="long-delay"),
        pytest.param({"retry_delay": "1"}, ValueError, r"retry_delay '1' is not", id="delay-no-number"),
        pytest.param(
            {"error_details": [rpc.Help(), rpc.Help()]}, ValueError, r"more than once .*google.rpc.Help", id="twice"
        ),
        pytest.param(
            {"error_details": [rpc.Help(), any_pb2.Any(type_url="other.example/google.rpc.Help")]},
            ValueError,
            r"more than once .*google.rpc.Help",
            id="twice-under-another-host",
        ),
        pytest.param({"error_details": ["text"]}, TypeError, r"error detail 'text' is no protobuf", id="no-message"),
        pytest.param({"message": 5}, TypeError, r"message is 5, which is no text", id="message-no-text"),
    ],
)
def test_wrong_arguments(arguments, kind, sentence):
    """A wrong argument is refused with a sentence that names the value."""
    with pytest.raises(kind, match=sentence):
        NotFound(**arguments)


def test_the_base_class_cannot_be_raised():
    """StatusError has no code, so raising it is refused with advice."""
    with pytest.raises(TypeError, match=r"StatusError has no status code: raise a subclass, such as NotFound"):
        StatusError("x")


# Its id.


def test_the_error_id_is_made_once_and_differs():
    """An error id is 128 random bits, made when first asked for, and stays."""
    error, other = NotFound(), NotFound()
    assert error.error_id == error.error_id
    assert len(bytes.fromhex(error.error_id)) == 16
    assert error.error_id != other.error_id


@pytest.mark.parametrize(
    ("origin", "made"),
    [(Origin.RAISED, True), (Origin.LOCAL, True), (Origin.REMOTE, False), (Origin.UNKNOWN, False)],
    ids=lambda value: getattr(value, "value", None),
)
def test_only_errors_of_this_process_get_an_id(origin, made):
    """What another process said has the id that it was given there, or none."""
    error = NotFound()
    error.origin = origin
    assert bool(error.error_id) is made


def test_an_unavailable_of_unknown_origin_is_transport():
    """UNAVAILABLE without details is most often said by the transport, not by a server."""
    error = Unavailable()
    error.origin = Origin.UNKNOWN
    assert error.category is Category.TRANSPORT


# Causes.


def test_causes_begin_with_the_python_cause():
    """``raise … from`` stands first and is not named twice; causes that are no StatusError are left out."""
    first, second = NotFound("1"), NotFound("2")
    error = Internal(causes=[second, first])
    error.__cause__ = first
    assert error.causes == (first, second)
    other = Internal()
    other.__cause__ = ValueError()
    assert other.causes == ()


# Printing.


@pytest.mark.parametrize(
    ("error", "text"),
    [
        pytest.param(NotFound(), "StatusCode.NOT_FOUND", id="bare"),
        pytest.param(NotFound("It is missing."), "StatusCode.NOT_FOUND: It is missing.", id="message"),
        pytest.param(NotFound("It.", reason="BOOK"), "StatusCode.NOT_FOUND: It. [BOOK]", id="reason"),
        pytest.param(NotFound(reason="BOOK", domain="a.b"), "StatusCode.NOT_FOUND [a.b/BOOK]", id="domain"),
        pytest.param(NotFound(domain="a.b"), "StatusCode.NOT_FOUND", id="domain-alone-says-little"),
        pytest.param(NotFound("a\r\nb\x00\x1b[31m\u202e\u2066\u200b\x85\u2028"), None, id="control-and-bidi"),
    ],
)
def test_str(error, text):
    """str() is one escaped line."""
    expected = text or r"StatusCode.NOT_FOUND: a\r\nb\x00\x1b[31m\u202e\u2066\u200b\x85\u2028"
    assert str(error) == expected
    assert repr(error) == f"<NotFound {expected}>"


def test_str_names_the_id_once_it_is_made():
    """The error id stands at the end, so that a log line of it is found."""
    error = NotFound("It.")
    assert str(error) == "StatusCode.NOT_FOUND: It."
    made = error.error_id
    assert str(error) == f"StatusCode.NOT_FOUND: It. (error id {made})"


@given(st.text(alphabet=st.characters(), max_size=50), st.text(alphabet=st.characters(), max_size=50))
def test_str_is_printable_whatever_a_peer_sends(message, reason):
    """No message or reason breaks the line or its log."""
    error = NotFound._received(message, status_error.Details(()), {"_reason": reason, "_domain": reason})
    assert str(error).isprintable()
    assert repr(error).isprintable()


# Copies.


COMPARED = [
    "message",
    "reason",
    "domain",
    "metadata",
    "category",
    "severity",
    "fault",
    "retry_scope",
    "declared_retry_scope",
    "retry_delay",
    "error_id",
    "status",
    "error_details",
    "report",
    "batch",
    "origin",
    "recovered",
    "anomalies",
]


def _same(one: StatusError, other: StatusError) -> None:
    assert type(one) is type(other)
    for name in COMPARED:
        assert getattr(one, name) == getattr(other, name), name
    assert one.code() is other.code()
    assert [cause.error_id for cause in one.causes] == [cause.error_id for cause in other.causes]
    assert one.initial_metadata() == other.initial_metadata()
    assert one.trailing_metadata() == other.trailing_metadata()
    assert str(one) == str(other)


COPIES = [
    pytest.param(lambda error: pickle.loads(pickle.dumps(error)), id="pickle"),
    pytest.param(lambda error: pickle.loads(pickle.dumps(error, protocol=2)), id="pickle-2"),
    pytest.param(copy.copy, id="copy"),
    pytest.param(copy.deepcopy, id="deepcopy"),
]


def raised() -> StatusError:
    error = ResourceExhausted(
        "Too many.",
        reason="QUOTA_EXCEEDED",
        domain="a.example.com",
        metadata={"limit": 5},
        error_details=[rpc.QuotaFailure(), struct_pb2.Struct(fields={"a": struct_pb2.Value(number_value=1)})],
        retry_delay=1.5,
        retry_scope=RetryScope.OPERATION,
        category=Category.OVERLOAD,
        severity=Severity.CRITICAL,
        causes=[NotFound("1"), InvalidArgument("2")],
    )
    error.__cause__ = Internal("3")
    return error


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize(
    "make",
    [
        *(pytest.param(error_class(code), id=code.name) for code in CODES),
        pytest.param(raised, id="everything"),
        pytest.param(lambda: bookshop.BookNotFound(isbn="9780441172719"), id="catalogue"),
        pytest.param(lambda: ShelfError(5), id="own-constructor"),
        pytest.param(received, id="decoded-sync"),
        pytest.param(lambda: received("aio"), id="decoded-aio"),
    ],
)
def test_copies_are_the_same_error(make, copied):
    """A copied or pickled error says all that the original does, under the same id."""
    error = make()
    error.error_details  # noqa: B018  # what is decoded by then must not stand in the way
    duplicate = copied(error)
    _same(duplicate, error)
    assert duplicate is not error


def test_a_copy_keeps_what_a_subclass_added():
    """Attributes of a subclass of one's own are copied; its constructor is not asked."""
    assert pickle.loads(pickle.dumps(ShelfError(5))).shelf == 5


def test_a_cycle_of_causes_can_be_pickled():
    """Two errors that name each other as cause are copied as that."""
    one, two = NotFound("1"), NotFound("2")
    one.__cause__, two.__cause__ = two, one
    duplicate = pickle.loads(pickle.dumps(one))
    assert duplicate.causes[0].causes[0] is duplicate


def test_garbage_in_the_place_of_metadata_can_be_pickled():
    """A tuple that holds no pairs does not stand in the way of a copy."""
    error = decode(grpc.StatusCode.NOT_FOUND, "x", trailing_metadata=("a", 5, None))
    assert pickle.loads(pickle.dumps(error)).trailing_metadata() == ("a", 5, None)


# replace().


def test_replace_changes_only_what_is_named():
    """replace() gives a copy with other arguments, and the same id, cause and origin."""
    error = raised()
    other = error.replace(message="Other.", metadata={"limit": 6}, retry_delay=2)
    assert (other.message, other.metadata, other.retry_delay) == ("Other.", {"limit": "6"}, 2)
    assert (other.error_id, other.causes, other.reason) == (error.error_id, error.causes, error.reason)
    assert (other.category, other.severity, other.retry_scope) == (error.category, error.severity, error.retry_scope)
    assert other.find(rpc.QuotaFailure) is not None
    assert other.find(rpc.RetryInfo).retry_delay.seconds == 2
    assert error.message == "Too many."


@pytest.mark.parametrize("world", ["sync", "aio"])
def test_replace_keeps_what_was_received(world):
    """A received error keeps its details, metadata, trailers and origin."""
    error = received(world)
    other = error.replace(message="Other.")
    assert (other.message, other.origin, other.reason) == ("Other.", Origin.REMOTE, "BOOK_NOT_FOUND")
    assert other.metadata == {"isbn": "9780441172719"}
    assert other.find(rpc.BadRequest) == error.find(rpc.BadRequest)
    assert other.report == error.report
    assert other.trailing_metadata() == error.trailing_metadata()
    assert [type(one) for one in other.error_details].count(rpc.ErrorInfo) == 1


def test_replace_does_not_check_what_a_peer_said():
    """What was received may break the rules for what is raised; only what is changed is checked."""
    error = NotFound._received("x", status_error.Details(()), {"_reason": "lower", "_metadata": {"BAD KEY": "1"}})
    assert error.replace(message="y").reason == "lower"
    with pytest.raises(ValueError, match="reason 'lower'"):
        error.replace(reason="lower")


def test_replaced_details_take_the_place_of_all():
    """New details replace the old ones, and their ErrorInfo and RetryInfo are heard."""
    info = rpc.ErrorInfo(reason="OTHER", domain="b.example.com", metadata={"key": "1"})
    other = raised().replace(error_details=[info, rpc.RetryInfo(retry_delay={"seconds": 9})])
    assert (other.reason, other.domain, other.metadata, other.retry_delay) == (
        "OTHER",
        "b.example.com",
        {"key": "1"},
        9.0,
    )
    assert other.find(rpc.QuotaFailure) is None


def test_replace_keeps_the_class():
    """An error of a class with a constructor of its own is copied without asking that."""
    other = ShelfError(5).replace(message="Other.")
    assert (type(other), other.shelf, other.message) == (ShelfError, 5, "Other.")
    assert bookshop.BookNotFound(isbn="1").replace(message="x").metadata == {"isbn": "1"}


# The face of a finished call.


def test_it_answers_as_a_finished_call():
    """Interceptors that treat a raised error as a call get the answers that grpc's own error gives."""
    state = _RPCState((), (), (), grpc.StatusCode.NOT_FOUND, "x")
    grpcs, ours = _InactiveRpcError(state), NotFound("x")
    for name in ["cancel", "cancelled", "running", "done", "code", "details", "initial_metadata", "trailing_metadata"]:
        expected = getattr(grpcs, name)()
        assert getattr(ours, name)() == (None if expected == () else expected), name
    assert (ours.is_active(), ours.time_remaining()) == (False, None)
    assert ours.exception() is ours
    assert ours.exception(timeout=1) is ours
    assert ours.traceback() is None
    assert ours.add_callback(lambda: None) is False
    called = []
    ours.add_done_callback(called.append)
    assert called == [ours]
    with pytest.raises(NotFound) as caught:
        ours.result()
    assert caught.value is ours
    assert ours.traceback() is ours.__traceback__


def test_there_is_no_metadata_before_there_was_a_call():
    """A raised error has no metadata, and its debug string is empty."""
    error = NotFound()
    assert (error.initial_metadata(), error.trailing_metadata(), error.debug_error_string()) == (None, None, "")


# The registry.


def test_a_declared_class_is_found():
    """A class is registered for its domain and reason, and found if the code is its own."""
    cls = declared()
    name = cls.declaration.domain
    assert error_class(grpc.StatusCode.NOT_FOUND, name, "SOME_REASON") is cls
    assert error_class(grpc.StatusCode.INTERNAL, name, "SOME_REASON") is Internal
    assert error_class(grpc.StatusCode.NOT_FOUND, name, "OTHER") is NotFound
    assert error_class(grpc.StatusCode.NOT_FOUND, name) is NotFound
    assert error_class(grpc.StatusCode.OK) is Unknown


def test_a_class_declares_its_own_code():
    """A declaration of another code than its class's is refused."""
    with pytest.raises(TypeError, match="declares NOT_FOUND, so it must be a subclass of that code's class"):
        declared(Internal, code="NOT_FOUND")


def test_a_reason_is_declared_once():
    """Two declarations of one reason that differ are refused; the same again takes the first's place."""
    first = declared(message="One.")
    name = first.declaration.domain
    with pytest.raises(ValueError, match=f"{name}/SOME_REASON is declared twice, and not alike"):
        declared(message="Two.", domain=name)
    assert error_class(grpc.StatusCode.NOT_FOUND, name, "SOME_REASON") is first
    again = declared(message="One.", domain=name)
    assert error_class(grpc.StatusCode.NOT_FOUND, name, "SOME_REASON") is again


def test_a_subclass_of_a_declared_class_does_not_take_its_place():
    """Only a declaration of its own registers a class."""
    cls = declared()

    class Closer(cls):
        pass

    assert error_class(grpc.StatusCode.NOT_FOUND, cls.declaration.domain, "SOME_REASON") is cls
    assert Closer().reason == "SOME_REASON"


def test_a_declared_message_is_rendered():
    """The message of a declaration is filled with the metadata of that error."""
    cls = declared(message="No {thing}.", metadata=(MetadataKey(key="thing"),))
    assert cls(metadata={"thing": "book"}).message == "No book."
    assert cls("By hand.", metadata={"thing": "book"}).message == "By hand."

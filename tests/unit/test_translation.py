"""From exceptions to errors: dispatch, masking, groups, and what is never forwarded."""

import gc
import weakref
from types import SimpleNamespace

import grpc
import pytest
from google.rpc import error_details_pb2 as rpc
from hypothesis import given, settings
from hypothesis import strategies as st

from bookshop.v1 import bookshop_pb2
from grpc_faultwire import stack
from grpc_faultwire.catalogue import Catalogue
from grpc_faultwire.category import Category, RetryScope, Severity
from grpc_faultwire.declaration import Declaration, MetadataKey
from grpc_faultwire.errors import (
    Aborted,
    AlreadyExists,
    Cancelled,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    Origin,
    StatusError,
    Unavailable,
    error_class,
)
from grpc_faultwire.redaction import Redactor
from grpc_faultwire.status import DETAILS_KEY, decode, encode
from grpc_faultwire.translation import DEPENDENCY_FAILED, MASKED, MAX_GROUP, SEVERAL, Translator

CANARY = "canary-7f3a"
HERE = __name__
CALL = SimpleNamespace(context=None, exception=None, service="s.S", method="M", expired=False, cancelled=False)
bookshop = Catalogue.of(bookshop_pb2.BookshopError)


class BaseError(Exception):
    pass


class LeftError(BaseError):
    pass


class RightError(BaseError):
    pass


class BothError(LeftError, RightError):
    pass


class LoudError(Exception):
    """Says its canary wherever an exception can."""

    def __init__(self) -> None:
        super().__init__(CANARY)
        self.attribute = CANARY
        self.add_note(CANARY)

    __str__ = __repr__ = lambda self: CANARY


def call(**changes):
    return SimpleNamespace(**(vars(CALL) | changes))


def translated(translator, exception, **changes):
    return translator.translate(exception, call(**changes))


def leaving(translation) -> bytes:
    """Return all bytes that would leave for an error."""
    reply = encode(
        translation.error, service="s.S", method="M", redactor=Redactor(metadata_keys=["isbn"]), now=1.0, stack=()
    )
    return repr(reply).encode() + b"".join(value for key, value in reply.trailers if key == DETAILS_KEY)


def by(name: str, cls=Aborted):
    return lambda _raised, _call: cls(name)


# Unmapped.


@pytest.mark.parametrize(
    "exception",
    [
        pytest.param(ValueError(CANARY), id="exception"),
        pytest.param(LoudError(), id="loud"),
        pytest.param(SystemExit(CANARY), id="system-exit"),
        pytest.param(KeyboardInterrupt(CANARY), id="keyboard-interrupt"),
        pytest.param(GeneratorExit(CANARY), id="generator-exit"),
        pytest.param(ExceptionGroup(CANARY, [LoudError()]), id="group-of-one"),
        pytest.param(BaseExceptionGroup(CANARY, [SystemExit(CANARY), LoudError()]), id="base-group"),
        pytest.param(type(CANARY, (Exception,), {})(CANARY), id="type"),
    ],
)
def test_what_nobody_mapped_is_masked(exception):
    """An exception that nobody mapped becomes a constant INTERNAL; the rest is for the server's log alone."""
    translation = translated(Translator(), exception)
    assert type(translation.error) is Internal
    assert translation.error.message in (MASKED, SEVERAL)
    assert translation.exception is exception
    assert len(translation.error.error_id) == 32
    assert CANARY.encode() not in leaving(translation)


def test_a_masked_error_is_new_each_time():
    """Two failures have two ids."""
    translator = Translator()
    one, two = translated(translator, KeyError()), translated(translator, KeyError())
    assert one.error.error_id != two.error.error_id


@pytest.mark.parametrize(
    ("exception", "left"),
    [
        pytest.param(ValueError(), True, id="exception"),
        pytest.param(ExceptionGroup("", [NotFound(), ValueError()]), True, id="group-with-one-unmapped"),
        pytest.param(SystemExit(), False, id="system-exit-never"),
        pytest.param(NotFound(), False, id="error"),
        pytest.param(ExceptionGroup("", [NotFound(), NotFound()]), False, id="group-of-errors"),
    ],
)
def test_pass_through(exception, left):
    """Where one asked for it, what nobody mapped is left to grpc; what would end a server never is."""
    translation = translated(Translator(on_unmapped="pass_through"), exception)
    assert (translation.error is None) is left
    assert translation.exception is (exception if left or isinstance(exception, SystemExit) else None)


def test_a_handler_that_fails_in_a_circle():
    """A failure whose causes are a circle is logged as it is; nothing walks it for ever."""
    translator = Translator()
    first, second = KeyError("1"), KeyError("2")
    first.__cause__, second.__cause__ = second, first

    @translator.handler(ValueError)
    def fail(error, call):
        raise first

    translation = translated(translator, ValueError())
    assert type(translation.error) is Internal
    assert translation.exception is first


def test_an_error_leaves_as_it_is():
    """A StatusError that was raised here is what leaves, and there is nothing more to log."""
    error = NotFound("It is missing.")
    assert translated(Translator(), error) == (error, None, ())


# Dispatch.


@pytest.mark.parametrize(
    ("registered", "raised", "chosen"),
    [
        pytest.param([BaseError], BothError, "BaseError", id="base"),
        pytest.param([BaseError, BothError], BothError, "BothError", id="closest"),
        pytest.param([BaseError, RightError, LeftError], BothError, "LeftError", id="first-base-first"),
        pytest.param([BaseError, RightError], BothError, "RightError", id="second-base-before-common-base"),
        pytest.param([BaseError, RightError], LeftError, "BaseError", id="siblings-have-no-part"),
        pytest.param([Exception], BothError, "Exception", id="far-away"),
        pytest.param([f"{HERE}.LeftError", BaseError], BothError, f"{HERE}.LeftError", id="name"),
        pytest.param([f"{HERE}.LeftError", LeftError], BothError, "LeftError", id="type-before-name"),
        pytest.param(["builtins.LookupError"], KeyError, "builtins.LookupError", id="name-of-a-base"),
    ],
)
def test_the_closest_class_is_chosen(registered, raised, chosen):
    """The handler of the closest class in the MRO is asked first, by type or by dotted name."""
    translator = Translator()
    for one in registered:
        translator.handler(one)(by(one if isinstance(one, str) else one.__name__))
    for _ in range(2):
        assert translated(translator, raised()).error.message == chosen


def test_none_passes_on():
    """A handler that returns None passes to the next closest, and at last to the mask."""
    translator, asked = Translator(), []
    for cls in (BothError, LeftError, RightError):
        translator.handler(cls)(lambda raised, at, cls=cls: asked.append((cls, raised, at.method)))
    raised = BothError()
    assert translated(translator, raised).error.message == MASKED
    assert asked == [(cls, raised, "M") for cls in (BothError, LeftError, RightError)]
    other = Translator()
    other.handler(BothError)(lambda _raised, _call: None)
    other.handler(BaseError)(by("base"))
    assert translated(other, BothError()).error.message == "base"


def test_one_handler_for_several():
    """A handler can be registered for several exceptions, and is still the function."""
    translator = Translator()

    @translator.handler(KeyError, "builtins.ValueError")
    def several(_raised, _call):
        return NotFound("several")

    assert several(None, None).message == "several"
    assert translated(translator, KeyError()).error.message == "several"
    assert translated(translator, ValueError()).error.message == "several"


@pytest.mark.parametrize("cls", [Exception, BaseException, grpc.RpcError, object])
def test_an_error_raised_here_is_no_unknown_exception(cls):
    """A handler of a class above StatusError is not asked about an error that says what it is."""
    translator = Translator()
    if cls is object:
        with pytest.raises(TypeError, match=r"<class 'object'> is nothing that can be registered"):
            translator.handler(cls)(by("x"))
        return
    translator.handler(cls)(by("caught"))
    error = NotFound()
    assert translated(translator, error).error is error
    received_ = received()
    assert translated(translator, received_).error.message == "caught"
    assert translated(translator, grpc.RpcError()).error.message == "caught"


@pytest.mark.parametrize("cls", [NotFound, StatusError])
def test_a_handler_of_an_errors_own_class_is_asked(cls):
    """One's own errors can be translated by their classes."""
    translator = Translator()
    translator.handler(cls)(by("handled"))
    assert translated(translator, NotFound()).error.message == "handled"


# Registering.


@pytest.mark.parametrize(
    "register",
    [
        pytest.param(lambda one: one.map(KeyError, NotFound), id="map"),
        pytest.param(lambda one: one.map(("builtins.KeyError", "a.B"), NotFound), id="map-by-name"),
        pytest.param(lambda one: one.handler(KeyError)(by("x")), id="handler"),
        pytest.param(lambda one: one.category_handler(Category.QUOTA)(by("x")), id="category-handler"),
        pytest.param(lambda one: one.transformer(by("x")), id="transformer"),
        pytest.param(lambda one: one.recovery(KeyError)(by("x")), id="recovery"),
        pytest.param(lambda one: one.recovery(Category.QUOTA)(by("x")), id="recovery-by-category"),
    ],
)
@pytest.mark.parametrize(
    "freeze", [lambda one: one.freeze(), lambda one: translated(one, KeyError())], ids=["by", "at"]
)
def test_registering_late_or_twice(register, freeze):
    """A second registration is refused when it is made, and any after the first RPC."""
    translator = Translator()
    register(translator)
    if not translator._transformers:
        with pytest.raises(ValueError, match="is registered already"):
            register(translator)
    freeze(translator)
    with pytest.raises(RuntimeError, match="a Translator is frozen at its first RPC: register before serving"):
        register(translator)


@pytest.mark.parametrize(
    ("make", "kind", "sentence"),
    [
        pytest.param(lambda: Translator(on_unmapped="leak"), ValueError, "on_unmapped is 'leak'; it must", id="policy"),
        pytest.param(
            lambda: Translator(maps=["stdlib", "nope"]), ValueError, "there is no map 'nope'; there", id="map"
        ),
        pytest.param(lambda: Translator(maps="stdlib"), TypeError, "maps is the text 'stdlib'", id="maps-text"),
        pytest.param(lambda: Translator(forward="ABC"), TypeError, "forward is the text 'ABC'", id="forward-text"),
        pytest.param(lambda: Translator(maps=["stdlib"] * 2), ValueError, "is registered already", id="map-twice"),
        pytest.param(lambda: Translator().handler(), ValueError, "name at least one exception type", id="nothing"),
        pytest.param(lambda: Translator().handler(5)(by("x")), TypeError, "5 is nothing", id="number"),
        pytest.param(lambda: Translator().handler(int)(by("x")), TypeError, "'int'> is nothing", id="no-exception"),
        pytest.param(lambda: Translator().category_handler(KeyError)(by("x")), TypeError, "KeyError", id="no-category"),
        pytest.param(lambda: Translator().recovery("a.B")(by("x")), TypeError, "'a.B' is nothing", id="recovery-name"),
    ],
)
def test_wrong_settings(make, kind, sentence):
    """What makes no sense is refused with a sentence that names it."""
    with pytest.raises(kind, match=sentence):
        make()


# map().


class Declared(NotFound):
    declaration = Declaration(
        reason="TRANSLATED",
        domain="t.example.com",
        code="NOT_FOUND",
        message="No {isbn} in {class}.",
        metadata=(MetadataKey(key="isbn"), MetadataKey(key="class")),
    )

    def __init__(self, message=None, *, isbn, class_, **arguments):
        super().__init__(message, metadata={"isbn": isbn, "class": class_}, **arguments)


def test_map_makes_an_error():
    """map() makes the error that it was told, from the exception where it was given functions."""
    translator = Translator()
    translator.map(
        (KeyError, "builtins.ValueError"),
        Unavailable,
        reason="SHELF_LOCKED",
        message="The shelf is locked.",
        metadata=lambda raised: {"isbn": len(raised.args)},
        error_details=lambda raised: [rpc.ResourceInfo(resource_name=raised.args[0])],
        retry_delay=2.0,
        category=Category.CONFLICT,
    )
    for raised in (KeyError("s1"), ValueError("s1")):
        translation = translated(translator, raised)
        error = translation.error
        assert (type(error), error.reason, error.message) == (Unavailable, "SHELF_LOCKED", "The shelf is locked.")
        assert (error.metadata, error.retry_delay, error.category) == ({"isbn": "1"}, 2.0, Category.CONFLICT)
        assert error.find(rpc.ResourceInfo).resource_name == "s1"
        assert translation.exception is raised


def test_map_to_a_declared_class():
    """A declared class takes its metadata by the names of its arguments."""
    translator = Translator()
    translator.map(KeyError, Declared, metadata=lambda raised: {"isbn": raised.args[0], "class_": "b"})
    assert translated(translator, KeyError("1")).error.message == "No 1 in b."


def test_the_exceptions_that_a_catalogue_names():
    """An exception that a declaration names becomes that error, its metadata from the attributes of that name."""
    module, _, name = bookshop.OutOfStock.declaration.raised_by[0].rpartition(".")
    out_of_stock = type(name, (Exception,), {"__module__": module, "isbn": "1", "left": 3})
    translation = translated(Translator(catalogues=[bookshop]), out_of_stock(CANARY))
    assert type(translation.error) is bookshop.OutOfStock
    assert translation.error.message == "Only 3 copies of 1 are left."
    assert CANARY.encode() not in leaving(translation)


# Handlers that fail.


def chained(exception) -> list:
    return [type(one) for one in stack.chain(exception)]


def test_a_handler_that_raises():
    """A handler that raises gives the constant INTERNAL, and both exceptions are kept for the log."""
    translator = Translator()

    @translator.handler(KeyError)
    def fail(_raised, _call):
        raise LoudError

    original = KeyError(CANARY)
    translation = translated(translator, original)
    assert (type(translation.error), translation.error.message) == (Internal, MASKED)
    assert stack.chain(translation.exception)[-1] is original
    assert chained(translation.exception) == [LoudError, KeyError]
    assert CANARY.encode() not in leaving(translation)


def from_none():
    raise LoudError from None


def from_another():
    try:
        raise RuntimeError
    except RuntimeError as other:
        raise LoudError from other


def in_context():
    try:
        raise RuntimeError
    except RuntimeError:
        raise LoudError  # noqa: B904  # the context is what is tested


@pytest.mark.parametrize(
    ("fail", "kinds"),
    [
        pytest.param(from_none, [LoudError, KeyError], id="from-none"),
        pytest.param(from_another, [LoudError, RuntimeError, KeyError], id="from-another"),
        pytest.param(in_context, [LoudError, RuntimeError, KeyError], id="in-context"),
    ],
)
def test_the_original_is_kept_whatever_a_failure_came_from(fail, kinds):
    """The original stands at the end of whatever chain the failure has."""
    translator = Translator()
    translator.handler(KeyError)(lambda _raised, _call: fail())
    assert chained(translated(translator, KeyError()).exception) == kinds


@pytest.mark.parametrize(
    "fail",
    [
        pytest.param(lambda raised: (_ for _ in ()).throw(raised), id="the-same-again"),
        pytest.param(lambda _raised: (_ for _ in ()).throw(SystemExit()), id="system-exit"),
        pytest.param(lambda _raised: (_ for _ in ()).throw(NotFound(CANARY)), id="an-error-raised"),
        pytest.param(lambda _raised: "text", id="returns-text"),
        pytest.param(lambda _raised: NotFound, id="returns-a-class"),
        pytest.param(lambda _raised: NotFound(reason="lower"), id="wrong-argument"),
    ],
)
@pytest.mark.parametrize("where", ["handler", "category_handler", "transformer"])
def test_any_failure_is_masked(where, fail):
    """Whatever goes wrong in a handler, the caller gets the constant INTERNAL and the log the rest."""
    translator = Translator()
    if where == "handler":
        translator.handler(KeyError)(lambda raised, _call: fail(raised))
    elif where == "category_handler":
        translator.category_handler(Category.INTERNAL)(lambda error, _call: fail(error))
    else:
        translator.transformer(lambda error, _call: fail(error))
    original = KeyError(CANARY)
    translation = translated(translator, original)
    assert (type(translation.error), translation.error.message) == (Internal, MASKED)
    assert original in stack.chain(translation.exception)
    assert CANARY.encode() not in leaving(translation)


# Category handlers, transformers, recoveries.


def test_the_order_of_refinement():
    """A category handler comes before transformers, and those in the order in which they were registered."""
    translator = Translator()
    translator.handler(KeyError)(by("handler", NotFound))
    translator.category_handler(Category.NOT_FOUND)(
        lambda error, _call: error.replace(message=f"{error.message} category")
    )
    translator.category_handler(Category.INTERNAL)(by("wrong"))
    translator.transformer(lambda error, _call: error.replace(message=f"{error.message} one"))
    translator.transformer(lambda _error, _call: None)
    translator.transformer(lambda error, _call: error.replace(message=f"{error.message} two"))
    assert translated(translator, KeyError()).error.message == "handler category one two"


def test_transformers_see_masked_errors():
    """A transformer sees every error that leaves, with the call at hand."""
    translator = Translator()

    @translator.transformer
    def enrich(error, at):
        return error.replace(error_details=[rpc.Help(links=[{"url": f"https://e.x/{at.method}"}])])

    translation = translated(translator, KeyError(CANARY))
    assert translation.error.find(rpc.Help).links[0].url == "https://e.x/M"
    assert translation.error.message is MASKED
    assert translation.exception is not None


def test_recoveries():
    """The closest exception's recovery is asked first, then the error's class's, then its category's; each once."""
    translator = Translator()
    names = {}
    for key in (BaseError, BothError, NotFound, StatusError, Category.NOT_FOUND, Category.QUOTA, KeyError):
        function = translator.recovery(key)(lambda _error, _call: None)
        names[function] = getattr(key, "__name__", getattr(key, "name", key))
    translator.handler(BaseError)(by("x", NotFound))
    found = [names[one] for one in translated(translator, BothError()).recoveries]
    assert found == ["BothError", "BaseError", "NotFound", "StatusError", "NOT_FOUND"]
    assert [names[one] for one in translated(translator, NotFound()).recoveries] == found[2:]
    assert [names[one] for one in translated(translator, ValueError()).recoveries] == ["StatusError"]
    assert translated(Translator(), NotFound()).recoveries == ()


def test_one_recovery_for_several_is_asked_once():
    """A function that is registered for an exception and its category is asked once."""
    translator = Translator()
    translator.recovery(NotFound, StatusError, Category.NOT_FOUND)(lambda _error, _call: None)
    assert len(translated(translator, NotFound()).recoveries) == 1


# Groups.


def test_a_group_of_one_is_that_one():
    """A group of one error is that error."""
    error = NotFound()
    assert translated(Translator(), ExceptionGroup("", [ExceptionGroup("", [error])])) == (error, None, ())


def test_a_group_becomes_one_error_with_causes():
    """A group, however nested, becomes one error of the worst member's code, with its members as causes."""
    members = [NotFound("1"), Aborted("2"), InvalidArgument("3", severity=Severity.CRITICAL)]
    group = ExceptionGroup(CANARY, [members[0], ExceptionGroup(CANARY, members[1:])])
    translation = translated(Translator(), group)
    error = translation.error
    assert (type(error), error.message, error.severity) == (InvalidArgument, SEVERAL, Severity.CRITICAL)
    assert error.causes == tuple(members)
    assert translation.exception is None
    assert CANARY.encode() not in leaving(translation)


def test_the_worst_severity_of_one_code():
    """Members of one code keep the worst severity of them."""
    group = ExceptionGroup("", [NotFound("1"), NotFound("2", severity=Severity.CRITICAL)])
    assert translated(Translator(), group).error.severity is Severity.CRITICAL


def test_a_group_of_one_reason_keeps_it():
    """Members that all have one reason give it to the group's error."""
    same = {"reason": "SAME_REASON", "domain": "d.example.com"}
    error = translated(Translator(), ExceptionGroup("", [NotFound(**same), NotFound(**same)])).error
    assert (error.reason, error.domain) == ("SAME_REASON", "d.example.com")
    error = translated(Translator(), ExceptionGroup("", [NotFound(**same), NotFound()])).error
    assert (error.reason, error.domain) == ("NOT_FOUND", None)


@pytest.mark.parametrize(
    ("members", "scope", "delay"),
    [
        pytest.param(
            [Unavailable(retry_delay=1), Unavailable(retry_delay=3)], RetryScope.REQUEST, 3, id="longest-delay"
        ),
        pytest.param([Unavailable(), InvalidArgument()], RetryScope.NEVER, None, id="one-cannot-be-retried"),
        pytest.param([NotFound(), NotFound()], None, None, id="none-can"),
        pytest.param([Unavailable(), Unavailable(retry_scope=RetryScope.NEVER)], RetryScope.NEVER, None, id="declared"),
    ],
)
def test_a_group_is_retried_only_if_all_of_it_can_be(members, scope, delay):
    """To try again helps only if it helps all, after the longest delay."""
    error = translated(Translator(), ExceptionGroup("", members)).error
    assert error.retry_scope is (scope or RetryScope.NEVER)
    assert error.retry_delay == delay


def test_a_group_with_a_masked_member():
    """A member that nobody mapped is masked as a cause, and the log has the group."""
    group = ExceptionGroup(CANARY, [NotFound("1"), LoudError()])
    translation = translated(Translator(), group)
    assert [cause.message for cause in translation.error.causes] == ["1", MASKED]
    assert type(translation.error) is Internal
    assert translation.exception is group
    assert CANARY.encode() not in leaving(translation)


def test_members_of_a_group_are_handled():
    """Each member is translated as if it had been raised alone, and a handler of the group goes before."""
    translator = Translator()
    translator.handler(KeyError)(by("handled", NotFound))
    error = translated(translator, ExceptionGroup("", [KeyError(), KeyError()])).error
    assert [cause.message for cause in error.causes] == ["handled", "handled"]
    translator = Translator()
    translator.handler(ExceptionGroup)(by("group"))
    assert translated(translator, ExceptionGroup("", [KeyError()])).error.message == "group"


def test_a_group_is_looked_at_to_a_bound():
    """Of thousands of members some are looked at; the log has the group, as the rest may hold more."""
    group = ExceptionGroup("", [*(NotFound() for _ in range(MAX_GROUP)), LoudError()])
    translation = translated(Translator(), group)
    assert len(translation.error.causes) == MAX_GROUP
    assert translation.exception is group
    nested = KeyError()
    for _ in range(5000):
        nested = ExceptionGroup("", [nested])
    assert translated(Translator(), nested).error.message == MASKED


# Received errors.


def received(code=grpc.StatusCode.UNAVAILABLE, origin=Origin.REMOTE, **more) -> StatusError:
    status = error_class(code)(
        CANARY, reason="REMOTE_REASON", domain="remote.example.com", metadata={"isbn": CANARY}, **more
    ).status
    error = decode(
        code,
        CANARY,
        initial_metadata=(("x-i", CANARY),),
        trailing_metadata=((DETAILS_KEY, status.SerializeToString()), ("x-t", CANARY)),
        debug_error_string=CANARY,
    )
    error.origin = origin
    return error


@pytest.mark.parametrize("origin", [Origin.REMOTE, Origin.UNKNOWN, Origin.LOCAL], ids=lambda origin: origin.value)
@pytest.mark.parametrize(
    ("code", "cls", "reason"),
    [
        pytest.param(grpc.StatusCode.UNAVAILABLE, Unavailable, "DEPENDENCY_UNAVAILABLE", id="unavailable"),
        pytest.param(grpc.StatusCode.NOT_FOUND, Internal, "DEPENDENCY_FAILED", id="not-found"),
        pytest.param(grpc.StatusCode.UNAUTHENTICATED, Internal, "DEPENDENCY_FAILED", id="unauthenticated"),
        pytest.param(grpc.StatusCode.DEADLINE_EXCEEDED, Internal, "DEPENDENCY_FAILED", id="deadline"),
        pytest.param(grpc.StatusCode.CANCELLED, Internal, "DEPENDENCY_FAILED", id="cancelled"),
    ],
)
def test_received_errors_are_not_forwarded(code, cls, reason, origin):
    """What another server or a client's policy said becomes the failure of a dependency, and nothing of it leaves."""
    error = received(code, origin)
    translation = translated(Translator(), error)
    assert (type(translation.error), translation.error.message) == (cls, DEPENDENCY_FAILED)
    assert (translation.error.reason, translation.error.category) == (reason, Category.DEPENDENCY)
    assert translation.error.origin is Origin.RAISED
    assert translation.error.error_id != error.error_id
    assert translation.exception is error
    assert CANARY.encode() not in leaving(translation)


def test_the_delay_of_a_dependency_is_passed_on():
    """How long a dependency wants to be left alone is of use to the caller; that it must never be retried ends it."""
    assert translated(Translator(), received(retry_delay=2.5)).error.retry_delay == 2.5
    never = received()
    never._retry_scope = RetryScope.NEVER
    assert type(translated(Translator(), never).error) is Internal


class RawRpcError(grpc.RpcError):
    code = staticmethod(lambda: grpc.StatusCode.NOT_FOUND)
    details = staticmethod(lambda: CANARY)
    trailing_metadata = staticmethod(lambda: received().trailing_metadata())


@pytest.mark.parametrize("exception", [RawRpcError(CANARY), grpc.RpcError(CANARY)], ids=["with-status", "bare"])
def test_errors_of_channels_that_nobody_wrapped(exception):
    """An RpcError of grpc's own is a received error too."""
    translation = translated(Translator(), exception)
    assert (translation.error.message, translation.exception) == (DEPENDENCY_FAILED, exception)
    assert CANARY.encode() not in leaving(translation)


@pytest.mark.parametrize(
    "where",
    [
        pytest.param(lambda one: one.handler(KeyError)(lambda _raised, _call: received()), id="handler"),
        pytest.param(lambda one: one.category_handler(Category.INTERNAL)(lambda _e, _call: received()), id="category"),
        pytest.param(lambda one: one.transformer(lambda _error, _call: received()), id="transformer"),
    ],
)
def test_received_errors_come_through_no_back_door(where):
    """A handler or transformer that returns a received error does not forward it."""
    translator = Translator()
    where(translator)
    translation = translated(translator, KeyError())
    assert translation.error.message == DEPENDENCY_FAILED
    assert CANARY.encode() not in leaving(translation)


@pytest.mark.parametrize("name", ["causes", "__cause__", "__context__"])
def test_received_errors_are_no_causes(name):
    """An error raised because of a received one does not carry it."""
    error = Internal(causes=[received()] if name == "causes" else ())
    if name != "causes":
        setattr(error, name, received())
    assert CANARY.encode() not in leaving(translated(Translator(), error))
    group = ExceptionGroup("", [error, received()])
    assert CANARY.encode() not in leaving(translated(Translator(), group))


@pytest.mark.parametrize(
    ("state", "cls"),
    [
        pytest.param({"expired": True}, DeadlineExceeded, id="expired"),
        pytest.param({"cancelled": True}, Cancelled, id="cancelled"),
        pytest.param({"cancelled": True, "expired": True}, Cancelled, id="both"),
    ],
)
def test_an_incoming_call_that_ended_stays_what_it_is(state, cls):
    """A call that expired or was cancelled fails what it called; that is no fault of the dependency."""
    translation = translated(Translator(), received(grpc.StatusCode.DEADLINE_EXCEEDED), **state)
    assert type(translation.error) is cls
    assert CANARY.encode() not in leaving(translation)


@pytest.mark.parametrize(
    ("forward", "forwarded"),
    [
        pytest.param(["REMOTE_REASON"], True, id="reason"),
        pytest.param([("remote.example.com", "REMOTE_REASON")], True, id="domain-and-reason"),
        pytest.param([("other.example.com", "REMOTE_REASON")], False, id="other-domain"),
        pytest.param(["OTHER_REASON"], False, id="other-reason"),
        pytest.param([("REMOTE_REASON", "remote.example.com")], False, id="wrong-way-round"),
        pytest.param([], False, id="nothing"),
    ],
)
def test_the_allow_list(forward, forwarded):
    """A received error leaves as it is if its reason, or its domain and reason, are on the list; its trailers never."""
    details = [rpc.ResourceInfo(resource_name="r")]
    error = received(grpc.StatusCode.NOT_FOUND, retry_delay=1.5, error_details=details)
    error.attempts = [1]
    leaves = translated(Translator(forward=forward), error).error
    if not forwarded:
        assert leaves.message == DEPENDENCY_FAILED
        return
    assert (type(leaves), leaves.message, leaves.reason) == (NotFound, CANARY, "REMOTE_REASON")
    assert (leaves.domain, leaves.retry_delay) == ("remote.example.com", 1.5)
    assert leaves.find(rpc.ResourceInfo) == details[0]
    assert (leaves.origin, leaves.attempts) == (Origin.RAISED, ())
    assert (leaves.initial_metadata(), leaves.trailing_metadata()) == (None, None)
    assert error.origin is Origin.REMOTE
    assert error.trailing_metadata()


def test_a_forwarded_error_can_be_sent_whatever_it_was():
    """What a hostile peer sent can be forwarded without failing, and without its undeclared metadata."""
    info = rpc.ErrorInfo(reason="R" * 5000, domain="d" * 5000, metadata={"BAD KEY": CANARY})
    status = NotFound().status
    del status.details[:]
    for one in (info, rpc.RetryInfo(retry_delay={"seconds": 2**62}), rpc.RequestInfo(request_id="i" * 9000)):
        status.details.add().Pack(one)
    error = decode(grpc.StatusCode.NOT_FOUND, "m", trailing_metadata=[(DETAILS_KEY, status.SerializeToString())])
    translation = translated(Translator(forward=["R" * 5000]), error)
    assert type(translation.error) is NotFound
    assert CANARY.encode() not in leaving(translation)
    assert len(leaving(translation)) < 40_000


# Properties.

EXCEPTIONS = st.deferred(
    lambda: st.one_of(
        st.sampled_from([ValueError, KeyError, BothError, SystemExit, OSError]).map(lambda cls: cls(CANARY)),
        st.builds(LoudError),
        st.builds(received, st.sampled_from([code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])),
        st.sampled_from([NotFound, Unavailable, AlreadyExists]).map(lambda cls: cls("declared")),
        st.builds(RawRpcError),
        st.lists(EXCEPTIONS, min_size=1, max_size=3).map(lambda members: BaseExceptionGroup(CANARY, members)),
        st.tuples(EXCEPTIONS, EXCEPTIONS).map(lambda pair: (setattr(pair[0], "__cause__", pair[1]), pair[0])[1]),
    )
)


@settings(max_examples=100, deadline=None)
@given(EXCEPTIONS, st.lists(st.sampled_from(["stdlib", "http", "redis", "google", "sqlalchemy"]), unique=True))
def test_no_text_of_an_exception_leaves(exception, maps):
    """Whatever is raised, translation gives an error, and no text of an exception is in what leaves."""
    translation = translated(Translator(maps=maps), exception)
    assert translation.error.origin is Origin.RAISED
    assert CANARY.encode() not in leaving(translation)


def test_types_made_at_run_time_are_let_go():
    """Dispatch is remembered for each type, and not longer than the type lives."""
    translator = Translator()

    def once():
        kind = type("MadeError", (Exception,), {})
        translated(translator, kind())
        return weakref.ref(kind)

    gone = once()
    gc.collect()
    assert gone() is None

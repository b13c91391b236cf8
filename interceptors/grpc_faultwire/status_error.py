"""`StatusError`: what every error is, and what it says; `errors` has its subclasses, one for each status code.

One hierarchy serves everywhere: raised on servers, caught in callers, in sync and in aio. gRPC for Python calls the
message of a status its *details*; here `message` is the message, and details are google.rpc's error details. The
methods that gRPC defines (`code()`, `details()`, …) keep gRPC's meaning.
"""

from __future__ import annotations

import os
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from faultwire.v1 import errors_pb2
from grpc_faultwire.category import Category, Fault, Meaning, Origin, RetryScope, Severity, meaning
from grpc_faultwire.details import Details, duration, pack, seconds
from grpc_faultwire.error_info import check_domain, check_reason, check_retry_delay, metadata_texts
from grpc_faultwire.finished import FinishedCall
from grpc_faultwire.redaction import encodable, escaped

if TYPE_CHECKING:
    from grpc_faultwire.declaration import Declaration

M = TypeVar("M", bound=Message)


_NONE: tuple[Message, ...] = ()
_NO_DETAILS = Details(())


_classes: dict[int, type[StatusError]] = {}  # by the code's identity: an enum's hash is a function in Python
"""The class of each code: `errors` fills it in."""
_declared: dict[tuple[str, str], type[StatusError]] = {}


class StatusError(grpc.aio.AioRpcError, FinishedCall):  # type: ignore[misc]  # the two worlds' metadata types differ
    """An RPC that ended with a status other than OK. Raise a subclass, such as `NotFound`.

    Args:
        message: for the developer of the caller, in English. It leaves the server as it is, but for what looks like a
            secret. None: what the class's declaration or the code says.
        reason: why, in UPPER_SNAKE_CASE, for programs to decide by. None: the declaration's, or the code's name.
        domain: where the reason is defined. None: the declaration's, or the full name of the service being called.
        metadata: what the message says, for programs. Keys that nobody declared do not leave a server.
        error_details: protobuf messages, each type at most once (AIP-193); google.rpc.error_details_pb2 has the
            standard ones.
        retry_delay: seconds that a caller should wait at least before it tries again. None: not said.
        retry_scope: what may be tried again. None: what the declaration or the code says.
        category: what kind of failure it is. None: what the declaration or the code says.
        severity: how loudly a server reports it. None: what the declaration or the category says.
        causes: errors that led to this one; ``raise … from`` adds one. Only StatusErrors of this process travel.

    Raises:
        TypeError: the class has no code, as StatusError itself; a message that is no text, a detail that is no message.
        ValueError: a reason, domain, metadata key, delay or detail that breaks its rule.
    """

    status_code: ClassVar[grpc.StatusCode]
    """The code of every error of this class."""
    declaration: ClassVar[Declaration | None] = None
    """What a catalogue says of this class. Setting it registers the class for its domain and reason."""
    _number: ClassVar[int]
    _means: ClassVar[Meaning]

    origin: Origin = Origin.RAISED
    attempts: Sequence[Any] = ()
    """The attempts of a retried call, as plain records, the last one last."""
    already_retried: bool = False
    """Whether the server that sent it has tried again already: then its callers should not."""
    recovered: bool = False
    """Whether gRPC's core had replaced this status as too large, and it was restored from its details."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "status_code" in cls.__dict__:
            cls._number = cls.status_code.value[0]
            cls._means = meaning(cls._number)
        if "declaration" in cls.__dict__ and cls.declaration is not None:
            _register(cls, cls.declaration)

    def __init__(
        self,
        message: str | None = None,
        *,
        reason: str | None = None,
        domain: str | None = None,
        metadata: Mapping[str, object] | None = None,
        error_details: Iterable[Message] = _NONE,
        retry_delay: float | None = None,
        retry_scope: RetryScope | None = None,
        category: Category | None = None,
        severity: Severity | None = None,
        causes: Iterable[StatusError] = (),
    ) -> None:
        if not hasattr(self, "status_code"):
            raise TypeError(f"{type(self).__name__} has no status code: raise a subclass, such as NotFound")
        given = _NO_DETAILS if error_details is _NONE else Details.of(error_details)
        names = given.unique() if given.packed else ()
        declaration = self.declaration
        if declaration is not None:
            reason, domain = reason or declaration.reason, domain or declaration.domain
            retry_delay = declaration.retry_delay if retry_delay is None else retry_delay
        if not _COMPOSED_NAMES.isdisjoint(names):
            info = given.find(error_details_pb2.ErrorInfo) or error_details_pb2.ErrorInfo()
            reason, domain = reason or info.reason or None, domain or info.domain
            metadata = metadata or info.metadata
            retry = given.find(error_details_pb2.RetryInfo)
            if retry is not None and retry_delay is None:
                retry_delay = seconds(retry.retry_delay)
        if reason is not None:
            check_reason(reason)
        if domain:
            check_domain(domain)
        if retry_delay is not None:
            check_retry_delay(retry_delay)
        texts = metadata_texts(metadata) if metadata else {}
        if message is None:
            message = declaration.render(texts) if declaration is not None else ""
        if not isinstance(message, str):
            raise TypeError(f"message is {message!r}, which is no text")
        # As AioRpcError's constructor leaves it; whatever else a subclass is made of has its turn.
        super(grpc.aio.AioRpcError, self).__init__()
        self._code = self.status_code
        self._details = message if message.isascii() else encodable(message)
        self._initial_metadata = self._trailing_metadata = None
        self._debug_error_string = ""
        self._reason = reason
        self._domain = domain or None
        self._metadata = texts
        self._given = given
        self._retry_delay = retry_delay
        self._retry_scope = retry_scope
        self._category = category
        self._severity = severity
        self._causes = tuple(causes)

    @classmethod
    def _received(cls, message: str, details: Details, state: Mapping[str, Any]) -> Self:
        """Make an error from what was decoded; a subclass's own constructor is not asked."""
        error = cls.__new__(cls)
        grpc.aio.AioRpcError.__init__(error, cls.status_code, None, None, message, "")
        error._all = details
        vars(error).update(state)
        return error

    @classmethod
    def _local(cls, message: str, state: Mapping[str, Any]) -> Self:
        """Make an error that a policy of this process raises, all parts of which are known to be right."""
        error = cls.__new__(cls)
        # As the constructors leave it, without their checks: an open circuit refuses thousands of calls in a second.
        vars(error).update(state, _code=cls.status_code, _details=message, _debug_error_string="", origin=Origin.LOCAL)
        error._initial_metadata = error._trailing_metadata = None
        return error

    # What the error says.

    _code: grpc.StatusCode
    _details: str | None
    _initial_metadata: Any
    _trailing_metadata: Any
    _debug_error_string: str | None
    _reason: str | None = None
    _domain: str | None = None
    _metadata: Mapping[str, str] = types.MappingProxyType({})
    _retry_delay: float | None = None
    _retry_scope: RetryScope | None = None
    _category: Category | None = None
    _severity: Severity | None = None
    _causes: tuple[StatusError, ...] = ()
    _error_id: str | None = None
    _given: Details = _NO_DETAILS
    _anomalies: Sequence[str] = ()
    _all: Details | None = None

    @property
    def message(self) -> str:
        """What happened, for people; grpc calls it details()."""
        return self._details or ""

    @property
    def reason(self) -> str:
        """Why, for programs: ErrorInfo's reason, or the code's name."""
        return self._reason or self._code.name

    @property
    def domain(self) -> str | None:
        """Where the reason is defined. None: not said yet (a server adds the service's full name)."""
        return self._domain

    @property
    def metadata(self) -> Mapping[str, str]:
        """ErrorInfo's metadata."""
        return types.MappingProxyType(dict(self._metadata))

    @property
    def category(self) -> Category:
        """What kind of failure it is."""
        if self._category is not None:
            return self._category
        declaration = self.declaration
        if declaration is not None and declaration.category is not None:
            return declaration.category
        if self.origin is Origin.UNKNOWN and self._code is grpc.StatusCode.UNAVAILABLE:
            return Category.TRANSPORT
        return self._means.category

    @property
    def severity(self) -> Severity:
        """How loudly a server reports it."""
        declared = self.declaration.severity if self.declaration is not None else None
        return self._severity or declared or self.category.severity

    @property
    def fault(self) -> Fault:
        """Whose fault it was."""
        return self.category.fault

    @property
    def retry_scope(self) -> RetryScope:
        """What may be tried again: as the error says, else as its code means."""
        return self.declared_retry_scope or self._means.retry_scope

    @property
    def declared_retry_scope(self) -> RetryScope | None:
        """The retry scope if the error or its declaration says one; None where only its code speaks."""
        return self._retry_scope or (self.declaration.retry_scope if self.declaration is not None else None)

    @property
    def retry_delay(self) -> float | None:
        """Seconds that a caller should wait at least before it tries again (RetryInfo). None: not said."""
        return self._retry_delay

    @property
    def error_id(self) -> str:
        """128 random bits in hexadecimal that find this error in its server's log; "" if its server gave none."""
        if self._error_id is None:
            self._error_id = os.urandom(16).hex() if self.origin in (Origin.RAISED, Origin.LOCAL) else ""
        return self._error_id

    @property
    def causes(self) -> tuple[StatusError, ...]:
        """The StatusErrors that led to this one, ``__cause__`` first. A received error's are in its `report`."""
        cause = self.__cause__
        if cause is None:
            return self._causes
        direct = (cause,) if isinstance(cause, StatusError) else ()
        return direct + tuple(other for other in self._causes if other is not cause)

    @property
    def anomalies(self) -> tuple[str, ...]:
        """What was odd about the trailers that this error was decoded from, as far as it was looked at."""
        return (*self._anomalies, *(self._all.anomalies if self._all is not None else ()))

    @property
    def error_details(self) -> tuple[Message, ...]:
        """All details, in order; those of unknown types as Any, whole."""
        return tuple(self._composed())

    @property
    def report(self) -> errors_pb2.ErrorReport | None:
        """What the server added to the standard details; None if it did not."""
        return self.find(errors_pb2.ErrorReport)

    @property
    def batch(self) -> errors_pb2.BatchReport | None:
        """Which items of a batch failed; None if this is no batch's error."""
        return self.find(errors_pb2.BatchReport)

    @property
    def status(self) -> status_pb2.Status:
        """The google.rpc.Status: for a received error what was received, else what would be sent but for redaction."""
        return status_pb2.Status(code=self._number, message=encodable(self.message), details=self._composed().packed)

    def find(self, kind: type[M]) -> M | None:
        """Return the first detail of this type, or None.

        Args:
            kind: a protobuf message class, such as google.rpc's BadRequest.
        """
        # Only what the error makes of what it says is not among those that it was given.
        return (self._given if self._all is None and kind not in _COMPOSED else self._composed()).find(kind)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with other constructor arguments, and all else as it is: id, details, cause, traceback, origin.

        Args:
            changes: arguments of the constructor. New ``error_details`` take the place of all others, but for ErrorInfo
                and RetryInfo where they hold none.
        """
        fresh = type(self).__new__(type(self))
        StatusError.__init__(fresh, **changes)
        given = changes.get("error_details")
        if given is None:
            fresh._given = Details([pack(one) for one in self._composed() if not isinstance(one, _COMPOSED)])
        elif fresh._given.find(error_details_pb2.ErrorInfo) is not None:
            changes |= {"reason": None, "domain": None, "metadata": None}
        if fresh._given.find(error_details_pb2.RetryInfo) is not None:
            changes |= {"retry_delay": None}
        # What is not changed is not checked again: of a received error it may be anything.
        said = {name: fresh.__dict__[name] for argument, name in _STATE.items() if argument in changes}
        copy = type(self).__new__(type(self))
        vars(copy).update(vars(self) | {"_error_id": self.error_id, "_all": None, "_given": fresh._given} | said)
        copy.__cause__, copy.__context__ = self.__cause__, self.__context__
        copy.__suppress_context__ = self.__suppress_context__
        return copy.with_traceback(self.__traceback__)

    def _composed(self) -> Details:
        if self._all is None:
            own: list[Message] = [
                error_details_pb2.ErrorInfo(reason=self.reason, domain=self._domain or "", metadata=self._metadata)
            ]
            if self._retry_delay is not None:
                own.append(error_details_pb2.RetryInfo(retry_delay=duration(self._retry_delay)))
            self._all = Details.of([*own, *(one for one in self._given if not isinstance(one, _COMPOSED))])
        return self._all

    def initial_metadata(self) -> Any:
        """Return what the server sent first; it may still be on its way when the RPC has already failed."""
        if callable(self._initial_metadata):
            self._initial_metadata = self._initial_metadata()
        return self._initial_metadata

    # Printing, copying, pickling.

    def __str__(self) -> str:
        name = f"{self._domain}/{self._reason}" if self._domain and self._reason else self._reason
        # As in grpc's own: callers look for it there.
        parts = [f"{self._code}: {self.message}" if self.message else str(self._code)]
        if name and name != self._code.name:
            parts.append(f"[{name}]")
        parts += [f"(error id {self._error_id})"] if self._error_id else []
        return escaped(" ".join(parts))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    def __copy__(self) -> Self:
        copy = type(self).__new__(type(self))
        vars(copy).update(vars(self), _error_id=self.error_id, _causes=self.causes)
        return copy

    def __reduce__(self) -> tuple[Any, ...]:
        return _blank, (type(self),), self._state()

    def _state(self) -> dict[str, Any]:
        # The metadata of grpc's sync calls are tuples of a class that pickle cannot find.
        metadata = {
            "_initial_metadata": _plain(self.initial_metadata()),
            "_trailing_metadata": _plain(self.__dict__.get("_trailing_metadata")),
        }
        # A copy is the same error: it has the same id, and ``__cause__`` would not come along.
        return self.__dict__ | metadata | {"_error_id": self.error_id, "_causes": self.causes}


_COMPOSED = (error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo)
"""The details that an error makes of what it says."""
_COMPOSED_NAMES = frozenset(kind.DESCRIPTOR.full_name for kind in _COMPOSED)
_STATE = {"message": "_details", "reason": "_reason", "domain": "_domain", "metadata": "_metadata"} | {
    name: f"_{name}" for name in ("retry_delay", "retry_scope", "category", "severity", "causes")
}
"""Where an error keeps the constructor's arguments."""


def _blank(cls: type[StatusError]) -> StatusError:
    return cls.__new__(cls)


def _plain(metadata: Any) -> Any:
    if not isinstance(metadata, tuple):
        return metadata
    return tuple(tuple(pair) if isinstance(pair, tuple) else pair for pair in metadata)


def _register(cls: type[StatusError], declaration: Declaration) -> None:
    if getattr(cls, "status_code", None) is None or cls.status_code.name != declaration.code:
        raise TypeError(f"{cls.__name__} declares {declaration.code}, so it must be a subclass of that code's class")
    key = declaration.domain, declaration.reason
    known = _declared.setdefault(key, cls)
    if known is not cls:
        if known.declaration != declaration:
            raise ValueError(f"{declaration.domain}/{declaration.reason} is declared twice, and not alike: {known!r}")
        _declared[key] = cls


def declaration_for(domain: str, reason: str) -> Declaration | None:
    """Return what is declared for (domain, reason); None: nothing is."""
    return getattr(_declared.get((domain, reason)), "declaration", None)


def error_class(code: grpc.StatusCode, domain: str | None = None, reason: str | None = None) -> type[StatusError]:
    """Return the class declared for (domain, reason) if it has this code, else the class of the code.

    Args:
        code: any status code but OK; OK gives the class of UNKNOWN.
        domain: ErrorInfo's domain.
        reason: ErrorInfo's reason.
    """
    declared = _declared.get((domain, reason)) if domain and reason else None
    if declared is not None and declared.status_code is code:
        return declared
    return _classes.get(id(code)) or _classes[id(grpc.StatusCode.UNKNOWN)]

"""The nouns that every other part speaks of: what is called, an attempt, an outcome; and the Observer protocol."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import grpc

from grpc_faultwire.errors import StatusError

OK = grpc.StatusCode.OK

CODE_NAMES = {id(code): code.name for code in grpc.StatusCode}
"""The names of the codes, by identity: asking a member of an enum for its name or its hash takes Python functions."""


class Kind(enum.Enum):
    """The shape of a method; the value is Prometheus's and grpc's word for it."""

    UNARY = "unary"
    CLIENT_STREAM = "client_stream"
    SERVER_STREAM = "server_stream"
    BIDI_STREAM = "bidi_stream"

    @property
    def request_streaming(self) -> bool:
        """Whether the caller sends a stream."""
        return self in (Kind.CLIENT_STREAM, Kind.BIDI_STREAM)

    @property
    def response_streaming(self) -> bool:
        """Whether the server sends a stream."""
        return self in (Kind.SERVER_STREAM, Kind.BIDI_STREAM)

    @classmethod
    def of(cls, *, request_streaming: bool, response_streaming: bool) -> Kind:
        """Return the kind with these directions streaming."""
        if request_streaming:
            return cls.BIDI_STREAM if response_streaming else cls.CLIENT_STREAM
        return cls.SERVER_STREAM if response_streaming else cls.UNARY


class Side(enum.Enum):
    """Which end of an RPC this process is."""

    SERVER = "server"
    CLIENT = "client"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallInfo:
    """What is called. One for each method, made once.

    Attributes:
        service: full name, "shop.v1.Shop"; "" if the path is not of the form /service/method.
        method: "GetBook".
        kind: the shape of the method.
        side: which end this is.
        target: what a channel was made for; "" on servers.
        known: whether this server has the method. A client's methods count as known.
    """

    service: str
    method: str
    kind: Kind
    side: Side
    target: str = ""
    known: bool = True

    @classmethod
    def of(cls, path: str, *, kind: Kind, side: Side, target: str = "", known: bool = True) -> CallInfo:
        """Make one from a path, "/shop.v1.Shop/GetBook"."""
        service, _, method = path.removeprefix("/").rpartition("/")
        return cls(service=service, method=method, kind=kind, side=side, target=target, known=known)

    @property
    def full_method(self) -> str:
        """OpenTelemetry's rpc.method: "shop.v1.Shop/GetBook"."""
        return f"{self.service}/{self.method}" if self.service else self.method


How = Literal["done", "refused", "cancelled", "abandoned", "failed"]
"""How a call ended: it ran to its status; a policy refused to send it; its caller cancelled it; its caller dropped it;
it failed before any status (a serializer that raised)."""


class Judgement(NamedTuple):
    """What a circuit breaker made of an attempt.

    Attributes:
        breaker: what the breaker guards.
        kind: "success", "failure" or "neutral": a value of `grpc_faultwire.policies.Health`.
    """

    breaker: str
    kind: str


@dataclass(slots=True)  # not keyword-only, as are the next two: there is one for every call, and keywords take time
class Attempt:
    """One try at a call: a plain record, filled in as it goes.

    Attributes:
        number: counts from 1.
        timeout: seconds that it was given; None: no limit.
        started: a reading of the plan's clock.
        permit: what a circuit breaker gave for it.
        ended: a reading of the plan's clock, once it has ended.
        error: what it ended with; None: still going on, or OK.
        delay: seconds waited after it, if it was retried.
        hedge: whether it was sent beside another that had not ended.
        judged: what a circuit breaker made of it; None: none was asked, or it was cut short.
    """

    number: int
    started: float
    timeout: float | None = None
    permit: Any = None
    ended: float | None = None
    error: StatusError | None = None
    delay: float | None = None
    hedge: bool = False
    judged: Judgement | None = None


@dataclass(slots=True)
class Outcome:
    """How a call ended. All observers get the same one: none may change it.

    Attributes:
        code: the status; what the caller saw.
        error: the error; None if OK.
        seconds: how long it took.
        how: see `How`.
        attempts: the attempts made (client side).
        exception: on servers, the exception behind an error that does not show it. It must not leave the process.
        recovered: on servers, the error in whose place an answer was given.
    """

    code: grpc.StatusCode
    seconds: float
    how: How
    error: StatusError | None = None
    attempts: Sequence[Attempt] = ()
    exception: BaseException | None = None
    recovered: StatusError | None = None


@dataclass(slots=True)
class Event:
    """Something that a policy decided during a call. All observers get the same one: none may change it.

    Attributes:
        name: what happened, such as "retry" or "circuit_open".
        attributes: what is to say of it.
    """

    name: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


E = TypeVar("E", bound=Callable[..., None])


def errors_only(on_end: E) -> E:
    """Mark an observer's ``on_end`` that has nothing to say of calls that ended with OK: servers do not ask it then."""
    on_end.__dict__["errors_only"] = True
    return on_end


A = TypeVar("A", bound=Callable[..., AbstractContextManager[Any]])


def unguarded(method: A) -> A:
    """Mark an observer's ``activate`` or ``intercepting`` whose context managers raise and swallow nothing.

    Where no other observer has such a method, they are entered as they are: each guard around them costs every call.
    """
    method.__dict__["unguarded"] = True
    return method


class Observer(Protocol):
    """Watches calls: it never blocks, and a fault in it never fails a call. Every method is optional.

    ``on_start`` returns a token, which comes back with everything else about that call; without an ``on_start``, the
    token is the `CallInfo`.

    An observer may have an attribute ``active_from``: the seconds from which on it looks at what is current, such as a
    span, when a call ends with OK. Of quicker calls it is told without `activate` being entered. Default: 0.0, always.
    """

    def intercepting(self) -> AbstractContextManager[Any]:
        """Return a context manager to enter while interceptors further in are asked for a handler (server side).

        It may keep another instrumentation from watching the same call.
        """
        ...

    def on_start(self, call: CallInfo) -> Any:
        """Begin: the call is about to be sent, or has arrived."""

    def extract(self, token: Any, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Learn the metadata that the call came with (server side); the opposite of ``inject``."""

    def on_attempt_start(self, token: Any, attempt: Attempt) -> None:
        """Begin an attempt (client side)."""

    def inject(self, token: Any, attempt: Attempt) -> Iterable[tuple[str, str | bytes]]:
        """Return metadata to send with an attempt (client side)."""
        ...

    def activate(self, token: Any) -> AbstractContextManager[Any]:
        """Return a context manager that is entered around each step of a handler or stream, never across a yield."""
        ...

    def on_message(self, token: Any, direction: Literal["sent", "received"]) -> None:
        """Count a message of a stream.

        The one request or response of a side that does not stream is not told of: the request belongs to every call
        that begins; the response to every one that ends with OK, unless a caller's fallback answered (``recovered``).
        """

    def on_attempt_end(self, token: Any, attempt: Attempt) -> None:
        """End an attempt (client side)."""

    def on_event(self, token: Any, event: Event) -> None:
        """Learn what a policy decided."""

    def on_end(self, token: Any, outcome: Outcome) -> None:
        """End: exactly once for each ``on_start``. The call's observers are active: `activate` was entered."""

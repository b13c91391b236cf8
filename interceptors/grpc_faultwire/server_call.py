"""One RPC on a server, without I/O: what the handler said, what leaves, and that it ends exactly once.

An adapter makes a `ServerCall`, hands the handler a context that writes into it, and asks at the handler's exit what to
do. Every exit gives an answer: nothing may leave a caller waiting.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import grpc

from grpc_faultwire import stack
from grpc_faultwire.audience import Audience
from grpc_faultwire.category import Origin, Severity
from grpc_faultwire.errors import (
    Cancelled,
    DeadlineExceeded,
    Internal,
    StatusError,
    Unknown,
    error_class,
)
from grpc_faultwire.exits import Exit, Recoverable, Reraise, Withdrawal
from grpc_faultwire.exposure import Exposure
from grpc_faultwire.messages import OWN_EXCEPTIONS, UNCHECKED, check, own_error
from grpc_faultwire.records import OK, CallInfo, Event, How, Outcome
from grpc_faultwire.redaction import Redactor, encodable, escaped
from grpc_faultwire.said import said_error, status_code
from grpc_faultwire.status import Reply, encode
from grpc_faultwire.trailers import valid_trailer
from grpc_faultwire.translation import MASKED, Translator
from grpc_faultwire.truncation import BUDGET, TRANSPORT, Trailer

logger = logging.getLogger("grpc_faultwire.server")

DEADLINE_TOLERANCE = 0.01
"""Seconds before a caller's deadline from which the end of a call within counts as its doing."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, repr=False)  # nobody compares or prints them
class Settings:
    """What all calls of one interceptor have in common; the interceptors' arguments say what each is.

    Raises:
        ValueError: a budget outside 1 KiB to 8 KiB.
    """

    translator: Translator
    audience: Audience
    redactor: Redactor
    exposure: Exposure
    budget: int
    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    random: Callable[[], float]

    def __post_init__(self) -> None:
        if not 1024 <= self.budget <= TRANSPORT:
            raise ValueError(f"budget is {self.budget!r}; it must be 1024 to {TRANSPORT} bytes (default {BUDGET})")


class Served:
    """A method that is served: what all its calls have in common, looked up once.

    Args:
        info: what is called.
        settings: the interceptor's.
        serializer: of its responses.
    """

    __slots__ = ("activates", "counts", "info", "message", "serializer", "settings", "streamed")

    def __init__(self, info: CallInfo, settings: Settings, serializer: Any) -> None:
        self.info = info
        self.settings = settings
        self.serializer = serializer
        self.streamed = info.kind.request_streaming
        self.activates = settings.audience.activates
        self.counts = settings.audience.counts_messages
        self.message = settings.audience.message


class ServerCall:
    """One RPC on a server.

    Args:
        served: what is called.
        context: the servicer context that grpc gave.
    """

    __slots__ = (
        "_ended",
        "_recovered",
        "_started",
        "aborted",
        "code",
        "context",
        "details",
        "exception",
        "info",
        "served",
        "settings",
        "tokens",
        "trailers",
    )

    def __init__(self, served: Served, context: Any) -> None:
        self.served = served
        self.info = info = served.info
        self.settings = settings = served.settings
        self.context = context
        self.exception: BaseException | None = None
        self.aborted: StatusError | None = None
        self.code: grpc.StatusCode | None = None
        self.details: str | None = None
        self.trailers: tuple[Trailer, ...] | None = None
        self._recovered: StatusError | None = None
        self._ended = False
        self._started = settings.clock()
        self.tokens = settings.audience.start(info)
        if settings.audience.extracts:
            settings.audience.extract(self.tokens, context)

    # What handlers, transformers and recoveries may know.

    @property
    def service(self) -> str:
        """The full name of the service."""
        return self.info.service

    @property
    def method(self) -> str:
        """The name of the method."""
        return self.info.method

    @property
    def expired(self) -> bool:
        """Whether the caller's deadline has passed, or is as good as passed.

        A deadline that a handler hands on to the calls it makes ends with its own, give or take some milliseconds.
        """
        remaining = self.remaining()
        return remaining is not None and remaining <= DEADLINE_TOLERANCE

    @property
    def cancelled(self) -> bool:
        """Whether the caller has gone for another reason than its deadline."""
        return self._inactive() and not self.expired

    def _inactive(self) -> bool:
        is_active = getattr(self.context, "is_active", None)
        return is_active is not None and not is_active()

    def remaining(self) -> float | None:
        """Return the seconds until the caller's deadline; None: no deadline."""
        remaining = self.context.time_remaining()
        # grpc's sync contexts answer with centuries where there is no deadline.
        return None if remaining is None or remaining > 1e9 else remaining

    def active(self) -> AbstractContextManager[Any]:
        """Return what is entered around each step of the handler."""
        return self.settings.audience.activate(self.tokens)

    def message(self, direction: Literal["sent", "received"]) -> None:
        """Count a message."""
        self.settings.audience.message(self.tokens, direction)

    def event(self, event: Event) -> None:
        """Tell observers of something within the call, such as how a batch's items ended; not once it has ended."""
        if not self._ended:
            self.settings.audience.tell(self.settings.audience.on_event, self.tokens, event)

    # What the handler says through its context.

    def abort(self, code: Any, message: Any, trailers: Iterable[Trailer] = ()) -> None:
        """Note that the handler aborts. The first abort counts: a second one would change what was said already."""
        if self.aborted is None:
            self.add_trailers(trailers)
            self.aborted = said_error(code, message, tuple(trailers))

    def add_trailers(self, trailers: Iterable[Trailer]) -> None:
        """Add to the trailers that the handler has set."""
        self.trailers = (*(self.trailers or ()), *trailers)

    def set_trailers(self, trailers: Iterable[Trailer]) -> tuple[Trailer, ...]:
        """Replace the trailers that the handler has set.

        Raises:
            TypeError: they are no pairs, which grpc.aio refuses in the same way.
            ValueError: one cannot travel; gRPC's core would replace the whole status because of it.
        """
        given = tuple(trailers)
        if isinstance(trailers, dict) or not all(isinstance(pair, tuple | list) for pair in given):
            raise TypeError("trailing metadata must be pairs of a key and a value")
        pairs = tuple((key, value) for key, value in given)
        for key, value in pairs:
            if not valid_trailer(key, value):
                raise ValueError(
                    f"trailing metadata {key!r} cannot travel: keys are lower case, values printable ASCII, or bytes "
                    "under a key that ends in -bin"
                )
        self.trailers = pairs
        return pairs

    # How the handler ends.

    def returned(self, response: Any = None, *, serializer: Any = UNCHECKED, cancelled: bool = False) -> Exit:
        """Decide what happens when the handler has returned, or its stream has ended.

        Args:
            response: of a unary method.
            serializer: its method's.
            cancelled: whether the RPC's own task was cancelled, and the handler took no notice: then its caller has
                gone, unless it was the handler itself.

        Raises:
            UnserializableError: the response cannot be sent.
        """
        if self.aborted is not None:
            return self._answer(self.aborted)
        if self.code is not None and self.code is not OK:
            return self._answer(said_error(self.code, self.details, self.trailers or ()))
        if serializer is not UNCHECKED:
            check(response, serializer)
        gone = self._departure() if cancelled else self._gone()
        if gone is not None:
            self._end(gone, "cancelled")
        elif self._recovered is not None:
            self._end(None, "done")
        elif not self._ended:
            self._ended = True
            if self.settings.audience.counts_successes:
                seconds = self.settings.clock() - self._started
                self.settings.audience.succeeded(self.tokens, Outcome(OK, seconds, "done"))
        return None

    def raised(self, exception: BaseException, *, cancelled: bool = False) -> Exit:
        """Decide what happens when the handler, or reading from its stream, has raised.

        Args:
            exception: what was raised.
            cancelled: whether it came of the cancellation of the RPC's own task, by grpc or by the handler itself.
        """
        if self.aborted is not None:
            return self._answer(self.aborted)
        if type(exception) is grpc.RpcError and self._gone() is not None:
            # grpc's own word for a cancelled call, and it must see that very object again.
            self.gone()
            return Reraise(exception)
        if cancelled:
            masked = Internal(MASKED)
            return Withdrawal(exception, masked, self._reply(masked, exception))
        self.exception = exception
        if isinstance(exception, OWN_EXCEPTIONS):
            return self._answer(own_error(exception), exception.__cause__)
        return self._translated(exception)

    def _translated(self, exception: BaseException) -> Exit:
        translator = self.settings.translator
        error, hidden, recoveries = (
            (exception, None, ())  # as it would say, too
            if translator.empty and isinstance(exception, StatusError) and exception.origin is Origin.RAISED
            else translator.translate(exception, self)
        )
        if error is None:
            self._end(Unknown("An exception was left to grpc."), "done", exception)
            return Reraise(exception)
        if self.code is not None and self.code is not OK and error.message is MASKED:
            # The handler said what went wrong before it raised; only the exception's own text is masked.
            error = error_class(status_code(self.code))(encodable(self.details or MASKED), severity=Severity.ERROR)
        if recoveries and self._recovered is None:
            return Recoverable(recoveries, error)
        return self._answer(error, hidden)

    def gone(self) -> None:
        """Note that the caller has gone: it cancelled the call, or its deadline passed."""
        self._end(self._departure(), "cancelled")

    def _departure(self) -> StatusError:
        # A caller's cancellation at its deadline may be here some milliseconds before the deadline is.
        return (
            DeadlineExceeded("The deadline expired.") if self.expired else Cancelled("The caller cancelled the call.")
        )

    def recovered(self, error: StatusError, answer: Any = None, serializer: Any = UNCHECKED) -> Exit:
        """Note that an answer is given in place of an error, of a stream its first; a stream goes on from here.

        Raises:
            UnserializableError: the answer of a unary method cannot be sent.
        """
        self._recovered = error
        self.event(Event(name="recovered", attributes={"error": error}))
        self.code = None
        return self.returned(answer, serializer=serializer) if serializer is not UNCHECKED else None

    def unrecovered(self, error: StatusError, failure: BaseException | None = None) -> Exit:
        """Decide what happens when no recovery gave an answer, or one of them failed."""
        if failure is None:
            return self._answer(error, self.exception if self.exception is not error else None)
        if failure.__context__ is None:
            failure.__context__ = self.exception
        return self._answer(Internal(MASKED), failure)

    def _gone(self) -> StatusError | None:
        # As `cancelled` and `expired`, in one step: every call asks.
        context = self.context
        is_active = getattr(context, "is_active", None)
        if is_active is None or is_active():
            remaining = context.time_remaining()
            if remaining is None or remaining > 0:
                return None
        return self._departure()

    def answered(self, withdrawal: Withdrawal) -> None:
        """Note that a withdrawal's reply was sent: the caller had not gone."""
        self._end(withdrawal.error, "done", withdrawal.exception)

    def _answer(self, error: StatusError, exception: BaseException | None = None) -> Reply:
        reply = self._reply(error, exception)
        self._end(error, "done", exception)
        if reply.undeclared or reply.dropped:
            _warn(error, reply)
        return reply

    def _reply(self, error: StatusError, exception: BaseException | None) -> Reply:
        settings = self.settings
        trailers = self.trailers
        if trailers is None:
            # An interceptor outside this one may have set some before the handler was called.
            asked = getattr(self.context, "trailing_metadata", None)
            trailers = tuple((asked() if asked is not None else None) or ())
        exposed = settings.exposure.stacks != "off" and settings.exposure.allows(self.context)
        delayed = error._retry_delay is not None  # all else says nothing of when
        return encode(
            error,
            service=self.info.service,
            method=self.info.method,
            redactor=settings.redactor,
            now=settings.wall_clock(),
            jitter=settings.random() if delayed else 0.0,
            domain=settings.translator.domain,
            trailers=trailers,
            stack=stack.frames(exception or error) if exposed else (),
            remaining=self.remaining() if delayed else None,
            budget=settings.budget,
        )

    def _end(
        self,
        error: StatusError | None,
        how: How,
        exception: BaseException | None = None,
    ) -> None:
        # Let go of: its traceback holds this call, and all of it would wait for the garbage collector.
        translated, self.exception = self.exception, None
        if self._ended:
            return
        self._ended = True
        recovered = self._recovered
        if exception is None and recovered is not None and translated is not recovered:
            exception = translated
        outcome = Outcome(
            OK if error is None else error._code,
            self.settings.clock() - self._started,
            how,
            error,
            exception=exception,
            recovered=recovered,
        )
        self.settings.audience.ended(self.tokens, outcome)


def call_of(context: Any) -> ServerCall | None:
    """Return the call behind the context that a handler got, however deep others have wrapped it; None: not ours."""
    call = getattr(context, "call", None)
    return call if isinstance(call, ServerCall) else None


def _warn(error: StatusError, reply: Reply) -> None:
    if reply.undeclared:
        name = f"{error.domain or ''}/{error.reason}"
        logger.warning("undeclared metadata of %s did not leave: %s", escaped(name), ", ".join(reply.undeclared))
    if "trailers" in reply.dropped:
        logger.warning("trailers of error %s did not fit beside its status, and were dropped", error.error_id)

"""A call in progress: what grpc's callbacks and our timers hold. Its caller holds a `Call`, so dropping is noticed.

Everything happens in the event loop's thread, so the callback of an attempt always decides before anyone who awaits
that attempt resumes: whoever resumes looks whether its attempt is still the call's.
"""

from __future__ import annotations

import _thread
import contextvars
import logging
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, cast

import grpc
import grpc.aio

from grpc_faultwire.aio.answer import Answer
from grpc_faultwire.aio.hedging import Hedges
from grpc_faultwire.aio.listeners import MOMENT
from grpc_faultwire.aio.native import COLLECTED, LOCALLY_CANCELLED, OWN, failure, is_doubtful, is_local
from grpc_faultwire.aio.recovering import Recovering
from grpc_faultwire.aio.requests import Over, Requests
from grpc_faultwire.aio.serializers import OWNER
from grpc_faultwire.errors import StatusError
from grpc_faultwire.faults import warn_once
from grpc_faultwire.flow import Flow
from grpc_faultwire.getters import at_once
from grpc_faultwire.local_errors import cancelled, failed
from grpc_faultwire.plan import UNANSWERED
from grpc_faultwire.records import Attempt, How
from grpc_faultwire.status import decode

if TYPE_CHECKING:
    from grpc_faultwire.aio.method import Method

_LOGGER = logging.getLogger(__name__)

Send = Callable[..., Any]
"""Puts an attempt on the wire: called with the request or requests, ``timeout`` and ``metadata``, it returns grpc's
call."""


class Running(Recovering):
    """One call, over as many attempts as it takes.

    Args:
        method: what is called.
        send: puts an attempt on the wire.
        timeout: seconds that the caller allows.

    Attributes:
        flow: what is decided; made when something is to be: see `Plan.begin`.
        requests: keeps the requests of a call that may be sent again; None if it may not, or has but one.
    """

    __slots__ = (
        "__weakref__",
        "_attempt",
        "_begun",
        "_deserialized",
        "_hedges",
        "_metadata",
        "_method",
        "_reference",
        "_send",
        "_timeout",
        "requests",
    )

    requests: Requests | Over | None
    _hears_of_responses: ClassVar[bool] = True
    """Whether the deserializer is ours, and tells `deserialized`."""

    def __init__(self, method: Method, send: Send, timeout: float | None) -> None:
        # What `Running` is made of has no constructors of its own: this one runs for every call.
        plan = method.plan
        self._timeout = timeout
        self._begun = plan.begin(timeout) if plan.simple else None
        if self._begun is None:
            self.flow = Flow(plan, timeout)
        self.loop = method.loop
        self.call = self.error = self.requests = None
        self.ended = False
        self._method = method
        self._send: Send | None = send
        self._attempt: Attempt | None = None
        self._hedges: Hedges | None = None
        self._metadata: Any = None
        self._deserialized = False
        self._reference: weakref.ref[Running] = weakref.ref(self)
        self._backoffs = method.backoffs
        self._context = contextvars.copy_context() if method.retries else None
        self._request = self._following = self._timer = None
        self._last = UNANSWERED
        self._waiters = self._callbacks = self._face = self._handle = None

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name != "flow":
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            begun, self._begun = self._begun, None
            self.flow = flow = Flow(self._method.plan, self._timeout, begun)
            return flow

    # Attempts.

    def start(self, request: Any, metadata: Any) -> None:
        """Send the first attempt, in the caller's context.

        Args:
            request: or the iterator of requests; None: they will be written.
            metadata: the caller's.

        Raises:
            Exception: what grpc raises at once, such as UsageError on a closed channel.
        """
        attempt = self.first(request, metadata) if self._begun is None else self._begun[0]
        if attempt is None:
            return
        owner = OWNER.set(self._reference)  # own(), written out: every call comes here
        try:
            if self._begun is None:
                self._put(attempt)
            else:
                self._begin(attempt, request, metadata)
        except BaseException as raised:
            self.end(failed(raised, grpc.aio.Metadata()), "failed")
            raise
        finally:
            OWNER.reset(owner)

    def first(self, request: Any, metadata: Any) -> Attempt | None:
        """Begin the first attempt; None if a policy refused it, and the call has ended."""
        self._metadata = metadata
        if self._begun is not None:
            self._request = self._following = request
            return self._begun[0]
        if self._method.streams_requests and self._method.retries and self.flow.retriable:
            self.requests = Requests(self, request, self._context, self._method.replay_bytes)
        else:
            self._request = self._following = request
        try:
            attempt = self.flow.send()
        except StatusError as refusal:
            # Its traceback leads back here, and so to itself.
            self.conclude(refusal.with_traceback(None))
            return None
        if attempt is None:
            self.go_on(None)
        return attempt

    def outgoing(self, attempt: Attempt) -> Any:
        """Return the metadata to send with an attempt."""
        pairs, given = self.flow.injected(attempt), self._metadata
        if self.flow.credentials:
            pairs += self.flow.credentials
            refreshed = {key.lower() for key, _ in self.flow.credentials}
            given = [(key, value) for key, value in given or () if key.lower() not in refreshed]
        return grpc.aio.Metadata(*(given or ()), *pairs) if pairs else given

    def own(self) -> contextvars.Token[Any]:
        """Make this the owner of the messages that are serialized in this context."""
        return OWNER.set(self._reference)

    def adopt(self, attempt: Attempt, call: Any) -> None:
        """Go on with the call object of an attempt that is on the wire."""
        if self.ended:
            call.cancel()
            return
        if self._method.hedges and self.flow.retriable:
            self._hedged().add(attempt, call)
            return
        self._attempt, self.call = attempt, call
        if not self._method.retries or (self._begun is None and not self.flow.retriable):
            self._forget()
        call.add_done_callback(self._on_done)
        if isinstance(self.requests, Requests):
            self.requests.restart()
        if self._waiters:
            self.wake()

    def lost(self, attempt: Attempt, error: StatusError) -> None:
        """Go on after an attempt that failed before it had a call object."""
        if self._method.hedges and self.flow.retriable:
            self._hedged().lost(attempt, error)
            return
        self._attempt = attempt
        self.fail(error)

    def win(self, attempt: Attempt, call: Any) -> None:
        """End the call with the answer of a hedged attempt."""
        self._attempt, self.call = attempt, call
        self._succeed()

    def _hedged(self) -> Hedges:
        if self._hedges is None:
            self._hedges = Hedges(self)
        return self._hedges

    def resend(self, attempt: Attempt) -> None:
        """Send another attempt."""
        try:
            self.own()
            self._put(attempt)
        except Exception as raised:  # noqa: BLE001  # there is no caller here to raise it to
            self.end(failed(raised, grpc.aio.Metadata()), "failed")

    def _put(self, attempt: Attempt) -> None:
        if self._send is None:
            return
        plain = attempt.number == 1 and not self._method.injects
        metadata = self._metadata if plain else self.outgoing(attempt)
        if self._method.activates:
            with self.flow.activate():
                call = self._send(self._following, timeout=attempt.timeout, metadata=metadata)
        else:
            call = self._send(self._following, timeout=attempt.timeout, metadata=metadata)
        self.adopt(attempt, call)

    def _begin(self, attempt: Attempt, request: Any, metadata: Any) -> None:
        """Put the first attempt on the wire of a call that may need no flow: `first`, `_put` and `adopt` in short."""
        send = cast("Send", self._send)
        if self._method.retries:
            self._metadata, self._request, self._following = metadata, request, request
        else:
            self._send = None
        call = send(request, timeout=attempt.timeout, metadata=metadata)
        self._attempt, self.call = attempt, call
        call.add_done_callback(self._on_done)

    def close(self) -> None:
        """Send nothing any more: the channel is closed."""
        if self._hedges is not None and self._hedges.flying:
            self.unschedule()
        else:
            self.end(cancelled(LOCALLY_CANCELLED, grpc.aio.Metadata()), "cancelled")

    def go_on(self, delay: float | None) -> None:
        """Do what the flow has decided about the next attempt: end, ask a fallback, or wait and send it."""
        if self.flow.how is not None:
            self.conclude(self.flow.error)
        elif self.flow.falling is not None:
            self._cut()
            self.fall_back()
        elif delay is not None:
            self.call = None
            self.schedule(delay, self.refresh)

    def again(self) -> None:
        """Send the next attempt."""
        attempt = self.flow.send()
        if attempt is None:
            self.go_on(None)
        else:
            self.resend(attempt)

    # Ends. grpc calls back from whatever is running, even from a finalizer.

    def _on_done(self, call: Any) -> None:
        if self.ended or call is not self.call:
            return
        try:
            # What grpc.aio asks itself before it deserializes the response; getters are coroutines, which cost more.
            ok = call._cython_call.is_ok() if type(call) in OWN else at_once(call.code()) is grpc.StatusCode.OK
            error = None if ok else at_once(failure(call))
        except Exception:  # noqa: BLE001  # an interceptor's call that has to wait, or raises: failure() knows what to do
            self._timer = self.loop.create_task(self._judge_later(call))
            return
        if error is None:
            self._succeed()
        else:
            self.judge(call, error)

    async def _judge_later(self, call: Any) -> None:
        self.judge(call, await failure(call))

    def judge(self, call: Any, error: StatusError | None) -> None:
        """Go on after the attempt in flight has ended."""
        if self.ended or call is not self.call:
            return
        if error is None:
            self._succeed()
        elif is_local(error):
            if error.message == COLLECTED:
                self.drop()
            elif self.flow.close(error, "cancelled"):
                self.conclude(error)
        elif is_doubtful(error) and self._timer is None:
            # Not every grpcio calls back again when the status comes after all.
            self._timer = self.loop.call_later(MOMENT, self._on_done, call)
        else:
            self.fail(error)

    def _succeed(self) -> None:
        self.ended = True
        if self._timer is not None:
            self.unschedule()
        if isinstance(self.requests, Requests):
            self.requests = Over(self.requests)
        method, call = self._method, self.call
        teaching = self._teach(call, self._request) if method.learns else None
        if teaching is None and (method.streams_responses or self._deserialized):
            self._settle()
        elif teaching is None and self._hears_of_responses and type(call) in OWN:
            # Its response is deserialized next, in this very step of the loop: see `deserialized`.
            method.answering = self
        elif teaching is None:
            # Perhaps it will be, perhaps not; if so, then in this step too.
            self.loop.call_soon(self._settle)
        if self._send is not None:
            self._forget()
        if teaching is not None:
            self._timer = self.loop.create_task(teaching)
        if self._waiters or self._callbacks:
            self.tell()

    def deserialized(self) -> None:
        """Learn that the one response could be deserialized: grpc.aio does so right after a status of OK."""
        self._deserialized = True
        self._method.answering = None
        if self._begun is not None and self._attempt is not None and self._attempt.ended is None and self.ended:
            self._method.plan.succeed(*self._begun)
        elif self.ended and not self._method.learns:
            self._settle()

    async def _teach(self, call: Any, request: Any) -> None:
        try:
            self.flow.learn(request, await call)
        except Exception as raised:  # noqa: BLE001  # whatever a fallback cannot learn, the answer stands
            warn_once(_LOGGER, self.flow.plan.learn, raised, "An answer could not be learnt")
        finally:
            # Last: a call that is over teaches nobody.
            self._settle()

    def _settle(self) -> None:
        if self._attempt is None or self.error is not None:
            return
        if self._begun is None:
            self.flow.settle(self._attempt, None)
        elif self._attempt.ended is None:
            self._method.plan.succeed(*self._begun)

    def fail(self, error: StatusError) -> None:
        """Go on after the attempt in flight has failed."""
        self.unschedule()
        delay = self.flow.settle(self._attempt, error) if self._attempt is not None else None
        if delay is not None and self.flow.committed:
            # A policy that does not look: part of the answer is with the caller, or the requests are gone.
            self.flow.close(error, "done")
        self.go_on(delay)

    def fault(self, exception: Exception, message: str) -> None:
        """End the call: a serializer raised."""
        nothing = grpc.aio.Metadata()
        error = decode(grpc.StatusCode.INTERNAL, message, initial_metadata=nothing, trailing_metadata=nothing)
        error.__cause__ = exception
        self._method.answering = None
        if not self.end(error, "failed") and self.error is None:
            # The response of a call whose status was OK.
            self.flow.close(error, "failed")
            self.error = error

    def cancel(self) -> bool:
        """Cancel the call; False if it has ended."""
        if self.ended:
            return False
        if self.call is not None:
            cancelled_here: bool = self.call.cancel()
            return cancelled_here
        return self.end(cancelled(LOCALLY_CANCELLED, grpc.aio.Metadata()), "cancelled")

    def drop(self) -> None:
        """End the call because nobody holds it. Called by finalizers, so it takes no lock."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._abandon)
        else:
            # Nothing will run in that loop any more, and observers' locks may be held right here.
            _thread.start_new_thread(self._abandon, ())

    def _abandon(self) -> None:
        self.end(cancelled(COLLECTED, grpc.aio.Metadata()), "abandoned")

    def end(self, error: StatusError, how: How) -> bool:
        """End the call from outside; False if it has ended."""
        if self.ended or not self.flow.close(error, how):
            return False
        self.ended, self.error = True, error
        if self.call is not None and not self.loop.is_closed():
            self.call.cancel()
        self.conclude(error)
        return True

    def received(self, call: Any, response: Any) -> bool:
        """Take note of a response of a stream; False if its attempt has failed, and another takes over."""
        if call is not self.call:
            return False
        if response is not grpc.aio.EOF:
            if not self.ended and not (self.flow.committed and self.flow.delivered):
                if not self.flow.deliver():
                    return False
                if self.flow.resume is not None:
                    self._last = response
            if self._method.counts and type(call) is not Answer:
                self._method.message(self.flow.tokens, "received")
        return True

    def sent(self, data: Any, *, again: bool) -> None:
        """Take note of a request's bytes, which may be sent again."""
        if not again:
            self._method.message(self.flow.tokens, "sent")
        if self.requests is not None:
            self.requests.sent(data)

    def conclude(self, error: StatusError | None) -> None:
        """Let everybody know that the call has ended."""
        self.ended, self.error = True, error
        if self._timer is not None:
            self.unschedule()
        if isinstance(self.requests, Requests):
            self.requests.stop()
            self.requests = Over(self.requests)
        self._forget()
        if self._waiters or self._callbacks:
            self.tell()

    def _cut(self) -> None:
        if self._hedges is not None:
            self._hedges.cut()

    def _forget(self) -> None:
        if self._hedges is not None:
            self._hedges.cut()
        self._last = UNANSWERED
        self._send = self._request = self._following = self._metadata = self._timer = self._hedges = None

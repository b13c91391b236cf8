"""A call in progress: what grpc's callbacks and our timers hold. Its caller holds a `Call`, so dropping is noticed.

Everything happens in the event loop's thread, so the callback of an attempt always decides before anyone who awaits
that attempt resumes: whoever resumes looks whether its attempt is still the call's.
"""

from __future__ import annotations

import _thread
import asyncio
import contextvars
import copy
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from grpc_faultwire.aio.listeners import MOMENT, Listeners
from grpc_faultwire.aio.native import (
    COLLECTED,
    LOCALLY_CANCELLED,
    at_once,
    failure,
    is_doubtful,
    is_local,
    is_usage,
)
from grpc_faultwire.aio.requests import Requests
from grpc_faultwire.aio.serializers import OWNER
from grpc_faultwire.errors import StatusError
from grpc_faultwire.flow import Flow, cancelled, failed
from grpc_faultwire.records import Attempt, How
from grpc_faultwire.status import decode, from_rpc_error

if TYPE_CHECKING:
    from grpc_faultwire.aio.method import Method

Backoffs = set["Running"]
"""The calls of a channel that wait to be sent again, so that closing the channel ends them."""

Send = Callable[[Any, float | None, Any], Any]
"""Puts an attempt on the wire: called with the request or requests, a timeout and metadata, it returns grpc's call."""


class Running(Listeners):
    """One call, over as many attempts as it takes.

    Args:
        flow: what is decided.
        send: puts an attempt on the wire.
        method: what is called.

    Attributes:
        flow: the same.
        call: grpc's call object of the attempt in flight; None between attempts, and if there was none.
        ended: whether the call has ended for its caller.
        error: what it ended with; None while it goes on, and after OK.
        requests: keeps the requests of a call that may be sent again; None if it may not, or has but one.
    """

    __slots__ = (
        "__weakref__",
        "_attempt",
        "_context",
        "_metadata",
        "_method",
        "_reference",
        "_request",
        "_send",
        "_timer",
        "call",
        "ended",
        "error",
        "flow",
        "requests",
    )

    def __init__(self, flow: Flow, send: Send, method: Method) -> None:
        super().__init__(method.loop)
        self.flow = flow
        self.call: Any = None
        self.ended = False
        self.error: StatusError | None = None
        self.requests: Requests | None = None
        self._send: Send | None = send
        self._method = method
        self._attempt: Attempt | None = None
        self._request: Any = None
        self._metadata: Any = None
        self._context = contextvars.copy_context()
        self._timer: Any = None
        self._reference: weakref.ref[Running] = weakref.ref(self)

    # Attempts.

    def start(self, request: Any, metadata: Any) -> None:
        """Send the first attempt, in the caller's context.

        Args:
            request: or the iterator of requests; None: they will be written.
            metadata: the caller's.

        Raises:
            Exception: what grpc raises at once, such as UsageError on a closed channel.
        """
        attempt = self.first(request, metadata)
        if attempt is None:
            return
        try:
            self._context.run(self._put, attempt)
        except BaseException as raised:
            self.end(failed(raised, grpc.aio.Metadata()), "failed")
            raise

    def first(self, request: Any, metadata: Any) -> Attempt | None:
        """Begin the first attempt; None if a policy refused it, and the call has ended."""
        self._metadata = metadata
        if self.flow.retriable and self._method.streams_requests:
            self.requests = Requests(self, request, self._context)
        else:
            self._request = request
        try:
            return self.flow.send()
        except StatusError as refusal:
            self._conclude(refusal)
            return None

    def outgoing(self, attempt: Attempt) -> Any:
        """Return the metadata to send with an attempt."""
        pairs = self.flow.injected(attempt)
        return grpc.aio.Metadata(*(self._metadata or ()), *pairs) if pairs else self._metadata

    def own(self) -> contextvars.Token[Any]:
        """Make this the owner of the messages that are serialized in this context."""
        return OWNER.set(self._reference)

    def adopt(self, attempt: Attempt, call: Any) -> None:
        """Go on with the call object of an attempt that is on the wire."""
        self._attempt, self.call = attempt, call
        if not self.flow.retriable:
            self._forget()
        call.add_done_callback(self._on_done)
        if self.requests is not None:
            self.requests.restart()
        self.wake()

    def lost(self, attempt: Attempt, error: StatusError) -> None:
        """Go on after an attempt that failed before it had a call object."""
        self._attempt = attempt
        self._fail(error)

    def resend(self, attempt: Attempt) -> None:
        """Send another attempt."""
        try:
            self._put(attempt)
        except Exception as raised:  # noqa: BLE001  # there is no caller here to raise it to
            self.end(failed(raised, grpc.aio.Metadata()), "failed")

    def _put(self, attempt: Attempt) -> None:
        if self._send is None:
            return
        self.own()
        metadata = self.outgoing(attempt)
        if self._method.activates:
            with self.flow.activate():
                call = self._send(self._request, attempt.timeout, metadata)
        else:
            call = self._send(self._request, attempt.timeout, metadata)
        self.adopt(attempt, call)

    def _again(self) -> None:
        self._timer = None
        self._method.backoffs.discard(self)
        attempt = self.flow.send()
        if attempt is None:
            self._conclude(self.flow.error)
        else:
            self.resend(attempt)

    # Ends. grpc calls back from whatever is running, even from a finalizer.

    def _on_done(self, call: Any) -> None:
        if self.ended or call is not self.call:
            return
        try:
            error = None if at_once(call.code()) is grpc.StatusCode.OK else at_once(failure(call))
        except Exception:  # noqa: BLE001  # an interceptor's call that has to wait, or raises: failure() knows what to do
            self._timer = self.loop.create_task(self._judge_later(call))
            return
        if error is None:
            self._succeed()
        else:
            self._judge(call, error)

    async def _judge_later(self, call: Any) -> None:
        self._judge(call, await failure(call))

    def _judge(self, call: Any, error: StatusError | None) -> None:
        if self.ended or call is not self.call:
            return
        if error is None:
            self._succeed()
        elif is_local(error):
            if error.message == COLLECTED:
                self.drop()
            elif self.flow.close(error, "cancelled"):
                self._conclude(error)
        elif is_doubtful(error) and self._timer is None:
            # Not every grpcio calls back again when the status comes after all.
            self._timer = self.loop.call_later(MOMENT, self._on_done, call)
        else:
            self._fail(error)

    def _succeed(self) -> None:
        self.ended = True
        if self._method.streams_responses:
            self._settle()
        else:
            # The response is deserialized next, in this very step of the loop.
            self.loop.call_soon(self._settle)
        self._forget()
        if self._waiters or self._callbacks:
            self.tell()

    def _settle(self) -> None:
        if self._attempt is None or self.error is not None:
            return
        if self._method.counts and not self._method.streams_responses:
            self.flow.message("received")
        self.flow.settle(self._attempt, None)

    def _fail(self, error: StatusError) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        delay = self.flow.settle(self._attempt, error) if self._attempt is not None else None
        if delay is not None and self.flow.committed:
            # A policy that does not look: part of the answer is with the caller, or the requests are gone.
            self.flow.close(error, "done")
        if self.flow.how is not None:
            self._conclude(self.flow.error)
        elif delay is not None:
            self.call = None
            self._method.backoffs.add(self)
            self._timer = self.loop.call_later(delay, self._again, context=self._context)

    def fault(self, exception: Exception, message: str) -> None:
        """End the call: a serializer raised."""
        nothing = grpc.aio.Metadata()
        error = decode(grpc.StatusCode.INTERNAL, message, initial_metadata=nothing, trailing_metadata=nothing)
        error.__cause__ = exception
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
        self._conclude(error)
        return True

    def received(self, call: Any, response: Any) -> bool:
        """Take note of a response of a stream; False if its attempt has failed, and another takes over."""
        if call is not self.call:
            return False
        if response is not grpc.aio.EOF:
            if not self.flow.committed and not self.ended:
                self.flow.commit()
            if self._method.counts:
                self.flow.message("received")
        return True

    def sent(self, data: Any, *, again: bool) -> None:
        """Take note of a request's bytes, which may be sent again."""
        if not again:
            self.flow.message("sent")
        if self.requests is not None:
            self.requests.sent(data)

    def _conclude(self, error: StatusError | None) -> None:
        self.ended, self.error = True, error
        if self._timer is not None:
            self._timer.cancel()
            self._method.backoffs.discard(self)
        if self.requests is not None:
            self.requests.stop()
        self._forget()
        self.tell()

    def _forget(self) -> None:
        self._send = self._request = self._metadata = self._timer = None

    # Those who wait.

    async def next_call(self) -> Any:
        """Wait for another attempt, and return grpc's call object; cancels the RPC if the waiting task is cancelled.

        Raises:
            StatusError: the call has ended.
            asyncio.CancelledError: it was cancelled.
        """
        while self.call is None:
            if self.ended:
                self.raise_end(None)
            try:
                await self.turn()
            except asyncio.CancelledError:
                self.cancel()
                raise
        return self.call

    async def after(self, call: Any, raised: BaseException) -> bool:
        """Look what it means that grpc's call object raised something.

        Returns:
            True: raise it again. False: another attempt takes over.

        Raises:
            StatusError: the call has ended with this error.
        """
        if isinstance(raised, grpc.aio.AioRpcError):
            if call is self.call and not self.ended:
                self._learn(call, from_rpc_error(raised))
            while call is self.call and not self.ended:
                await self.turn()
            if self.ended:
                self.raise_end(raised)
            return False
        if isinstance(raised, asyncio.CancelledError):
            if self.flow.how == "failed":
                self.raise_end(raised)
        elif not is_usage(raised):
            # Metadata or a request that grpc cannot send: it raises in its own task, and there never is a status.
            self.end(failed(raised, grpc.aio.Metadata()), "failed")
        return True

    def _learn(self, call: Any, error: StatusError) -> None:
        if not call.done():
            # An interceptor of the bare channel, or its iterator, raised it on its own.
            self._fail(error)
            call.cancel()
        elif not is_doubtful(error):
            self._judge(call, error)

    def raise_end(self, cause: BaseException | None) -> None:
        """Raise what the call ended with, if it did not end with OK.

        A copy: with its traceback it would keep this call, which keeps the error.

        Args:
            cause: grpc's own error.
        """
        if self.error is None:
            return
        if self.flow.how in ("cancelled", "abandoned"):
            raise asyncio.CancelledError
        _ = self.error.error_id  # chosen when it is first asked for, and the same in every copy
        raise copy.copy(self.error) from self.error.__cause__ or cause

"""A call in progress: what grpc's callbacks and our timer hold. Its caller holds a `Call`: dropping it is noticed."""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc

from grpc_faultwire.errors import StatusError
from grpc_faultwire.flow import Flow
from grpc_faultwire.local_errors import cancelled, failed
from grpc_faultwire.plan import UNANSWERED
from grpc_faultwire.records import Attempt, How
from grpc_faultwire.status import from_rpc_error
from grpc_faultwire.sync.backoffs import Backoffs, closed_channel
from grpc_faultwire.sync.callbacks import Callbacks
from grpc_faultwire.sync.native import as_call, caused, failure, refused, reports_its_end
from grpc_faultwire.sync.recovery import Answered, elsewhere, fallen_back, refreshed, resumed
from grpc_faultwire.sync.timer import TIMER, Alarm

ENDED = object()
"""What `Running.next` returns once there is no response left."""

MOMENT = 0.1
"""Seconds in which grpc ends a call that was cancelled here."""

Start = Callable[[Attempt, Any], Any]
"""Puts an attempt on the wire, with this request, and returns grpc's call object."""


class Running:
    """A call over as many attempts as it takes, of which one is in flight; see `Reading` and `Hedged`.

    Args:
        flow: what is decided.
        start: puts an attempt on the wire.
        backoffs: the channel's.
        request: the caller's, or its requests.

    Attributes:
        flow: the same.
        inner: grpc's call object of the attempt in flight; None between attempts, and if there was none.
        done: whether the call has ended, and the observers know.
        abandoned: whether its caller dropped it.
        reports: whether attempts tell when they end; a single-threaded stream ends only while it is read.
    """

    def __init__(self, flow: Flow, start: Start, backoffs: Backoffs, request: Any = None) -> None:
        self.flow = flow
        self.inner: Any = None
        self.done = False
        self.abandoned = False
        self.reports = True
        self._start: Start | None = start
        self._backoffs = backoffs
        self._request = self._following = request
        self._last: Any = UNANSWERED
        self._answers: Iterator[Any] = iter(())
        self._falling = False
        self._waits = False
        self._context = contextvars.copy_context() if flow.retriable else None
        self._attempt: Attempt | None = None
        self._alarm: Alarm | None = None
        self._callbacks = Callbacks()
        self._reported = True
        self._changed = threading.Condition(threading.Lock())

    # Attempts.

    def begin(self) -> None:
        """Send the first attempt. What grpc raises at once is raised; a refusal is found in the call."""
        try:
            attempt = self.flow.send()
        except StatusError as refusal:
            refused(refusal)
            self._finish()
            return
        if attempt is None:
            self._go_on(None)
            return
        raised = self._launch(attempt)
        if raised is not None:
            raise raised

    def _launch(self, attempt: Attempt) -> BaseException | None:
        """Put an attempt on the wire; returns what grpc raised instead of a call, after it has been seen to."""
        start = self._start
        if start is None:
            return None
        try:
            with self.flow.activate():
                inner = as_call(start(attempt, self._following))
        except grpc.RpcError as raised:
            error = from_rpc_error(raised)
            self._settle(attempt, error)
            return error
        except BaseException as raised:  # noqa: BLE001  # begin() raises it
            self.end(failed(raised, ()), "failed")
            return raised
        self.reports = reports_its_end(inner)
        if not self.reports:
            TIMER.start()
        if not self._hold(attempt, inner):
            inner.cancel()
        inner.add_done_callback(partial(self._ended, attempt))
        return None

    def _hold(self, attempt: Attempt, inner: Any) -> bool:
        """Go on with an attempt that is on the wire; False if nobody wants it any more."""
        with self._changed:
            self.inner, self._attempt, self._reported = inner, attempt, False
            if not self.flow.retriable:
                self._start = None
            self._changed.notify_all()
            return not (self.done or self.abandoned)

    def _ended(self, attempt: Attempt, inner: Any) -> None:
        """Hear from grpc that an attempt has ended: in the channel's thread, so nothing may block or be raised."""
        with self._changed:
            if attempt is self._attempt:
                self._reported = True
                if self._left_to_reader():
                    return
        self._decide(attempt, inner)
        if self.done:
            self.fire()

    def _left_to_reader(self) -> bool:
        """Whether a thread that reads the attempt decides about its end; asked under the lock."""
        return False

    def _decide(self, attempt: Attempt, inner: Any) -> None:
        if attempt.ended is not None:
            return
        error = failure(inner)
        if self.abandoned and error is not None:
            self.end(error, "abandoned")
        else:
            if error is None and self.flow.plan.learn is not None:
                self._learn(inner)
            self._settle(attempt, error, inner)

    def _settle(self, attempt: Attempt, error: StatusError | None, inner: Any = None) -> None:
        delay = self.flow.settle(attempt, error)
        self._settled(attempt, inner)
        self._go_on(delay)

    def _learn(self, inner: Any) -> None:
        with contextlib.suppress(Exception):  # the call object of another interceptor: its caller will see
            self.flow.learn(self._request, inner.result())

    def _settled(self, attempt: Attempt, inner: Any) -> None:
        """Learn that an attempt was settled, before anybody hears of the end."""

    def _go_on(self, delay: float | None) -> None:
        if delay is not None:
            if self._pause():
                self._wake(delay)
        elif self.flow.told:
            self._finish()
        elif self.flow.falling is not None:
            self._fall_back()

    def _pause(self) -> bool:
        """Be without an attempt for a while, in which closing the channel ends the call; False if it has done so."""
        with self._changed:
            self.inner, self._attempt, self._reported = None, None, True
            self._waits = True
            self._changed.notify_all()
        added = self._backoffs.add(self)
        if not added:
            self.end(closed_channel(), "done")
        elif self.done:
            self._backoffs.discard(self)
        return added and not self.done

    def _wake(self, delay: float) -> None:
        with self._changed:
            previous = self._alarm
            if not self.done:
                self._alarm = TIMER.after(delay, self._send_again)
        if previous is not None:
            previous.cancel()

    def _send_again(self) -> None:
        with self._changed:
            self._alarm = None
        if self.abandoned:
            self.drop()
        elif self.flow.refresh is not None or self._last is not UNANSWERED:
            elsewhere(partial(self._within, self._prepare_and_send))
        else:
            self._send(self.flow.send)

    def _prepare_and_send(self) -> None:
        if refreshed(self.flow) and self._continues():
            self._send(self.flow.send)
        else:
            self._go_on(None)
            self._fire_elsewhere()

    def _continues(self) -> bool:
        if self._last is not UNANSWERED:
            self._following = resumed(self.flow, self._request, self._last)
        return self._following is not UNANSWERED

    def _send(self, ask: Callable[[], Attempt | None]) -> None:
        self._within(partial(self._ask_and_launch, ask))
        self._fire_elsewhere()

    def _ask_and_launch(self, ask: Callable[[], Attempt | None]) -> None:
        attempt = ask()
        if attempt is not None:
            self._backoffs.discard(self)
            self._launch(attempt)
        else:
            self._go_on(None)

    def _within(self, action: Callable[[], None]) -> None:
        """Do something in the caller's context: its variables are seen by observers, credentials and serializers."""
        # A copy: an attempt may end in another thread while this one is still inside the original.
        context = (self._context or contextvars.copy_context()).copy()
        try:
            context.run(action)
        except BaseException as raised:  # noqa: BLE001  # a policy's fault; without an end the call would hang
            self.end(failed(raised, ()), "failed")

    # Fallbacks.

    def _fall_back(self) -> None:
        with self._changed:
            if self._falling:
                return
            self._falling = True
        TIMER.start()
        if self._pause():
            elsewhere(partial(self._within, self._answer))

    def _answer(self) -> None:
        streaming = self.flow.plan.call.kind.response_streaming
        answer = fallen_back(self.flow, self._request, streaming=streaming)
        if answer is not UNANSWERED:
            self.inner = Answered(answer)
            self._answers = answer if streaming else iter(())
        self._finish()
        self.fire()

    # What it is asked.

    def next(self) -> Any:
        """Return the next response, or ENDED."""
        self.wait()
        return next(self._answers, ENDED)

    def initial_metadata(self) -> Any:
        """Return the initial metadata, once they are there; None if the call has ended without."""
        self.wait()
        return None if self.inner is None or self.flow.error is not None else self.inner.initial_metadata()

    # Ends.

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; False if it did not come in time."""
        if self.done:
            return True
        with self._changed:
            return self._changed.wait_for(lambda: self.done, timeout)

    def end(self, error: StatusError, how: How) -> bool:
        """End the call from outside; True if this did it."""
        if not self.flow.close(error, how):
            return False
        self._finish()
        self._fire_elsewhere()
        return True

    def cancel(self) -> bool:
        """As grpc's: True if the call had not ended."""
        inner = self.inner
        error = cancelled("Locally cancelled by application!", ())
        if inner is not None:
            caused(error, inner)
        if not self.end(error, "cancelled"):
            return False
        inner = self.inner
        if inner is not None:
            inner.cancel()
        return True

    def abandon(self) -> None:
        """Notice that the caller has dropped the call, without a lock but grpc's own: the garbage collector calls this.

        grpc's lock lets the same thread in again.
        """
        self.abandoned = True
        inner = self.inner
        if inner is not None:
            getattr(inner, "_abandon", inner.cancel)()
        if inner is None or not self.reports:
            TIMER.post(self.drop)

    def part(self) -> None:
        """Wait a moment for the end of a call that its caller has left.

        No longer: the garbage collector closes generators too, in a thread that may hold what the end needs.
        """
        if not self.done and self._changed.acquire(timeout=MOMENT):
            try:
                self._changed.wait_for(lambda: self.done, MOMENT)
            finally:
                self._changed.release()

    def drop(self) -> None:
        """End a call that its caller has dropped and that no callback of grpc will end."""
        self.end(cancelled("Cancelled upon garbage collection!", ()), "abandoned")

    def _finish(self) -> None:
        """Let everybody who waits know, and forget what another attempt would have needed."""
        with self._changed:
            self.done = True
            alarm, self._alarm = self._alarm, None
            self._start = self._context = self._request = self._following = None
            self._changed.notify_all()
        if alarm is not None:
            alarm.cancel()
        if self._waits:
            self._backoffs.discard(self)

    # The caller's callbacks.

    def call_back(self, callback: Callable[[], Any]) -> bool:
        """Remember a callback until the call ends; False if they have been called."""
        return self._callbacks.add(callback)

    def call_back_unless_done(self, callback: Callable[[], Any]) -> bool:
        """Remember a callback; False if the call has ended."""
        return not self.done and self._callbacks.add(callback)

    def fire(self) -> None:
        """Call the callbacks, once, in the order in which they came."""
        # grpc's single-threaded calls let faults through to the reader, in whose thread this is.
        self._callbacks.fire(raising=not self.reports)

    def _fire_elsewhere(self) -> None:
        """Call the callbacks if grpc's own came before the end, or will not come; never in a thread that waits."""
        if not self.done or not self._reported or self._callbacks.closed_empty():
            return
        if self.reports:
            TIMER.after(0.0, self.fire)
        else:
            self.fire()

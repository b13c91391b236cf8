"""A call in progress: what grpc's callbacks and our timer hold. Its caller holds a `Call`: dropping it is noticed.

Who decides when an attempt has ended? grpc's callback, in the channel's thread; but a thread that waits inside the
attempt decides in its place as long as another attempt is possible: else both would go on, and a message would be
delivered twice.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc

from grpc_faultwire.errors import StatusError
from grpc_faultwire.flow import Flow, cancelled, failed
from grpc_faultwire.records import Attempt, How
from grpc_faultwire.status import from_rpc_error
from grpc_faultwire.sync.backoffs import Backoffs, closed_channel
from grpc_faultwire.sync.native import as_call, caused, failure, raised_by, refused, reports_its_end
from grpc_faultwire.sync.timer import TIMER, Alarm

_LOGGER = logging.getLogger(__name__)

ENDED = object()
"""What `Running.next` returns once there is no response left."""

Start = Callable[[Attempt], Any]
"""Puts an attempt on the wire, and returns grpc's call object."""


class Running:
    """A future or a stream, over as many attempts as it takes.

    Args:
        flow: what is decided.
        start: puts an attempt on the wire.
        backoffs: the channel's.

    Attributes:
        flow: the same.
        inner: grpc's call object of the attempt in flight; None between attempts, and if there was none.
        done: whether the call has ended, and the observers know.
        abandoned: whether its caller dropped it.
        reports: whether attempts tell when they end; a single-threaded stream ends only while it is read.
    """

    def __init__(self, flow: Flow, start: Start, backoffs: Backoffs) -> None:
        self.flow = flow
        self.inner: Any = None
        self.done = False
        self.abandoned = False
        self.reports = True
        self._start: Start | None = start
        self._backoffs = backoffs
        self._context = contextvars.copy_context() if flow.retriable else None
        self._attempt: Attempt | None = None
        self._alarm: Alarm | None = None
        self._callbacks: list[Callable[[], Any]] | None = []
        self._readers = 0
        self._left_to_reader = False
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
        raised = self._launch(attempt) if attempt is not None else None
        if raised is not None:
            raise raised

    def _launch(self, attempt: Attempt) -> BaseException | None:
        """Put an attempt on the wire; returns what grpc raised instead of a call, after it has been seen to."""
        start = self._start
        if start is None:
            return None
        try:
            with self.flow.activate():
                inner = as_call(start(attempt))
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
        with self._changed:
            self.inner, self._attempt, self._reported = inner, attempt, False
            if not self.flow.retriable:
                self._start = None
            unwanted = self.done or self.abandoned
            self._changed.notify_all()
        if unwanted:
            inner.cancel()
        inner.add_done_callback(partial(self._ended, attempt))
        return None

    def _ended(self, attempt: Attempt, inner: Any) -> None:
        """Hear from grpc that an attempt has ended: in the channel's thread, so nothing may block or be raised."""
        with self._changed:
            if attempt is self._attempt:
                self._reported = True
            if self._readers and self.flow.retriable:
                self._left_to_reader = True
                return
        self._decide(attempt, inner)
        if self.done:
            self.fire()

    def _decide(self, attempt: Attempt, inner: Any) -> None:
        if attempt.ended is not None:
            return
        error = failure(inner)
        if self.abandoned and error is not None:
            self.end(error, "abandoned")
        else:
            self._settle(attempt, error)

    def _settle(self, attempt: Attempt, error: StatusError | None) -> None:
        if error is None and attempt.ended is None and not self.flow.plan.call.kind.response_streaming:
            self.flow.message("received")
        delay = self.flow.settle(attempt, error)
        if delay is not None:
            self._wait_and_send(delay)
        elif self.flow.told:
            self._finish()

    def _wait_and_send(self, delay: float) -> None:
        with self._changed:
            self.inner, self._attempt, self._reported = None, None, True
        if not self._backoffs.add(self):
            self.end(closed_channel(), "done")
            return
        with self._changed:
            if not self.done:
                self._alarm = TIMER.after(delay, self._send_again)
                return
        self._backoffs.discard(self)

    def _send_again(self) -> None:
        self._backoffs.discard(self)
        with self._changed:
            self._alarm = None
            context = self._context or contextvars.copy_context()
        if self.abandoned:
            self.drop()
            return
        try:
            # Observers, credentials and serializers see the caller's context variables, not those of the timer.
            attempt = context.run(self.flow.send)
            if attempt is not None:
                context.run(self._launch, attempt)
            elif self.flow.told:
                self._finish()
        except BaseException as raised:  # noqa: BLE001  # a policy's fault; without an end the call would hang
            self.end(failed(raised, ()), "failed")
        self._fire_elsewhere()

    # Reading.

    def next(self) -> Any:
        """Return the next response, or ENDED."""
        while (entered := self._enter()) is not None:
            attempt, inner = entered
            try:
                with self.flow.activate():
                    response = next(inner)
            except StopIteration:
                self._leave(attempt, inner)
                self._settle(attempt, None)
            except grpc.RpcError as raised:
                error = raised_by(inner, raised)
                self._leave(attempt, inner)
                self._settle(attempt, error)
            except BaseException:
                self._leave(attempt, inner)
                raise
            else:
                delivered = self.flow.commit()
                self._leave(attempt, inner)
                if delivered:
                    self.flow.message("received")
                    return response
            self._await_change(attempt)
        return ENDED

    def initial_metadata(self) -> Any:
        """Return the initial metadata, once they are there; None if the call has ended without."""
        while (entered := self._enter()) is not None:
            attempt, inner = entered
            delivered = False
            try:
                metadata = inner.initial_metadata()
                if self.flow.retriable and inner.done():
                    self._left_to_reader = True
                else:
                    delivered = self.flow.commit()
            finally:
                self._leave(attempt, inner)
            if delivered:
                return metadata
            self._await_change(attempt)
        return None if self.inner is None or self.flow.error is not None else self.inner.initial_metadata()

    def _enter(self) -> tuple[Attempt, Any] | None:
        """Become a reader of the attempt in flight, waiting for it if need be; None if the call has ended."""
        with self._changed:
            while not self.done:
                if self._attempt is not None:
                    self._readers += 1
                    return self._attempt, self.inner
                self._changed.wait()
        return None

    def _leave(self, attempt: Attempt, inner: Any) -> None:
        with self._changed:
            self._readers -= 1
            decide = self._left_to_reader and not self._readers
            if decide:
                self._left_to_reader = False
        if decide:
            self._decide(attempt, inner)
            self._fire_elsewhere()

    def _await_change(self, attempt: Attempt) -> None:
        """Wait until whoever ends the call, or goes on to another attempt, has done so."""
        with self._changed:
            self._changed.wait_for(lambda: self.done or self._attempt is not attempt)
        self._fire_elsewhere()

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

    def drop(self) -> None:
        """End a call that its caller has dropped and that no callback of grpc will end."""
        self.end(cancelled("Cancelled upon garbage collection!", ()), "abandoned")

    def _finish(self) -> None:
        """Let everybody who waits know, and forget what another attempt would have needed."""
        with self._changed:
            self.done = True
            alarm, self._alarm = self._alarm, None
            self._start = self._context = None
            self._changed.notify_all()
        if alarm is not None:
            alarm.cancel()
            self._backoffs.discard(self)

    # The caller's callbacks.

    def call_back(self, callback: Callable[[], Any]) -> bool:
        """Remember a callback until the call ends; False if they have been called."""
        with self._changed:
            if self._callbacks is None:
                return False
            self._callbacks.append(callback)
            return True

    def call_back_unless_done(self, callback: Callable[[], Any]) -> bool:
        """Remember a callback; False if the call has ended."""
        with self._changed:
            if self.done or self._callbacks is None:
                return False
            self._callbacks.append(callback)
            return True

    def fire(self) -> None:
        """Call the callbacks, once, in the order in which they came."""
        with self._changed:
            callbacks, self._callbacks = self._callbacks or (), None
        for callback in callbacks:
            try:
                callback()
            except BaseException:
                if not self.reports:
                    # grpc's single-threaded calls let it through to the reader, in whose thread this is.
                    raise
                _LOGGER.exception("Exception in callback %r", callback)

    def _fire_elsewhere(self) -> None:
        """Call the callbacks if grpc's own came before the end, or will not come; never in a thread that waits."""
        with self._changed:
            if not self.done or not self._reported or self._callbacks is None:
                return
            if not self._callbacks:
                self._callbacks = None
                return
        if self.reports:
            TIMER.after(0.0, self.fire)
        else:
            self.fire()

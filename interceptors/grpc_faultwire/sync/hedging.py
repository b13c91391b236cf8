"""Calls of which several attempts may be in flight: one request, one response, and no side effects."""

from __future__ import annotations

from typing import Any

from grpc_faultwire.records import Attempt
from grpc_faultwire.sync.running import Running
from grpc_faultwire.sync.timer import TIMER, Alarm


class Hedged(Running):
    """A future whose attempts may overlap: the first good answer, or the first fatal error, ends it.

    ``inner`` is the attempt that has won, once there is one. Until then nobody can tell whose initial metadata the
    caller will get, so asking for them waits for the end.
    """

    _flying: tuple[tuple[Attempt, Any], ...] = ()
    _next: Alarm | None = None

    def abandon(self) -> None:
        """Cancel what is in flight, without a lock: the garbage collector calls this."""
        self.abandoned = True
        for _, inner in self._flying:
            inner.cancel()
        TIMER.post(self.drop)

    def _hold(self, attempt: Attempt, inner: Any) -> bool:
        with self._changed:
            self._flying = (*self._flying, (attempt, inner))
            wanted = not (self.done or self.abandoned)
        if wanted:
            self._await_next()
        return wanted

    def _await_next(self) -> None:
        due = self.flow.hedge_in()
        TIMER.start()
        if due is None:
            return
        with self._changed:
            if self.done:
                return
            previous, self._next = self._next, TIMER.after(due, self._send_beside)
        if previous is not None:
            previous.cancel()

    def _wake(self, delay: float) -> None:
        # What was due beside those in flight is so no more: the policy has said anew.
        with self._changed:
            alarm, self._next = self._next, None
        if alarm is not None:
            alarm.cancel()
        super()._wake(delay)

    def _send_beside(self) -> None:
        if not self.abandoned:
            self._send(self.flow.hedge)

    def _decide(self, attempt: Attempt, inner: Any) -> None:
        with self._changed:
            self._flying = tuple(one for one in self._flying if one[0] is not attempt)
        super()._decide(attempt, inner)

    def _settled(self, attempt: Attempt, inner: Any) -> None:
        # The others were cut with an error, whatever they answered.
        if attempt.error is None:
            self.inner = inner

    def _finish(self) -> None:
        super()._finish()
        with self._changed:
            flying, self._flying = self._flying, ()
            alarm, self._next = self._next, None
        if alarm is not None:
            alarm.cancel()
        for _, inner in flying:
            inner.cancel()

    def _fall_back(self) -> None:
        with self._changed:
            flying = self._flying
        for _, inner in flying:
            inner.cancel()
        super()._fall_back()

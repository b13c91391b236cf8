"""Notices: how a listener is told of changes without being able to do harm."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from grpc_faultwire.policies.circuit import Transition

_logger = logging.getLogger(__name__)


class Notices:
    """Transitions on their way to a listener: posted under the breaker's lock, delivered outside it.

    One is delivered at a time, in the order of posting. A listener that causes another (it called the breaker) hears
    of it after it has returned, from whichever thread delivers; so it can neither recurse nor deadlock.

    Attributes:
        waiting: those not delivered yet.
    """

    __slots__ = ("_delivering", "_listener", "waiting")

    def __init__(self, listener: Callable[[Transition], None] | None) -> None:
        self._listener = listener
        self._delivering = threading.Lock()
        self.waiting: deque[Transition] = deque()

    def post(self, transition: Transition) -> None:
        """Add one to those waiting; without a listener, there is nobody to wait for."""
        if self._listener is not None:
            self.waiting.append(transition)

    def deliver(self) -> None:
        """Deliver what is waiting, unless another thread (or an outer call of this one) is at it.

        That one looks again after it has let go of the lock, so nothing is left behind.
        """
        while self.waiting and self._delivering.acquire(blocking=False):
            try:
                self._deliver_next()
            finally:
                self._delivering.release()

    def _deliver_next(self) -> None:
        if self._listener is None or not self.waiting:
            return
        try:
            self._listener(self.waiting.popleft())
        except Exception:  # whatever it is, the call that moved the breaker has nothing to do with it
            _logger.exception("A listener of a circuit breaker raised.")

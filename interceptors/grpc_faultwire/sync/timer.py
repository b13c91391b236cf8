"""The one thread that waits out backoffs of calls that nobody waits for, and runs what must not run elsewhere."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import os
import queue
import threading
import time
from collections.abc import Callable

_LOGGER = logging.getLogger(__name__)


class Alarm:
    """Something to do at some time. Comparing tells which is due first."""

    __slots__ = ("_action", "_order", "when")

    _count = itertools.count()

    def __init__(self, when: float, action: Callable[[], None]) -> None:
        self.when = when
        self._order = next(self._count)
        self._action: Callable[[], None] | None = action

    def __lt__(self, other: Alarm) -> bool:
        return (self.when, self._order) < (other.when, other._order)

    def cancel(self) -> None:
        """Forget the action, and whatever it holds."""
        self._action = None

    def ring(self) -> None:
        """Do it, unless it was cancelled. Nothing escapes: the thread serves every channel of the process."""
        action, self._action = self._action, None
        if action is not None:
            try:
                action()
            except BaseException:
                _LOGGER.exception("A timer's action failed")


class Timer:
    """Alarms, rung by one daemon thread, which starts when it is first needed and anew after a fork."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._alarms: queue.SimpleQueue[Alarm] = queue.SimpleQueue()
        self._running = False

    def start(self) -> None:
        """Make sure that the thread runs, for `post`."""
        if not self._running:
            with self._lock:
                if not self._running:
                    self._running = True
                    threading.Thread(target=_ring, args=(self._alarms,), name="faultwire-timer", daemon=True).start()

    def after(self, seconds: float, action: Callable[[], None]) -> Alarm:
        """Run the action in so many seconds; it should not block."""
        alarm = Alarm(time.monotonic() + seconds, action)
        self._alarms.put(alarm)
        self.start()
        return alarm

    def post(self, action: Callable[[], None]) -> None:
        """Run the action soon, if the thread runs. Takes no lock that Python code holds, so ``__del__`` may call it."""
        self._alarms.put(Alarm(0.0, action))


def _ring(alarms: queue.SimpleQueue[Alarm]) -> None:
    waiting: list[Alarm] = []
    while True:
        with contextlib.suppress(queue.Empty):
            heapq.heappush(waiting, alarms.get(timeout=_seconds_to(waiting)))
        while waiting and waiting[0].when <= time.monotonic():
            heapq.heappop(waiting).ring()


def _seconds_to(waiting: list[Alarm]) -> float | None:
    return max(waiting[0].when - time.monotonic(), 0.0) if waiting else None


TIMER = Timer()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=TIMER._reset)

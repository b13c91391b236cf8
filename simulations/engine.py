"""A discrete-event simulation: a virtual clock, and servers that overload.

A server with a queue knows at arrival when it will answer (first come, first served), so a call costs two events, and
a hundred thousand calls run in about a second.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from heapq import heappop, heappush, heapreplace
from itertools import count
from math import log
from typing import Any, Protocol

INF = float("inf")


class Loop:
    """What happens next, in order of time.

    Attributes:
        now: seconds of virtual time.
        random: the only source of chance, so that a seed is a run: a number in [0, 1) each time.
    """

    __slots__ = ("_events", "_turns", "now", "random")

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.random = random.Random(seed).random
        self._events: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._turns = count()

    def at(self, time: float, action: Callable[[Any], None], argument: Any = None) -> None:
        """Have ``action(argument)`` done at a time; of two at the same time, the first asked for goes first."""
        heappush(self._events, (time, next(self._turns), action, argument))

    def run(self, until: float) -> None:
        """Do everything that is due before a time."""
        events = self._events
        heappush(events, (until, -1, _stop, None))  # before all others of its time
        while True:
            self.now, _, action, argument = heappop(events)
            if action is _stop:
                return
            action(argument)

    def exponential(self, rate: float) -> float:
        """Return what ``Random.expovariate(rate)`` would, at half its price."""
        return -log(1.0 - self.random()) / rate

    def poisson(self, rate: float, until: float, action: Callable[[], None]) -> None:
        """Have ``action()`` done at random moments, ``rate`` times a second: an open loop waits for nobody."""

        def arrive(_: None) -> None:
            action()
            following = self.now + self.exponential(rate)
            if following < until:
                self.at(following, arrive)

        self.at(self.now + self.exponential(rate), arrive)


def _stop(_: None) -> None:
    """Mark the end of a run; it is never called."""


class Attempt(Protocol):
    """What a server answers."""

    def answered(self, code: str) -> None:
        """Be told the status code, ``"OK"`` or another, at the time it arrives."""


class Server(Protocol):
    """What an attempt is sent to."""

    def serve(self, attempt: Attempt, timeout: float) -> None:
        """Answer in virtual time; not later than ``timeout``, with DEADLINE_EXCEEDED."""


class QueueServer:
    """One queue, some workers, exponential service times: work that nobody waits for any more is done all the same.

    Args:
        loop: the simulation.
        workers: how many serve at a time.
        mean: seconds of work per request.
        slow_from: start of the trouble.
        slow_until: its end.
        slowdown: how many times longer the work takes during it.
        drops_expired: whether requests whose caller has given up are dropped from the queue (deadline propagation).
    """

    def __init__(
        self,
        loop: Loop,
        *,
        workers: int,
        mean: float,
        slow_from: float = INF,
        slow_until: float = INF,
        slowdown: float = 10.0,
        drops_expired: bool = False,
    ) -> None:
        self._loop = loop
        self._rate = 1.0 / mean
        self._free_at = [0.0] * workers
        self._slow_from, self._slow_until, self._slowdown = slow_from, slow_until, slowdown
        self._drops_expired = drops_expired

    def serve(self, attempt: Attempt, timeout: float) -> None:
        """Queue it, and tell the attempt when it is done or has given up."""
        loop = self._loop
        now = loop.now
        free_at = self._free_at[0]
        start = free_at if free_at > now else now  # noqa: FURB136  max() takes thrice as long, and this runs most often
        gives_up = now + timeout
        if self._drops_expired and start > gives_up:
            loop.at(gives_up, attempt.answered, "DEADLINE_EXCEEDED")
            return
        work = loop.exponential(self._rate)
        if self._slow_from <= start < self._slow_until:
            work *= self._slowdown
        done = start + work
        heapreplace(self._free_at, done)
        if done <= gives_up:
            loop.at(done, attempt.answered, "OK")
        else:
            loop.at(gives_up, attempt.answered, "DEADLINE_EXCEEDED")


class FlakyServer:
    """Never overloaded, but a share of its answers is UNAVAILABLE, at random.

    Args:
        loop: the simulation.
        error_ratio: that share; may be changed while it runs.
        latency: mean seconds until an answer.
    """

    def __init__(self, loop: Loop, *, error_ratio: float, latency: float = 0.02) -> None:
        self._loop = loop
        self._rate = 1.0 / latency
        self.error_ratio = error_ratio

    def serve(self, attempt: Attempt, timeout: float) -> None:
        """Answer after a while, well or badly."""
        loop = self._loop
        seconds = loop.exponential(self._rate)
        code = "UNAVAILABLE" if loop.random() < self.error_ratio else "OK"
        if seconds > timeout:
            seconds, code = timeout, "DEADLINE_EXCEEDED"
        loop.at(loop.now + seconds, attempt.answered, code)

"""A discrete-event simulation: a virtual clock, and servers that overload.

A server with a queue knows at arrival when it will answer (first come, first served), so a call costs two events, and
a hundred thousand calls run in about a second.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Any, Protocol

INF = float("inf")


class Loop:
    """What happens next, in order of time.

    Attributes:
        now: seconds of virtual time.
        rng: the only source of chance, so that a seed is a run.
    """

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.rng = random.Random(seed)
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def at(self, time: float, action: Callable[..., None], *arguments: Any) -> None:
        """Have ``action(*arguments)`` done at a time; of two at the same time, the first asked for goes first."""
        self._count += 1
        heapq.heappush(self._events, (time, self._count, action, arguments))

    def run(self, until: float) -> None:
        """Do everything that is due before a time."""
        events, pop = self._events, heapq.heappop
        while events and events[0][0] < until:
            self.now, _, action, arguments = pop(events)
            action(*arguments)
        self.now = until

    def poisson(self, rate: float, until: float, action: Callable[[], None]) -> None:
        """Have ``action()`` done at random moments, ``rate`` times a second: an open loop waits for nobody."""

        def arrive() -> None:
            action()
            following = self.now + self.rng.expovariate(rate)
            if following < until:
                self.at(following, arrive)

        self.at(self.now + self.rng.expovariate(rate), arrive)


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
        self._slow = (slow_from, slow_until, slowdown)
        self._drops_expired = drops_expired

    def serve(self, attempt: Attempt, timeout: float) -> None:
        """Queue it, and tell the attempt when it is done or has given up."""
        loop = self._loop
        now = loop.now
        start = max(now, self._free_at[0])
        gives_up = now + timeout
        if self._drops_expired and start > gives_up:
            loop.at(gives_up, attempt.answered, "DEADLINE_EXCEEDED")
            return
        work = loop.rng.expovariate(self._rate)
        slow_from, slow_until, slowdown = self._slow
        if slow_from <= start < slow_until:
            work *= slowdown
        done = start + work
        heapq.heapreplace(self._free_at, done)
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
        seconds = loop.rng.expovariate(self._rate)
        code = "UNAVAILABLE" if loop.rng.random() < self.error_ratio else "OK"
        if seconds > timeout:
            seconds, code = timeout, "DEADLINE_EXCEEDED"
        loop.at(loop.now + seconds, attempt.answered, code)

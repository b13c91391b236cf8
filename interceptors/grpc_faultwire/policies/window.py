"""The sliding window of a circuit breaker: calls that ended, and calls that should have.

Not synchronised: the breaker that owns it holds its lock.
"""

from __future__ import annotations

import math
from collections import deque

from grpc_faultwire.policies.circuit import BreakerPolicy


class Bucket:
    """What happened in one part of the window.

    Attributes:
        number: which part of time it is, counted from the clock's zero.
        calls: calls that ended in it.
        failures: how many of them failed.
        slow: how many of them were slow.
        live: calls that *began* in it and have not ended.
        overdue: whether those count as failed for now.
    """

    __slots__ = ("calls", "failures", "live", "number", "overdue", "slow")

    def __init__(self, number: int) -> None:
        self.number = number
        self.calls = self.failures = self.slow = self.live = 0
        self.overdue = False


class Window:
    """Sums over the last buckets, kept up to date so that judging costs two comparisons.

    Attributes:
        edge: the moment from which ``roll()`` is due (at first: any); until then ``current`` takes what happens.
        current: the bucket of this moment.
        calls: calls that ended in the window.
        failures: how many of them failed.
        slow: how many of them were slow.
        overdue: calls in flight for too long.
    """

    __slots__ = (
        "_counted", "_hung", "_longest", "_minimum", "_patience", "_started", "_width", "_window",
        "calls", "current", "edge", "failures", "overdue", "slow",
    )  # fmt: skip

    def __init__(self, policy: BreakerPolicy) -> None:
        self._width = policy.window / policy.buckets
        self._window = policy.buckets
        self._longest = max(policy.buckets, math.ceil(policy.longest_window / self._width))
        self._minimum = policy.minimum_calls
        overdue_after = policy.overdue_after
        self._patience = None if overdue_after is None else math.ceil(overdue_after / self._width)
        self._counted: deque[Bucket] = deque()
        self._started: deque[Bucket] = deque()
        self._hung: deque[Bucket] = deque()
        self.calls = self.failures = self.slow = self.overdue = 0
        self.edge = -math.inf
        self.current = Bucket(0)

    def roll(self, now: float) -> None:
        """Begin the bucket of this moment, and let go of what has become too old."""
        number = math.floor(now / self._width)
        self.edge = (number + 1) * self._width
        self.current = Bucket(number)
        self._counted.append(self.current)
        self._forget(number)
        if self._patience is not None:
            self._started.append(self.current)
            self._lose_patience(number, self._patience)

    def add(self, *, failed: bool, slow: bool) -> None:
        """Count a call that ended."""
        bucket = self.current
        bucket.calls += 1
        self.calls += 1
        bucket.failures += failed
        self.failures += failed
        bucket.slow += slow
        self.slow += slow

    def end(self, bucket: Bucket) -> None:
        """Note that a call which began in this bucket is no longer in flight."""
        bucket.live -= 1
        if bucket.overdue:
            self.overdue -= 1

    def failure_ratio(self) -> float:
        """Return the share of failures, overdue calls included; 0 without calls."""
        calls = self.calls + self.overdue
        return (self.failures + self.overdue) / calls if calls else 0.0

    def _forget(self, number: int) -> None:
        """Drop buckets past the window, but while calls are few keep them, up to the longest window."""
        counted = self._counted
        while (age := number - counted[0].number) >= self._window:
            oldest = counted[0]
            if age < self._longest and self.calls - oldest.calls < self._minimum:
                return
            counted.popleft()
            self.calls -= oldest.calls
            self.failures -= oldest.failures
            self.slow -= oldest.slow

    def _lose_patience(self, number: int, patience: int) -> None:
        """Count calls as overdue that began too long ago; forget those so old that they must have been lost."""
        while number - self._started[0].number > patience:
            bucket = self._started.popleft()
            if bucket.live:
                bucket.overdue = True
                self.overdue += bucket.live
                self._hung.append(bucket)
        while self._hung and number - self._hung[0].number > patience + self._longest:
            bucket = self._hung.popleft()
            bucket.overdue = False
            self.overdue -= bucket.live

"""Deadlines: one moment for the whole call, a share of the time left for each attempt."""

from __future__ import annotations

import math
from typing import NamedTuple


class Deadline(NamedTuple):
    """The moment at which a call has failed, whatever its attempts do.

    Attributes:
        at: seconds on the monotonic clock; infinite (the default) if the caller set no timeout.
    """

    at: float = math.inf

    @classmethod
    def after(cls, timeout: float | None, now: float) -> Deadline:
        """Return the deadline ``timeout`` seconds from ``now``; None sets none. A negative one has passed already."""
        return cls() if timeout is None else cls(now + timeout)

    def remaining(self, now: float) -> float:
        """Return the seconds left: never negative, infinite without a deadline."""
        return max(0.0, self.at - now)

    def expired(self, now: float) -> bool:
        """Whether no time is left."""
        return now >= self.at

    def attempt_timeout(self, limit: float | None, now: float) -> float | None:
        """Return the seconds to give an attempt: the least of ``limit`` and what is left; None is unlimited.

        It belongs in the call's own ``timeout``: the service config's is broken in grpcio (grpc/grpc#34547).
        """
        left = self.at - now
        if limit is not None and limit < left:
            return limit
        if left == math.inf:
            return None
        return max(0.0, left)

    def fits(self, delay: float, now: float, reserve: float = 0.0) -> bool:
        """Whether ``delay`` seconds from ``now`` there is time left, and more than ``reserve`` seconds of it."""
        return now + delay + reserve < self.at

    def minus(self, margin: float) -> Deadline:
        """Return the deadline ``margin`` seconds earlier.

        A server gives it to the calls that it makes, and keeps the margin to answer its own caller.
        """
        return Deadline(self.at - margin)


def had_fair_time(had: float | None, attempt_timeout: float | None, floor: float) -> bool:
    """Whether an attempt that timed out had enough time for the timeout to be the server's fault.

    A caller who arrives with 3 ms left makes no server unhealthy: such a verdict is NEUTRAL. Counting it is how
    impatient callers open circuits (go-service#3173).

    Args:
        had: seconds that the attempt was given; None is unlimited.
        attempt_timeout: seconds that the policy gives an attempt when the call has them; None if it says nothing.
        floor: seconds that are fair for any attempt, even where the attempt timeout is longer.
    """
    return had is None or had >= (floor if attempt_timeout is None else min(attempt_timeout, floor))

"""How long to wait before a retry: exponential backoff (gRFC A6) and its jitter."""

from __future__ import annotations

import enum


class Jitter(enum.Enum):
    """How a delay is spread, so that callers who failed together do not return together."""

    GRPC = "grpc"
    """Times U(0.8, 1.2), as gRPC's own retries (gRFC A6)."""
    FULL = "full"
    """Times U(0, 1), as AWS's SDKs: spreads a crowd of clients best, at the price of some very early retries."""


def exponential(retry: int, *, initial: float, maximum: float, multiplier: float) -> float:
    """Return the seconds of backoff before jitter: ``min(initial * multiplier ** (retry - 1), maximum)``.

    Args:
        retry: which retry it is, from 1.
        initial: seconds before the first retry.
        maximum: seconds that no backoff exceeds (before jitter, as in gRFC A6).
        multiplier: growth from one retry to the next.
    """
    try:
        return min(initial * multiplier ** (retry - 1), maximum)
    except OverflowError:  # a float cannot hold it, so it is past any maximum
        return maximum


def jittered(delay: float, u: float, jitter: Jitter = Jitter.GRPC) -> float:
    """Return ``delay`` spread by ``u``, a random number in [0, 1)."""
    return delay * u if jitter is Jitter.FULL else delay * (0.8 + 0.4 * u)


def lengthened(delay: float, u: float) -> float:
    """Return ``delay`` times U(1, 1.2): for a delay that a server asked for, which is never cut short."""
    return delay * (1.0 + 0.2 * u)

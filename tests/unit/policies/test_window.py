"""The breaker's window: what it counts, and what it lets go of."""

from grpc_faultwire.policies.circuit import BreakerPolicy
from grpc_faultwire.policies.window import Window


def filled(policy, *calls):
    """A window with calls that ended at these times, all of them failed and slow."""
    window = Window(policy)
    for at in calls:
        if at >= window.edge:
            window.roll(at)
        window.add(failed=True, slow=True)
    return window


def sums(window):
    """What it has counted."""
    return (window.calls, window.failures, window.slow)


def test_it_slides_by_buckets():
    """A call leaves the window with its bucket, ten seconds on, and takes all its counts along."""
    window = filled(BreakerPolicy(longest_window=0.0), 0.0, 0.9, 1.0)
    window.roll(9.9)
    assert sums(window) == (3, 3, 3)
    window.roll(10.0)
    assert sums(window) == (1, 1, 1)
    window.roll(11.0)
    assert sums(window) == (0, 0, 0)


def test_it_keeps_no_fewer_than_the_least_calls():
    """An old bucket goes only if what remains is enough to judge by."""
    window = filled(BreakerPolicy(minimum_calls=2), 0.0, 5.0, 5.5)
    window.roll(12.0)
    assert window.calls == 2
    window.roll(40.0)
    assert window.calls == 2
    window.roll(65.0)
    assert window.calls == 0


def test_buckets_before_zero_are_as_wide_as_others():
    """Where the clock reads less than zero, the edge is still ahead."""
    window = filled(BreakerPolicy(), -0.5)
    assert window.edge == 0.0
    window = filled(BreakerPolicy(), -3.0)
    assert window.edge == -2.0

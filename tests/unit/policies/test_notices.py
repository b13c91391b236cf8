"""What a breaker's listener is told, and that it can do no harm."""

import logging
import threading

from grpc_faultwire.policies import Breaker, BreakerPolicy, BreakerState, Health

POLICY = BreakerPolicy(minimum_calls=1, open_jitter=0.0, successes_to_close=1)


def make(listener):
    """A breaker that one failure opens and one success closes."""
    return Breaker(POLICY, rng=lambda: 0.5, listener=listener, key="shop.Shop")


def fail(breaker, now=0.0):
    """One call that fails."""
    breaker.acquire(now).record(Health.FAILURE, now)


def test_every_change_is_told_in_order():
    """A listener hears of each change once, with its time, generation, ratio and open period."""
    told = []
    breaker = make(told.append)
    fail(breaker, 1.0)
    breaker.acquire(3.0).record(Health.SUCCESS, 3.5)
    breaker.force_open(4.0)
    breaker.force_open(4.1)
    breaker.auto(5.0)
    states = [(change.before.value, change.after.value, change.at, change.open_for) for change in told]
    assert states == [
        ("closed", "open", 1.0, 2.0),
        ("open", "half_open", 3.0, None),
        ("half_open", "closed", 3.5, None),
        ("closed", "forced_open", 4.0, None),
        ("forced_open", "closed", 5.0, None),
    ]
    assert [change.generation for change in told] == list(range(told[0].generation, told[0].generation + 5))
    assert (told[0].key, told[0].failure_ratio) == ("shop.Shop", 1.0)


def test_a_listener_that_raises_harms_nobody(caplog):
    """Its error is logged; the call, the state and the next notices are as they should be."""
    told = []

    def listener(change):
        told.append(change)
        raise RuntimeError("listener is broken")

    breaker = make(listener)
    with caplog.at_level(logging.ERROR):
        fail(breaker)
        assert breaker.acquire(2.0)
    assert breaker.state is BreakerState.HALF_OPEN
    assert len(told) == 2
    assert caplog.text.count("listener is broken") >= 2


def test_a_listener_may_call_the_breaker():
    """One that forces, asks and records from inside neither deadlocks nor recurses, and hears all in order."""
    told, depth = [], [0]

    def listener(change):
        depth[0] += 1
        assert depth[0] == 1
        told.append(change.after.value)
        if change.after is BreakerState.OPEN:
            breaker.force_closed(change.at)
            breaker.snapshot(change.at)
            breaker.acquire(change.at).record(Health.SUCCESS, change.at)
        depth[0] -= 1

    breaker = make(listener)
    fail(breaker)
    assert told == ["open", "forced_closed"]


def test_a_slow_listener_blocks_no_call():
    """While one thread is with the listener, others acquire and record; what they cause is told afterwards."""
    told, inside, leave = [], threading.Event(), threading.Event()

    def listener(change):
        told.append(change.after.value)
        inside.set()
        assert leave.wait(10)

    breaker = make(listener)
    thread = threading.Thread(target=fail, args=(breaker,))
    thread.start()
    assert inside.wait(10)
    probe = breaker.acquire(2.0)
    probe.record(Health.SUCCESS, 2.0)
    assert breaker.state is BreakerState.CLOSED
    leave.set()
    thread.join(10)
    assert told == ["open", "half_open", "closed"]


def test_a_listener_that_is_interrupted_is_told_the_rest():
    """KeyboardInterrupt passes through, and the next change delivers again."""
    told = []

    def listener(change):
        told.append(change.after.value)
        if len(told) == 1:
            raise KeyboardInterrupt

    breaker = make(listener)
    try:
        fail(breaker)
    except KeyboardInterrupt:
        told.append("interrupted")
    assert breaker.acquire(2.0)
    assert told == ["open", "interrupted", "half_open"]

"""Breakers by key."""

import threading

import pytest

from grpc_faultwire.policies import BreakerPolicy, BreakerRegistry, BreakerState, Health

POLICY = BreakerPolicy(minimum_calls=1)


def make(capacity=3, **changes):
    """A small registry of breakers that one failure opens."""
    return BreakerRegistry(POLICY, rng=lambda: 0.5, capacity=capacity, **changes)


def trip(breaker):
    """Open it."""
    breaker.acquire(0.0).record(Health.FAILURE, 0.0)
    assert breaker.state is BreakerState.OPEN


def test_one_breaker_for_each_key():
    """The same key gives the same breaker, with the policy of its first use."""
    registry = make()
    other = BreakerPolicy(minimum_calls=7)
    assert registry.get("a") is registry.get("a")
    assert registry.get("b", other).policy is other
    assert registry.get("b").policy is other
    assert registry.get(("target", "service")).key == ("target", "service")


def test_the_least_recently_used_goes():
    """A registry that is full forgets the breaker that was asked for longest ago."""
    registry = make()
    for key in "abcad":
        registry.get(key)
    assert list(registry.breakers()) == ["c", "a", "d"]
    assert len(registry) == 3


def test_one_that_is_used_by_who_keeps_it_stays():
    """Who keeps a breaker asks for it no more; its use counts all the same, once."""
    registry = make()
    kept = registry.get("a")
    for key in "bc":
        registry.get(key)
    kept.used = True
    registry.get("d")
    assert list(registry.breakers()) == ["c", "a", "d"]
    for key in "ef":
        registry.get(key)
    assert kept.forgotten
    assert not any(breaker.forgotten for breaker in registry.breakers().values())


def test_closed_ones_that_are_all_used_go_before_one_that_is_open():
    """Use keeps nobody for ever."""
    registry = make()
    trip(registry.get("bad"))
    for key in "ab":
        registry.get(key).used = True
    registry.get("c")
    assert list(registry.breakers()) == ["bad", "b", "c"]


@pytest.mark.parametrize("force", ["open", "forced_open", "forced_closed"])
def test_one_that_is_not_closed_stays(force):
    """An open or forced breaker is kept, however long ago it was used."""
    registry = make()
    if force == "open":
        trip(registry.get("bad"))
    elif force == "forced_open":
        registry.get("bad").force_open(0.0)
    else:
        registry.get("bad").force_closed(0.0)
    for n in range(100):
        registry.get(n)
    assert "bad" in registry.breakers()
    assert len(registry) == 3


def test_it_is_bounded_even_if_all_are_open():
    """When every breaker is open, the oldest goes after all."""
    registry = make()
    for key in "abcd":
        trip(registry.get(key))
    assert list(registry.breakers()) == ["b", "c", "d"]


def test_permits_of_a_forgotten_breaker_are_good():
    """A call in flight may outlive the place of its breaker."""
    registry = make(capacity=1)
    permit = registry.get("a").acquire(0.0)
    registry.get("b")
    permit.record(Health.FAILURE, 0.0)


def test_the_listener_is_told_which():
    """All breakers share the listener, and each change names its key."""
    told = []
    registry = make(listener=told.append)
    trip(registry.get("a"))
    trip(registry.get("b"))
    assert [change.key for change in told] == ["a", "b"]


def test_after_a_fork_all_start_anew():
    """Locks held at the fork are replaced, also in breakers that somebody holds on to."""
    registry = make()
    held = registry.get("a")
    trip(held)
    registry._lock.acquire()
    held._lock.acquire()
    registry.reset_after_fork()
    assert registry.get("a") is held
    assert held.acquire(0.0)


def test_threads_get_the_same_breaker():
    """However many ask for a new key at once, one breaker is made."""
    registry, barrier, got = make(), threading.Barrier(50), []

    def work():
        barrier.wait()
        got.append(registry.get("a"))

    threads = [threading.Thread(target=work) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 50
    assert len(set(map(id, got))) == 1

"""Breakers by key: one for each target and service, or whatever a caller's key function tells apart."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from grpc_faultwire.policies import checks
from grpc_faultwire.policies.breaker import Breaker
from grpc_faultwire.policies.circuit import BreakerPolicy, BreakerState, Transition


class BreakerRegistry:
    """Makes breakers when they are asked for, and keeps a bounded number of them.

    When there are too many, the least recently used *closed* one goes: it has the least to forget. One that is open,
    half-open or forced goes only if all the others are too. Calls in flight keep a removed breaker's permits, which
    remain good. Whoever keeps a breaker, to ask for it but once, sets its ``used`` with each call, and asks again once
    it is ``forgotten``.

    Args:
        policy: settings of each breaker; ``BreakerPolicy()`` if None.
        rng: returns random numbers in [0, 1).
        listener: told of the changes of each breaker; ``Transition.key`` tells which.
        capacity: the most breakers. 1024: a key made from user input fills no memory.

    Raises:
        ValueError: ``capacity`` is not a whole number above 0.
    """

    __slots__ = ("_breakers", "_capacity", "_listener", "_lock", "_rng", "policy")

    def __init__(
        self,
        policy: BreakerPolicy | None = None,
        *,
        rng: Callable[[], float],
        listener: Callable[[Transition], None] | None = None,
        capacity: int = 1024,
    ) -> None:
        checks.whole("capacity", capacity, 1)
        self.policy = policy or BreakerPolicy()
        self._rng = rng
        self._listener = listener
        self._capacity = capacity
        self._breakers: OrderedDict[Hashable, Breaker] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._breakers)

    def get(self, key: Hashable, policy: BreakerPolicy | None = None) -> Breaker:
        """Return the breaker for a key, made on first use with ``policy``, or else with the registry's."""
        self._lock.acquire()  # by name, as every call comes here: with `with`, locking takes three times as long
        try:
            breaker = self._breakers.get(key)
            if breaker is None:
                breaker = self._make(key, policy or self.policy)
            else:
                self._breakers.move_to_end(key)
            return breaker
        finally:
            self._lock.release()

    def breakers(self) -> dict[Hashable, Breaker]:
        """Return those there are, the most recently used last; looking at them does not count as use."""
        with self._lock:
            return dict(self._breakers)

    def reset_after_fork(self) -> None:
        """Start anew in a child process: every breaker there is, even if somebody holds on to it."""
        self._lock = threading.Lock()
        for breaker in self._breakers.values():
            breaker.reset_after_fork()

    def _make(self, key: Hashable, policy: BreakerPolicy) -> Breaker:
        if len(self._breakers) >= self._capacity:
            self._remove_one()
        breaker = self._breakers[key] = Breaker(policy, rng=self._rng, listener=self._listener, key=key)
        return breaker

    def _remove_one(self) -> None:
        used = []
        for breaker in self._breakers.values():
            if breaker.used:
                used.append(breaker)
            elif breaker.state is BreakerState.CLOSED:
                break
        for breaker in used:
            breaker.used = False
            self._breakers.move_to_end(breaker.key)
        closed = (key for key, breaker in self._breakers.items() if breaker.state is BreakerState.CLOSED)
        self._breakers.pop(next(closed, next(iter(self._breakers)))).forgotten = True

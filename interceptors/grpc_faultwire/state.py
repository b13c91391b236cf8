"""What policies remember: the budgets and circuit breakers of a channel, or of several that share them."""

from __future__ import annotations

import os
import random as random_numbers
import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Any

from grpc_faultwire.policies import (
    Breaker,
    BreakerPolicy,
    BreakerRegistry,
    BreakerSnapshot,
    Budget,
    BudgetPolicy,
    Latencies,
    RetryBudget,
    Throttle,
    ThrottlePolicy,
    Transition,
)

MAX_TARGETS = 1000
"""How many budgets, and how many methods' latencies, are kept; those added first go first."""


class PolicyState:
    """Budgets by target, breakers by key. Each wrapped channel has its own unless it is given one to share.

    After a fork the child starts anew: what the parent learnt may be half written, and its locks held for ever.

    Args:
        breakers: how many circuit breakers are kept; open ones longest. 1024.
        random: returns numbers in [0, 1), for jitter.
    """

    def __init__(self, *, breakers: int = 1024, random: Callable[[], float] = random_numbers.random) -> None:
        self._listeners: list[Callable[[Transition], None]] = []
        self._breakers = BreakerRegistry(rng=random, listener=self._tell, capacity=breakers)
        self._budgets: dict[str, Budget] = {}
        self._latencies: dict[Hashable, Latencies] = {}
        self._lock = threading.Lock()
        _states.add(self)

    def breaker(self, key: Hashable, policy: BreakerPolicy) -> Breaker:
        """Return the breaker for a key, made on first use."""
        return self._breakers.get(key, policy)

    def budget(self, target: str, policy: BudgetPolicy | ThrottlePolicy) -> Budget:
        """Return a target's budget, made on first use."""
        with self._lock:
            if target not in self._budgets:
                made = RetryBudget(policy) if isinstance(policy, BudgetPolicy) else Throttle(policy)
                _add(self._budgets, target, made)
            return self._budgets[target]

    def latencies(self, key: Hashable) -> Latencies:
        """Return how long the last calls of a method took."""
        with self._lock:
            if key not in self._latencies:
                _add(self._latencies, key, Latencies())
            return self._latencies[key]

    def snapshot(self, now: float) -> tuple[BreakerSnapshot, ...]:
        """Return every breaker as it stands.

        Args:
            now: a reading of the channel's clock (`time.monotonic` by default).
        """
        return tuple(breaker.snapshot(now) for breaker in self._breakers.breakers().values())

    def budgets(self) -> dict[str, float]:
        """Return the tokens of every target's budget."""
        with self._lock:
            return {target: getattr(budget, "tokens", 0.0) for target, budget in self._budgets.items()}

    def force_open(self, key: Hashable, now: float) -> None:
        """Refuse all calls of a key until `auto`.

        Raises:
            KeyError: no call of this key was made yet.
        """
        self._breakers.breakers()[key].force_open(now)

    def force_closed(self, key: Hashable, now: float) -> None:
        """Let all calls of a key pass until `auto`.

        Raises:
            KeyError: no call of this key was made yet.
        """
        self._breakers.breakers()[key].force_closed(now)

    def auto(self, key: Hashable, now: float) -> None:
        """Let the breaker of a key decide for itself again.

        Raises:
            KeyError: no call of this key was made yet.
        """
        self._breakers.breakers()[key].auto(now)

    def listen(self, listener: Callable[[Transition], None]) -> None:
        """Tell a function of every change of a breaker, once, from whichever thread changes it."""
        if listener not in self._listeners:
            self._listeners.append(listener)

    def _tell(self, transition: Transition) -> None:
        for listener in self._listeners:
            listener(transition)

    def _reset_after_fork(self) -> None:
        self._lock = threading.Lock()
        self._breakers.reset_after_fork()
        for budget in self._budgets.values():
            budget.reset_after_fork()
        for latencies in self._latencies.values():
            latencies.reset_after_fork()


def _add(table: dict[Any, Any], key: Hashable, made: Any) -> None:
    if len(table) >= MAX_TARGETS:
        del table[next(iter(table))]
    table[key] = made


_states: weakref.WeakSet[PolicyState] = weakref.WeakSet()


def _after_fork() -> None:
    for state in list(_states):
        state._reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

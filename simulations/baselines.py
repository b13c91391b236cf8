"""What others do, for comparison: their published rules, not their code."""

from __future__ import annotations

from collections import deque

from grpc_faultwire.policies import (
    Breaker,
    BreakerPolicy,
    BreakerState,
    BudgetPolicy,
    Health,
    Permit,
    Refusal,
    RetryBudget,
    RetryPolicy,
    Verdict,
)

from .client import Stack, classic_retry
from .engine import Loop


class Finagle:
    """Finagle's RetryBudget: a fifth of the *requests* of the last ten seconds, and ten retries a second besides."""

    def __init__(self, loop: Loop, *, share: float = 0.2, reserve: float = 10.0, ttl: float = 10.0) -> None:
        self._loop = loop
        self._share, self._reserve, self._ttl = share, reserve * ttl, ttl
        self._deposits: deque[float] = deque()
        self._withdrawals: deque[float] = deque()

    def requested(self) -> None:
        """Be told of a call: its first attempt, however it will end."""
        self._deposits.append(self._loop.now)

    def take(self, _cost: float, /) -> bool:
        """Whether deposits exceed withdrawals."""
        horizon = self._loop.now - self._ttl
        for moments in (self._deposits, self._withdrawals):
            while moments and moments[0] < horizon:
                moments.popleft()
        if len(self._withdrawals) + 1 > self._reserve + self._share * len(self._deposits):
            return False
        self._withdrawals.append(self._loop.now)
        return True

    def refund(self, _cost: float, /) -> None:
        """Take back the last withdrawal."""
        if self._withdrawals:
            self._withdrawals.pop()

    def credit(self, verdict: Verdict, /) -> None:
        """Successes earn nothing."""

    def debit(self) -> None:
        """Failures cost nothing."""

    def reset_after_fork(self) -> None:
        """Nobody forks here."""


class ConsecutiveBreaker:
    """Opens after five failures in a row, for a minute; then one probe decides (pybreaker, aiobreaker, gobreaker)."""

    def __init__(self, *, failures: int = 5, open_for: float = 60.0) -> None:
        # Permits need a breaker of ours; this one never opens, and its counts are not asked for.
        self._home = Breaker(BreakerPolicy(minimum_calls=10**9), rng=lambda: 0.5)
        self._limit, self._open_for = failures, open_for
        self._in_a_row = 0
        self._open_until: float | None = None
        self._probe: Permit | None = None

    def acquire(self, now: float, *, timeout: float | None = None) -> Permit | Refusal:  # noqa: ARG002  probes of these libraries have no lease
        """Refuse while open, and while a probe is out."""
        permit = CountedPermit(self, self._home, now)
        if self._open_until is not None:
            if now < self._open_until or self._probe is not None:
                return Refusal(BreakerState.OPEN, max(0.0, self._open_until - now))
            self._probe = permit
        return permit

    def blocked_for(self, now: float) -> float:
        """Seconds until it may probe."""
        return 0.0 if self._open_until is None else max(0.0, self._open_until - now)

    def count(self, permit: Permit, health: Health, now: float) -> None:
        """Be told how a call ended; while open, only the probe matters."""
        if self._open_until is not None and permit is not self._probe:
            return
        self._in_a_row = self._in_a_row + 1 if health is Health.FAILURE else 0
        if permit is self._probe:
            self._probe, self._open_until = None, None
            self._in_a_row = self._limit if health is Health.FAILURE else 0
        if self._in_a_row >= self._limit:
            self._open_until = now + self._open_for


class CountedPermit(Permit):
    """A permit whose outcome goes to a breaker of another kind."""

    __slots__ = ("_counter",)

    def __init__(self, counter: ConsecutiveBreaker, home: Breaker, now: float) -> None:
        super().__init__(home, 0, now, None)
        self._counter = counter

    def record(self, health: Health, now: float) -> None:
        """Count it there only."""
        self._counter.count(self, health, now)


FINAGLE = Stack("Finagle 20 % + 10/s", classic_retry, Finagle)
AWS = Stack("AWS bucket 500/5", classic_retry, lambda _: RetryBudget(BudgetPolicy(capacity=500, initial=500)))
CONSECUTIVE = Stack(
    "5 failures in a row", lambda: RetryPolicy(max_attempts=1), breaker=lambda _loop, _key: ConsecutiveBreaker()
)

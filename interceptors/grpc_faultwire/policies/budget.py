"""Budgets: what keeps retries from finishing off a server that is already down.

Both are credited by *successes*. A budget that grows with requests (Finagle's 20 %) keeps feeding retries to a server
that answers none of them, and never lets it recover; ``simulations/`` shows it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Protocol

from grpc_faultwire.policies import checks
from grpc_faultwire.policies.verdict import Health, Verdict


class Budget(Protocol):
    """What retries and hedges draw on; shared by all the calls to one target, from any thread.

    For each attempt that ends, tell it once: ``credit()`` or, if the failure was one to retry, ``debit()``. For each
    attempt beyond a call's first, ask ``take()`` when it is decided, which is before its backoff: asked afterwards, a
    thousand calls that failed together would all be waiting before the first one is told no (envoy#30205).
    """

    def take(self, cost: float, /) -> bool:
        """Whether one more attempt may be sent. Never waits: a caller that waits for tokens earns none."""
        ...

    def refund(self, cost: float, /) -> None:
        """Give back what ``take()`` took for an attempt that was never sent."""

    def credit(self, verdict: Verdict, /) -> None:
        """Be told how an attempt ended, unless it is told by ``debit()``."""

    def debit(self) -> None:
        """Be told that an attempt failed in a way that policies retry, or with pushback that forbids it."""

    def reset_after_fork(self) -> None:
        """Start anew in a child process, without touching a lock that another thread of the parent may hold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetPolicy:
    """Settings of a ``RetryBudget``.

    Attributes:
        capacity: the most tokens. 100 is 20 retries at once: enough for a blip, too little for an outage.
        credit: tokens that a success adds. 1, so that a cost of 5 allows one retry for five successes.
        initial: tokens at the start. 10, not ``capacity``: two thousand small clients that all start with a full
            bucket have credit for 10^5 retries between them, and keep a server down with it.

    Raises:
        ValueError: a number is not positive (``initial``: negative), or ``initial`` exceeds ``capacity``.
    """

    capacity: float = 100.0
    credit: float = 1.0
    initial: float = 10.0

    def __post_init__(self) -> None:
        checks.positive("capacity", self.capacity)
        checks.positive("credit", self.credit)
        checks.not_negative("initial", self.initial)
        if self.initial > self.capacity:
            raise ValueError(f"initial is {self.initial!r}; it must not exceed the capacity, {self.capacity!r}.")


class RetryBudget:
    """A token bucket that successes fill and retries empty (as in AWS's SDKs, but it starts nearly empty)."""

    __slots__ = ("_capacity", "_credit", "_lock", "_tokens", "policy")

    _tokens: float

    def __init__(self, policy: BudgetPolicy | None = None) -> None:
        self.policy = policy or BudgetPolicy()
        self._capacity = self.policy.capacity
        self._credit = self.policy.credit
        self.reset_after_fork()

    @property
    def tokens(self) -> float:
        """The tokens at this moment."""
        return self._tokens

    def take(self, cost: float, /) -> bool:
        """Take ``cost`` tokens and return True, or take none and return False."""
        with self._lock:
            if self._tokens < cost:
                return False
            self._tokens -= cost
            return True

    def refund(self, cost: float, /) -> None:
        """Put ``cost`` tokens back; what exceeds the capacity is lost."""
        self._add(cost)

    def credit(self, verdict: Verdict, /) -> None:
        """Add the credit of one success, if the verdict says that the server is well."""
        # A full bucket is the usual case and needs no lock: a race loses at most one credit.
        if self._tokens < self._capacity and verdict.health is Health.SUCCESS:
            self._lock.acquire()  # by name, as every call comes here: with `with`, locking takes three times as long
            try:
                self._tokens = min(self._capacity, self._tokens + self._credit)
            finally:
                self._lock.release()

    def debit(self) -> None:
        """Do nothing: in this budget a failure costs when it is retried."""

    def reset_after_fork(self) -> None:
        """Start anew, with a new lock and the initial tokens."""
        self._lock = threading.Lock()
        self._tokens = self.policy.initial

    def _add(self, tokens: float) -> None:
        with self._lock:
            self._tokens = min(self._capacity, self._tokens + tokens)


@dataclass(frozen=True, kw_only=True, slots=True)
class ThrottlePolicy:
    """Settings of a ``Throttle``: ``retryThrottling`` of a service config (gRFC A6).

    Attributes:
        max_tokens: the most tokens, and the number at the start: a whole number, 1 to 1000. No default in A6.
        token_ratio: tokens that a success adds; decimals beyond the third are cut off, as A6 demands.

    Raises:
        ValueError: ``max_tokens`` is out of range, or ``token_ratio`` is below 0.001.
    """

    max_tokens: int = 10
    token_ratio: float = 0.1

    def __post_init__(self) -> None:
        checks.whole("max_tokens", self.max_tokens, 1)
        if self.max_tokens > 1000:
            raise ValueError(f"max_tokens is {self.max_tokens!r}; gRFC A6 allows at most 1000.")
        checks.at_least("token_ratio", self.token_ratio, 0.001)


class Throttle:
    """Retry throttling exactly as in gRFC A6: retries are sent only while more than half of the tokens are there.

    Failures cost a token each, retried or not; a retry itself costs nothing. It allows fewer retries than
    ``RetryBudget`` where errors are random and rare, because a steady 10 % of errors is enough to switch it off.
    """

    __slots__ = ("_lock", "_maximum", "_ratio", "_tokens", "policy")

    def __init__(self, policy: ThrottlePolicy | None = None) -> None:
        self.policy = policy or ThrottlePolicy()
        # Thousandths, as gRPC keeps them: three decimals stay exact. Rounding first, since 0.57 * 1000 is 569.99…
        self._maximum = self.policy.max_tokens * 1000
        self._ratio = round(self.policy.token_ratio * 1_000_000) // 1000
        self.reset_after_fork()

    @property
    def tokens(self) -> float:
        """The tokens at this moment."""
        return self._tokens / 1000

    def take(self, _cost: float, /) -> bool:
        """Whether more than half of the tokens are there. Takes nothing."""
        return self._tokens * 2 > self._maximum

    def refund(self, _cost: float, /) -> None:
        """Do nothing: ``take()`` took nothing."""

    def credit(self, verdict: Verdict, /) -> None:
        """Add ``token_ratio`` for a status of OK. Errors that nobody retries leave the tokens as they are."""
        if self._tokens < self._maximum and verdict.category is None:
            self._add(self._ratio)

    def debit(self) -> None:
        """Take one token, if there is one."""
        self._add(-1000)

    def reset_after_fork(self) -> None:
        """Start anew, with a new lock and all tokens."""
        self._lock = threading.Lock()
        self._tokens = self._maximum

    def _add(self, thousandths: int) -> None:
        with self._lock:
            self._tokens = max(0, min(self._maximum, self._tokens + thousandths))

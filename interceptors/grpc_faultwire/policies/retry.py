"""Retries: whether a failed attempt is sent again, and when."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

from grpc_faultwire.policies import backoff, checks
from grpc_faultwire.policies.backoff import Jitter
from grpc_faultwire.policies.budget import Budget
from grpc_faultwire.policies.deadline import Deadline
from grpc_faultwire.policies.verdict import Verdict


class Reason(enum.Enum):
    """What was decided about a failed attempt, and why. The value is the name in telemetry."""

    RETRIED = "retried"
    NOT_RETRYABLE = "not_retryable"
    """The error, the method or the policy does not allow it."""
    MAX_ATTEMPTS = "max_attempts"
    BUDGET = "budget"
    """The target's budget has no tokens left."""
    DEADLINE = "deadline"
    """The delay would not fit the call's deadline."""
    PUSHBACK = "pushback"
    """The server forbade it, or asked for a longer delay than ``max_server_delay``."""
    COMMITTED = "committed"
    """The caller has seen part of the answer, or the request can no longer be replayed."""
    CIRCUIT_OPEN = "circuit_open"
    """The circuit breaker would refuse the retry."""


class Decision(NamedTuple):
    """What to do after a failed attempt.

    Attributes:
        delay: seconds to wait before the next attempt; None ends the call with the error at hand.
        reason: why.
    """

    delay: float | None
    reason: Reason


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """When and how a failed attempt is sent again; the names are those of gRFC A6.

    Attributes:
        max_attempts: attempts in all, the first included. 3: in a simulation of overload a fourth adds only load.
            Unlike in gRPC's core, more than 5 are not cut to 5; 1 means no retries.
        initial_backoff: seconds before the first retry, before jitter. 0.05, as AWS's SDKs for transient faults.
        max_backoff: seconds that no backoff exceeds, before jitter. 5, below the usual deadline of a call.
        backoff_multiplier: growth of the backoff. 2.
        jitter: how the backoff is spread. ``GRPC``, U(0.8, 1.2); take ``FULL`` for more than 100 clients of a target.
        retryable_codes: names of the codes to retry, such as ``{"UNAVAILABLE"}``. Naming them is consent to repeat
            calls that may have been carried out. None leaves it to the verdict, which looks at idempotency.
        max_server_delay: the longest delay, in seconds, that a server may ask for; a longer one ends the call. 60.
        min_attempt_time: seconds that must be left for the retry once its delay is over; else the call ends now, with
            its real error, and not later with DEADLINE_EXCEEDED (as in gRPC's core). 0.

    Raises:
        ValueError: a number is out of range, or a code has no such name.
    """

    max_attempts: int = 3
    initial_backoff: float = 0.05
    max_backoff: float = 5.0
    backoff_multiplier: float = 2.0
    jitter: Jitter = Jitter.GRPC
    retryable_codes: frozenset[str] | None = None
    max_server_delay: float = 60.0
    min_attempt_time: float = 0.0

    def __post_init__(self) -> None:
        checks.whole("max_attempts", self.max_attempts, 1)
        checks.positive("initial_backoff", self.initial_backoff)
        checks.positive("max_backoff", self.max_backoff)
        checks.positive("backoff_multiplier", self.backoff_multiplier)
        checks.code_names("retryable_codes", self.retryable_codes)
        checks.not_negative("max_server_delay", self.max_server_delay)
        checks.not_negative("min_attempt_time", self.min_attempt_time)

    def backoff(self, retry: int, u: float) -> float:
        """Return the seconds before retry number ``retry`` (from 1), spread by ``u`` in [0, 1)."""
        delay = backoff.exponential(
            retry, initial=self.initial_backoff, maximum=self.max_backoff, multiplier=self.backoff_multiplier
        )
        return backoff.jittered(delay, u, self.jitter)


class RetryState:
    """The retries of one call. Make it when the first attempt has failed: a call that succeeds needs none.

    Not synchronised: the call that owns it is. After ``decide()`` gave a delay, say ``sent()`` or ``unsent()``.
    """

    __slots__ = ("_budget", "_reset_at", "_taken", "policy")

    def __init__(self, policy: RetryPolicy, budget: Budget | None = None) -> None:
        self.policy = policy
        self._budget = budget
        self._reset_at = 0
        self._taken: float | None = None

    def decide(
        self,
        verdict: Verdict,
        *,
        attempt: int,
        now: float,
        u: float,
        deadline: Deadline,
        committed: bool = False,
        blocked_for: float = 0.0,
    ) -> Decision:
        """Decide whether to send the call again; tells the budget of the failure, and takes its tokens last.

        Args:
            verdict: on the attempt that failed.
            attempt: its number, from 1.
            now: seconds on the monotonic clock.
            u: a random number in [0, 1).
            deadline: the call's.
            committed: the call can no longer be replayed.
            blocked_for: seconds for which the circuit breaker refuses (``Breaker.blocked_for``); a retry that would
                come sooner is not worth waiting for.
        """
        retryable = verdict.allowed_by(self.policy.retryable_codes)
        self._tell_budget(verdict, retryable=retryable)
        if not retryable:
            return Decision(None, Reason.PUSHBACK if verdict.stop else Reason.NOT_RETRYABLE)
        if committed:
            return Decision(None, Reason.COMMITTED)
        if attempt >= self.policy.max_attempts:
            return Decision(None, Reason.MAX_ATTEMPTS)
        decision = self._schedule(verdict, attempt=attempt, now=now, u=u, deadline=deadline, blocked_for=blocked_for)
        if decision.delay is not None and verdict.pushback is not None:
            self._reset_at = attempt
        return decision

    def sent(self) -> None:
        """Say that the retry went out: its tokens are spent."""
        self._taken = None

    def unsent(self) -> None:
        """Say that the retry will not go out (cancelled, refused by the breaker): its tokens go back, once."""
        taken, self._taken = self._taken, None
        if taken is not None and self._budget is not None:
            self._budget.refund(taken)

    def _schedule(
        self, verdict: Verdict, *, attempt: int, now: float, u: float, deadline: Deadline, blocked_for: float
    ) -> Decision:
        """Decide about a retry that is allowed: whether its time is right, and whether the budget has tokens."""
        delay = self._delay(verdict, attempt, u)
        if delay is None:
            return Decision(None, Reason.PUSHBACK)
        if not deadline.fits(delay, now, self.policy.min_attempt_time):
            return Decision(None, Reason.DEADLINE)
        if blocked_for > delay:
            return Decision(None, Reason.CIRCUIT_OPEN)
        if not self._take(verdict.cost):
            return Decision(None, Reason.BUDGET)
        return Decision(delay, Reason.RETRIED)

    def _delay(self, verdict: Verdict, attempt: int, u: float) -> float | None:
        """Return the seconds to wait; None if the server asks for more than the policy grants."""
        retry_info, pushback = verdict.delay or 0.0, verdict.pushback or 0.0
        if max(retry_info, pushback) > self.policy.max_server_delay:
            return None
        if verdict.pushback is None:
            return max(backoff.lengthened(retry_info, u), self.policy.backoff(attempt - self._reset_at, u))
        return pushback if verdict.delay is None else backoff.lengthened(max(retry_info, pushback), u)

    def _tell_budget(self, verdict: Verdict, *, retryable: bool) -> None:
        if self._budget is None:
            return
        if retryable or verdict.stop:
            self._budget.debit()
        else:
            self._budget.credit(verdict)

    def _take(self, cost: float) -> bool:
        if self._budget is None:
            return True
        if not self._budget.take(cost):
            return False
        self._taken = cost
        return True

"""Hedges: a second attempt while the first is still out, for reads whose slowest answers are much slower than most."""

from __future__ import annotations

import enum
import math
import threading
from bisect import insort
from collections import deque
from dataclasses import dataclass

from grpc_faultwire.policies import checks
from grpc_faultwire.policies.budget import Budget
from grpc_faultwire.policies.verdict import OK, Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class HedgePolicy:
    """When further attempts of one call are sent beside the first (gRFC A6's ``hedgingPolicy``).

    Only for methods without side effects: more than one attempt may be carried out.

    Attributes:
        max_attempts: attempts in all, the first included. 2: a third hardly gains anything over a second.
        delay: seconds between one attempt and the next (A6's ``hedgingDelay``; 0 sends all at once). None (the
            default) waits for as long as ``quantile`` of the recent calls took, so that few calls are hedged.
        quantile: share of recent calls that end without a hedge. 0.95: one call in twenty is hedged.
        initial_delay: seconds to wait while too few calls are known. 1.
        non_fatal_codes: names of the codes after which the next attempt is sent at once; any other error ends the
            call. None leaves it to the verdict's ``retryable``.

    Raises:
        ValueError: a number is out of range, or a code has no such name.
    """

    max_attempts: int = 2
    delay: float | None = None
    quantile: float = 0.95
    initial_delay: float = 1.0
    non_fatal_codes: frozenset[str] | None = None

    def __post_init__(self) -> None:
        checks.whole("max_attempts", self.max_attempts, 2)
        if self.delay is not None:
            checks.not_negative("delay", self.delay)
        checks.ratio("quantile", self.quantile)
        checks.positive("initial_delay", self.initial_delay)
        checks.code_names("non_fatal_codes", self.non_fatal_codes)

    def delay_by(self, latencies: Latencies | None) -> float:
        """Return the seconds between attempts, by what is known of recent calls."""
        if self.delay is not None:
            return self.delay
        known = latencies.quantile(self.quantile) if latencies is not None else None
        return self.initial_delay if known is None else known


class Latencies:
    """How long the last calls of a method took; safe to share between threads.

    Args:
        size: calls remembered. 100: enough for a 95th percentile, and quick to follow a change.
        least: calls below which no quantile is given. 20.

    Raises:
        ValueError: ``size`` or ``least`` is not a whole number above 0.
    """

    __slots__ = ("_latest", "_least", "_lock", "_size", "_sorted")

    def __init__(self, *, size: int = 100, least: int = 20) -> None:
        checks.whole("size", size, 1)
        checks.whole("least", least, 1)
        self._size = size
        self._least = least
        self.reset_after_fork()

    def add(self, seconds: float) -> None:
        """Remember one more; of hedged calls, the attempt that answered."""
        with self._lock:
            if len(self._latest) == self._size:
                self._sorted.remove(self._latest.popleft())
            self._latest.append(seconds)
            insort(self._sorted, seconds)

    def quantile(self, share: float) -> float | None:
        """Return the seconds that ``share`` of them did not exceed; None while too few are known."""
        with self._lock:
            if len(self._sorted) < self._least:
                return None
            return self._sorted[math.ceil(share * len(self._sorted)) - 1]

    def reset_after_fork(self) -> None:
        """Forget all, with a new lock."""
        self._lock = threading.Lock()
        self._latest: deque[float] = deque()
        self._sorted: list[float] = []


class HedgeStep(enum.Enum):
    """What to do after an attempt of a hedged call ended."""

    WAIT = "wait"
    """For the attempts still out, or for ``due_in()``."""
    FINISH = "finish"
    """This answer is the call's: cancel the others, and record them as NEUTRAL."""


class HedgeState:
    """The attempts of one hedged call.

    Not synchronised: the call that owns it is. Drive it so: ``launched()`` for each attempt sent, the first included;
    when ``due_in()`` reaches 0, ask ``take()``, then the breaker; ``unsent()`` if that one refuses; ``settle()`` for
    each attempt that ends.

    Args:
        policy: its settings.
        delay: seconds between attempts: ``policy.delay_by(latencies)``.
        budget: shared with retries. One that is empty keeps the *next* hedge from being sent and touches nothing that
            is out already.
    """

    __slots__ = ("_budget", "_delay", "_due", "_in_flight", "_sent", "_taken", "policy")

    def __init__(self, policy: HedgePolicy, *, delay: float, budget: Budget | None = None) -> None:
        self.policy = policy
        self._delay = delay
        self._budget = budget
        self._due = math.inf
        self._sent = 0
        self._in_flight = 0
        self._taken: float | None = None

    def launched(self, now: float) -> None:
        """Say that an attempt was sent."""
        self._taken = None
        self._sent += 1
        self._in_flight += 1
        self._due = now + self._delay if self._sent < self.policy.max_attempts else math.inf

    def due_in(self, now: float) -> float | None:
        """Return the seconds until the next attempt is due; None if no more will be."""
        return None if self._due == math.inf else max(0.0, self._due - now)

    def take(self, cost: float = OK.cost) -> bool:
        """Whether the budget lets the attempt that is due go; if not, no more are due."""
        if self._taken is not None:
            return True  # taken for one that has been decided and not been sent yet
        if self._budget is None or self._budget.take(cost):
            self._taken = cost
            return True
        self._due = math.inf
        return False

    def unsent(self) -> None:
        """Say that the attempt will not go out after all (the breaker refused, the call ended); no more are due."""
        taken, self._taken = self._taken, None
        self._due = math.inf
        if taken is not None and self._budget is not None:
            self._budget.refund(taken)

    def lost(self) -> None:
        """Say that an attempt has ended whose end tells nothing."""
        self._in_flight -= 1

    def replaced(self, now: float) -> None:
        """Say that an attempt was refused for its credentials: one with others takes its place, at once and free."""
        self.unsent()
        self.lost()
        self._sent -= 1
        self._due, self._taken = now, 0.0

    def settle(self, verdict: Verdict, now: float) -> HedgeStep:
        """Say how an attempt ended; tells the budget.

        A failure that is not fatal makes the next attempt due at once, or when the server's pushback says; one that
        forbids more leaves those that are out. The call fails when none is out and none is due.
        """
        self._in_flight -= 1
        if verdict.stop:
            self._due = math.inf
            self._debit()
        elif verdict.allowed_by(self.policy.non_fatal_codes):
            self._debit()
            if self._due != math.inf:
                self._due = now + max(verdict.pushback or 0.0, verdict.delay or 0.0)
        else:
            if self._budget is not None:
                self._budget.credit(verdict)
            return HedgeStep.FINISH
        return HedgeStep.WAIT if self._in_flight or self._due != math.inf else HedgeStep.FINISH

    def _debit(self) -> None:
        if self._budget is not None:
            self._budget.debit()

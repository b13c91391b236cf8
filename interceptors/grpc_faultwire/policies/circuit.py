"""The vocabulary of circuit breakers: settings, states, and what a breaker says of itself."""

from __future__ import annotations

import enum
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from grpc_faultwire.policies import checks


class BreakerState(enum.Enum):
    """Where a breaker stands. The value is the name in telemetry."""

    CLOSED = "closed"
    """Calls pass; their outcomes are counted."""
    OPEN = "open"
    """Calls are refused until the open period is over."""
    HALF_OPEN = "half_open"
    """A probe at a time passes; successes close the circuit, a failure opens it again."""
    FORCED_OPEN = "forced_open"
    """An operator's word: all calls are refused."""
    FORCED_CLOSED = "forced_closed"
    """An operator's word: all calls pass, and no outcome opens the circuit."""


class BreakerMode(enum.Enum):
    """Whether a breaker's decisions are carried out."""

    ENFORCE = "enforce"
    OBSERVE = "observe"
    """Shadow mode: it counts, changes its state and tells its listener, but refuses nothing, even if forced open."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BreakerPolicy:
    """When a circuit opens, and how it closes again.

    It judges the *ratio* of failures in a window of time. One that counts failures in a row opens at random where a
    quarter of the calls fail: at 200 calls a second it let 4 % succeed where 75 % could have (``simulations/``).

    Attributes:
        window: seconds that are judged. 10: long enough for a ratio, short enough to act within an outage.
        buckets: parts in which the window slides. 10.
        minimum_calls: calls in the window without which nothing is judged. 20: a third of five calls means nothing.
        longest_window: seconds to which the window stretches while it holds fewer calls than ``minimum_calls``, so that
            a client of one call in two seconds opens its circuit too. 60; ``window`` or less stretches nothing.
        failure_ratio: share of failures that opens the circuit. 0.5.
        slow_call_duration: seconds from which a call is slow; None (the default) times none.
        slow_call_ratio: share of slow calls that opens the circuit. 1.0.
        overdue_after: seconds after which a call that has not ended counts as a failure until it does; a server that
            hangs thus opens the circuit before the first timeout. Noticed with the granularity of a bucket. 10; None
            waits for the end of calls. Calls that are meant to last are acquired with ``watched=False``.
        open_duration: seconds that the circuit stays open the first time. 2: recovery is found within seconds.
        open_multiplier: growth of the open period each time that a probe fails, unless another one succeeded before
            it: then the period is the first one again. 2.
        max_open_duration: seconds that no open period exceeds, before jitter. 30.
        open_jitter: share by which open periods are spread, so that clients do not probe in step. 0.2, as gRFC A6.
        half_open_calls: probes in flight at a time. 1.
        successes_to_close: successful probes that close the circuit. 3: one can be luck.
        neutral_probes_to_widen: after so many neutral probes the number at a time doubles: else traffic that proves
            nothing either way would stay refused for ever (erpc#1118). 5.
        mode: ``ENFORCE``, or ``OBSERVE`` for a trial.

    Raises:
        ValueError: a number is out of range.
    """

    window: float = 10.0
    buckets: int = 10
    minimum_calls: int = 20
    longest_window: float = 60.0
    failure_ratio: float = 0.5
    slow_call_duration: float | None = None
    slow_call_ratio: float = 1.0
    overdue_after: float | None = 10.0
    open_duration: float = 2.0
    open_multiplier: float = 2.0
    max_open_duration: float = 30.0
    open_jitter: float = 0.2
    half_open_calls: int = 1
    successes_to_close: int = 3
    neutral_probes_to_widen: int = 5
    mode: BreakerMode = BreakerMode.ENFORCE

    def __post_init__(self) -> None:
        checks.positive("window", self.window)
        checks.whole("buckets", self.buckets, 1)
        checks.whole("minimum_calls", self.minimum_calls, 1)
        checks.not_negative("longest_window", self.longest_window)
        checks.ratio("failure_ratio", self.failure_ratio)
        checks.ratio("slow_call_ratio", self.slow_call_ratio)
        if self.slow_call_duration is not None:
            checks.positive("slow_call_duration", self.slow_call_duration)
        if self.overdue_after is not None:
            checks.positive("overdue_after", self.overdue_after)
        checks.positive("open_duration", self.open_duration)
        checks.at_least("open_multiplier", self.open_multiplier, 1)
        checks.at_least("max_open_duration", self.max_open_duration, self.open_duration)
        if not 0 <= self.open_jitter < 1:
            raise ValueError(f"open_jitter is {self.open_jitter!r}; it must be 0 or more, and below 1.")
        checks.whole("half_open_calls", self.half_open_calls, 1)
        checks.whole("successes_to_close", self.successes_to_close, 1)
        checks.whole("neutral_probes_to_widen", self.neutral_probes_to_widen, 1)

    def open_period(self, failed_probes: int, u: float) -> float:
        """Return the seconds to stay open after so many failed probes in a row, spread by ``u`` in [0, 1)."""
        try:
            period = min(self.open_duration * self.open_multiplier**failed_probes, self.max_open_duration)
        except OverflowError:  # a float cannot hold it, so it is past the maximum
            period = self.max_open_duration
        return period * (1.0 - self.open_jitter + 2.0 * self.open_jitter * u)


class Refusal(NamedTuple):
    """The answer of a breaker that lets no call pass. It is false where a permit is true.

    Attributes:
        state: the breaker's state.
        retry_after: seconds until a call may pass; None if nobody can know (forced open).
    """

    state: BreakerState
    retry_after: float | None

    def __bool__(self) -> Literal[False]:
        return False


class Transition(NamedTuple):
    """A change of a breaker's state, as its listener is told.

    Attributes:
        key: what the breaker guards, as given when it was made.
        before: the state left.
        after: the state entered.
        at: seconds on the monotonic clock.
        generation: number of changes so far.
        failure_ratio: share of failures among the calls that were judged when it changed.
        open_for: seconds that it will stay open; None if it did not open, or was forced to.
    """

    key: Hashable
    before: BreakerState
    after: BreakerState
    at: float
    generation: int
    failure_ratio: float
    open_for: float | None


class BreakerSnapshot(NamedTuple):
    """A breaker at one moment, all parts of it read together.

    Attributes:
        key: what the breaker guards.
        state: where it stands.
        mode: whether its decisions are carried out.
        generation: number of changes of state so far.
        calls: finished calls in the window.
        failures: how many of them failed.
        slow: how many of them were slow.
        overdue: calls in flight that count as failed for now.
        failure_ratio: share of failures, overdue calls included; 0 without calls.
        probes: probes in flight with a valid lease.
        retry_after: seconds until a call may pass; 0 if it may now, None if nobody can know (forced open).
        refused: calls refused so far; in shadow mode, those that would have been.
        stale: results that came after the state had changed, so far; they were not applied.
        neutral: results that said nothing about the server, so far.
    """

    key: Hashable
    state: BreakerState
    mode: BreakerMode
    generation: int
    calls: int
    failures: int
    slow: int
    overdue: int
    failure_ratio: float
    probes: int
    retry_after: float | None
    refused: int
    stale: int
    neutral: int

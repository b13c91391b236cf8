"""The circuit breaker: it stops calls to a server that fails, and finds out when it has recovered.

    closed ── ratio of failures ──> open ── open period is over ──> half-open ── successes ──> closed
                                     ^                                  │
                                     └─────────── a failure ────────────┘

``acquire()`` before the call, ``permit.record()`` after it; the call itself stays outside, so one breaker serves
blocking calls, tasks and streams alike. Every change of state begins a new *generation*: what a call of an earlier one
has to say is counted as stale and changes nothing, so that a late success closes no circuit.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Hashable
from typing import Literal

from grpc_faultwire.policies.circuit import (
    BreakerMode,
    BreakerPolicy,
    BreakerSnapshot,
    BreakerState,
    Refusal,
    Transition,
)
from grpc_faultwire.policies.notices import Notices
from grpc_faultwire.policies.verdict import Health
from grpc_faultwire.policies.window import Bucket, Window

_CLOSED = BreakerState.CLOSED
_OPEN = BreakerState.OPEN
_HALF_OPEN = BreakerState.HALF_OPEN
_FORCED_OPEN = BreakerState.FORCED_OPEN
_FORCED_CLOSED = BreakerState.FORCED_CLOSED
_SUCCESS = Health.SUCCESS
_FAILURE = Health.FAILURE
_NEUTRAL = Health.NEUTRAL

_SHADOW = -1
"""The generation of a permit that only shadow mode gave: no breaker is ever in it."""

_HEALTHY, _ENDED = 1, 2
"""What has become of a permit's call: its first message has come; it has ended; or, added up, both."""

_WIDEST = 20
"""Doublings of the number of probes at a time: a million is no limit any more."""


class Permit:
    """Leave to make one call. Record its outcome, or release it, once; further times do nothing.

    Attributes:
        breaker: who gave it.
    """

    __slots__ = ("_bucket", "_phase", "breaker", "generation", "started")

    def __init__(self, breaker: Breaker, generation: int, started: float, bucket: Bucket | None) -> None:
        self.breaker = breaker
        self._bucket = bucket
        self._phase = 0
        self.generation = generation
        self.started = started

    def __bool__(self) -> Literal[True]:
        return True

    @property
    def shadowed(self) -> bool:
        """Whether only shadow mode let the call pass."""
        return self.generation == _SHADOW

    @property
    def ended(self) -> bool:
        """Whether its call's outcome was recorded, or it was released."""
        return self._phase >= _ENDED

    def record(self, health: Health, now: float) -> None:
        """Say how the call ended: ``verdict.health``, at ``now`` on the monotonic clock."""
        breaker = self.breaker
        lock = breaker._lock
        lock.acquire()  # as in Breaker.acquire()
        try:
            if self._phase >= _ENDED:
                return
            self._phase += _ENDED
            window = breaker._window
            if (
                self.generation == breaker._plain and health is _SUCCESS and self._phase == _ENDED and now < window.edge
            ):  # the usual case, written out for its speed; _settle() would do the same
                bucket = self._bucket
                if bucket is not None:
                    bucket.live -= 1
                    window.overdue -= bucket.overdue
                window.current.calls += 1
                window.calls += 1
                if window.failures or window.overdue:
                    breaker._judge(now)
            else:
                breaker._settle(self, health, now)
        finally:
            lock.release()
        if breaker._notices.waiting:
            breaker._notices.deliver()

    def release(self) -> None:
        """Say that the call ended without telling anything about the server: the same as recording NEUTRAL."""
        self.record(_NEUTRAL, self.started)

    def healthy(self, now: float) -> None:
        """Say that a stream's first message came: a success at once; its end counts again only if it fails.

        Without it a probe that became a stream of hours would keep the circuit half-open for as long.
        """
        breaker = self.breaker
        with breaker._lock:
            if self._phase:
                return
            self._phase = _HEALTHY
            breaker._settle(self, _SUCCESS, now)
        breaker._notices.deliver()


class Breaker:
    """A circuit breaker for one target; safe to share between threads and tasks.

    Args:
        policy: its settings; ``BreakerPolicy()`` if None.
        rng: returns random numbers in [0, 1), for the jitter of open periods. Called under the lock.
        listener: told of each change of state, outside the lock, one at a time and in order. What it raises is
            logged; it may call the breaker, and hears of what it causes after it has returned.
        key: what the breaker guards, for its listener.

    Attributes:
        forgotten: its registry has removed it.
        passing: whether all calls pass: it is closed, or forced to be.
        used: since its registry last looked, by somebody who keeps it.
    """

    __slots__ = (
        "_failed_probes", "_generation", "_listener", "_lock", "_neutral", "_neutral_probes", "_notices", "_open_until",
        "_period", "_plain", "_probes", "_refused", "_rng", "_stale", "_state", "_successes", "_window",
        "forgotten", "key", "passing", "policy", "used",
    )  # fmt: skip

    def __init__(
        self,
        policy: BreakerPolicy | None = None,
        *,
        rng: Callable[[], float],
        listener: Callable[[Transition], None] | None = None,
        key: Hashable = None,
    ) -> None:
        self.policy = policy or BreakerPolicy()
        self.key = key
        self._rng = rng
        self._listener = listener
        self._generation = 0
        self._probes: dict[Permit, float] = {}
        self._neutral_probes = 0
        self.forgotten = self.used = False
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Start anew, closed, in a child process, without touching a lock that a thread of the parent may hold."""
        self._lock = threading.Lock()
        self._notices = Notices(self._listener)
        self._refused = self._stale = self._neutral = 0
        self._open_until = self._period = 0.0
        self._failed_probes = 0
        self._begin(_CLOSED)

    @property
    def state(self) -> BreakerState:
        """Where it stands. An open period that is over ends when the next call asks."""
        return self._state

    def acquire(
        self,
        now: float,
        timeout: float | None = None,
        watched: bool = True,  # noqa: FBT001, FBT002  # keywords take time
    ) -> Permit | Refusal:
        """Ask for leave to make a call.

        Args:
            now: seconds on the monotonic clock.
            timeout: seconds that the call may take. The slot of a probe is free again after them, or after the open
                period that went before, whichever is shorter; so a probe that hangs keeps out nobody for long.
            watched: count the call as failed while it is overdue. False for calls that are meant to last.

        Returns:
            A permit, or a refusal, which is false.
        """
        lock = self._lock
        lock.acquire()  # by name: with `with`, locking takes three times as long
        try:
            window = self._window
            if now >= window.edge and self.passing:
                self._roll(now)
                window = self._window
            if self.passing:
                bucket = None
                if watched:
                    bucket = window.current
                    bucket.live += 1
                return Permit(self, self._generation, now, bucket)
            answer = self._admit(now, timeout)
        finally:
            lock.release()
        if self._notices.waiting:
            self._notices.deliver()
        return answer

    def blocked_for(self, now: float) -> float:
        """Return the seconds for which calls are refused: 0 if not, infinite if forced open. In shadow mode, 0."""
        with self._lock:
            if self.policy.mode is BreakerMode.OBSERVE:
                return 0.0
            wait = self._wait(now)
        return math.inf if wait is None else wait

    def force_open(self, now: float) -> None:
        """Refuse all calls until told otherwise."""
        self._force(_FORCED_OPEN, now)

    def force_closed(self, now: float) -> None:
        """Let all calls pass until told otherwise."""
        self._force(_FORCED_CLOSED, now)

    def auto(self, now: float) -> None:
        """End a forced state: begin anew, closed and with an empty window. Without one, nothing changes."""
        with self._lock:
            if self._state in {_FORCED_OPEN, _FORCED_CLOSED}:
                self._move(_CLOSED, now)
        self._notices.deliver()

    def snapshot(self, now: float) -> BreakerSnapshot:
        """Return what it knows, read in one go."""
        with self._lock:
            if now >= self._window.edge:
                self._roll(now)
            window = self._window
            snapshot = BreakerSnapshot(
                key=self.key,
                state=self._state,
                mode=self.policy.mode,
                generation=self._generation,
                calls=window.calls,
                failures=window.failures,
                slow=window.slow,
                overdue=window.overdue,
                failure_ratio=window.failure_ratio(),
                probes=sum(expiry > now for expiry in self._probes.values()),
                retry_after=self._wait(now),
                refused=self._refused,
                stale=self._stale,
                neutral=self._neutral,
            )
        self._notices.deliver()
        return snapshot

    # What follows runs under the lock; only _force() takes it itself.

    def _settle(self, permit: Permit, health: Health, now: float) -> None:
        """Apply an outcome, if its permit is of this generation."""
        if permit.generation != self._generation:
            self._stale += permit.generation != _SHADOW
            return
        window = self._window
        if (bucket := permit._bucket) is not None:
            permit._bucket = None
            window.end(bucket)
        if health is _NEUTRAL:
            self._neutral += 1
            self._neutral_probes += not self.passing
            self._probes.pop(permit, None)
        elif permit._phase == _HEALTHY + _ENDED and health is _SUCCESS:
            pass  # it was counted when its first message came
        elif self.passing:
            if now >= window.edge:
                window.roll(now)
            window.add(failed=health is _FAILURE, slow=self._is_slow(permit, now))
            self._judge(now)
        else:
            self._probed(permit, now, failed=health is _FAILURE or self._is_slow(permit, now))

    def _is_slow(self, permit: Permit, now: float) -> bool:
        limit = self.policy.slow_call_duration
        return limit is not None and now - permit.started >= limit

    def _roll(self, now: float) -> None:
        self._window.roll(now)
        self._judge(now)

    def _judge(self, now: float) -> None:
        """Open a closed circuit if what the window holds is bad enough."""
        policy, window = self.policy, self._window
        overdue = window.overdue
        calls = window.calls + overdue
        if self._state is not _CLOSED or calls < policy.minimum_calls:
            return
        # Divided, since 0.07 * 100 is above 7 and would open the circuit one failure late.
        failing = (window.failures + overdue) / calls >= policy.failure_ratio
        if failing or (window.slow + overdue) / calls >= policy.slow_call_ratio:
            self._open(now)

    def _probed(self, permit: Permit, now: float, *, failed: bool) -> None:
        self._probes.pop(permit, None)
        if failed:
            # Doubled only for a server that answers nothing. One that answers some is alive, and where a quarter of
            # its calls fail, three good probes in a row are rare: doubling would shut it out for most of the time.
            self._failed_probes = 0 if self._successes else self._failed_probes + 1
            self._open(now)
            return
        self._successes += 1
        if self._successes >= self.policy.successes_to_close:
            self._move(_CLOSED, now)

    def _admit(self, now: float, timeout: float | None) -> Permit | Refusal:
        """Answer while not all calls pass: give a probe its lease, or refuse."""
        if self._state is _OPEN and now >= self._open_until:
            self._move(_HALF_OPEN, now)
        if self._state is _HALF_OPEN and self._has_slot(now):
            permit = Permit(self, self._generation, now, None)
            self._probes[permit] = now + (self._period if timeout is None else min(timeout, self._period))
            return permit
        self._refused += 1
        if self.policy.mode is BreakerMode.OBSERVE:
            return Permit(self, _SHADOW, now, None)
        return Refusal(self._state, self._wait(now))

    def _has_slot(self, now: float) -> bool:
        """Whether another probe may go, after those whose lease is over have lost their slots."""
        widened = min(self._neutral_probes // self.policy.neutral_probes_to_widen, _WIDEST)
        allowed = self.policy.half_open_calls << widened
        if len(self._probes) >= allowed:
            self._probes = {permit: expiry for permit, expiry in self._probes.items() if expiry > now}
        return len(self._probes) < allowed

    def _wait(self, now: float) -> float | None:
        """Return the seconds until a call may pass; None if nobody can know."""
        if self._state is _FORCED_OPEN:
            return None
        if self._state is _OPEN:
            return max(0.0, self._open_until - now)
        if self.passing or self._has_slot(now):
            return 0.0
        return min(self._probes.values()) - now

    def _open(self, now: float) -> None:
        self._period = self.policy.open_period(self._failed_probes, self._rng())
        self._open_until = now + self._period
        self._move(_OPEN, now, self._period)

    def _force(self, state: BreakerState, now: float) -> None:
        with self._lock:
            if self._state is not state:
                self._move(state, now)
        self._notices.deliver()

    def _move(self, state: BreakerState, now: float, open_for: float | None = None) -> None:
        before, ratio = self._state, self._window.failure_ratio()
        self._begin(state)
        self._notices.post(Transition(self.key, before, state, now, self._generation, ratio, open_for))

    def _begin(self, state: BreakerState) -> None:
        """Enter a state: a new generation, in which nothing has happened yet."""
        self._generation += 1
        self._state = state
        self.passing = state in {_CLOSED, _FORCED_CLOSED}
        # The generation, if a success needs no more than to be counted.
        self._plain = self._generation if self.passing and self.policy.slow_call_duration is None else None
        if self.passing:
            self._failed_probes = 0
        self._window = Window(self.policy)
        self._probes = {}
        self._successes = self._neutral_probes = 0

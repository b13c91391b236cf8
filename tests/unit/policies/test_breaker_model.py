"""The breaker beside a reference that is too simple to be wrong: every interleaving, then random long ones."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from grpc_faultwire.policies import Breaker, BreakerPolicy, Health

from .reference import Reference

SMALL = BreakerPolicy(
    window=2.0,
    buckets=2,
    minimum_calls=2,
    longest_window=0.0,
    overdue_after=2.0,
    open_duration=2.0,
    max_open_duration=4.0,
    open_jitter=0.0,
    successes_to_close=2,
    neutral_probes_to_widen=2,
)


class Pair:
    """A breaker and its reference, driven by the same events and compared after each."""

    def __init__(self, policy):
        self.breaker = Breaker(policy, rng=lambda: 0.5)
        self.reference = Reference(policy)
        self.now = 0.0
        self.held = {}

    def acquire(self, name):
        permit = self.breaker.acquire(self.now)
        generation = self.reference.acquire(name, self.now)
        assert bool(permit) == (generation is not None)
        if permit:
            assert permit.generation == generation
            self.held[name] = permit
        self.compare()

    def end(self, name, health):
        permit = self.held.pop(name)
        permit.record(Health(health), self.now)
        permit.record(Health.FAILURE, self.now)  # a second time must do nothing
        permit.release()
        self.reference.record(name, permit.generation, health, self.now)
        self.compare()

    def compare(self):
        breaker, reference = self.breaker, self.reference
        assert breaker.state.value == reference.state
        assert (breaker._stale, breaker._neutral, breaker._refused) == (
            reference.stale,
            reference.neutral,
            reference.refused,
        )

    def key(self):
        """All that decides what may happen next, with times taken from now."""
        breaker, window, now = self.breaker, self.breaker._window, self.now
        permits = [
            (
                name,
                permit.generation == breaker._generation,
                permit.started - now,
                breaker._probes.get(permit, now) - now,
            )
            for name, permit in sorted(self.held.items())
        ]
        buckets = [
            tuple((b.number - now, b.calls, b.failures, b.live, b.overdue) for b in part)
            for part in (window._counted, window._started, window._hung)
        ]
        until = max(0.0, breaker._open_until - now) if breaker.state.value == "open" else 0
        return repr((
            breaker.state, permits, buckets, until, breaker._period, breaker._failed_probes, breaker._successes,
            breaker._neutral_probes, len(breaker._probes), window.overdue,
        ))  # fmt: skip


def events(pair):
    """Whatever may happen next: a call that hangs is one that never ends."""
    free = next((name for name in "abc" if name not in pair.held), None)
    if free:
        yield ("acquire", free)
    for name in pair.held:
        for health in ("success", "failure", "neutral"):
            yield (health, name)
    yield ("tick", 1.0)
    yield ("expire", 4.0)


def replay(path):
    """A pair that has lived through these events."""
    pair = Pair(SMALL)
    for kind, what in path:
        if kind == "acquire":
            pair.acquire(what)
        elif kind in {"tick", "expire"}:
            pair.now += what
        else:
            pair.end(what, kind)
    return pair


def test_every_interleaving_of_three_calls():
    """Up to nine events of three calls and the clock, in any order, leave breaker and reference agreed."""
    seen, frontier, opened = set(), [()], set()
    for _ in range(9):
        following = []
        for path in frontier:
            for event in events(replay(path)):
                pair = replay((*path, event))
                opened.add(pair.breaker.state.value)
                key = pair.key()
                if key not in seen:
                    seen.add(key)
                    following.append((*path, event))
        frontier = following
    assert opened == {"closed", "open", "half_open"}
    assert len(seen) > 5_000


class BreakerMachine(RuleBasedStateMachine):
    """Long random lives, with more calls and finer time than can be enumerated."""

    policy = BreakerPolicy(
        window=5.0,
        minimum_calls=4,
        longest_window=0.0,
        overdue_after=3.0,
        open_jitter=0.0,
        half_open_calls=2,
        neutral_probes_to_widen=3,
    )

    def __init__(self):
        super().__init__()
        self.pair = Pair(self.policy)
        self.count = 0

    @rule(calls=st.integers(1, 4))
    def acquire(self, calls):
        for _ in range(calls):
            self.count += 1
            self.pair.acquire(self.count)

    @precondition(lambda self: self.pair.held)
    @rule(data=st.data(), health=st.sampled_from(["success", "failure", "failure", "neutral"]))
    def end(self, data, health):
        self.pair.end(data.draw(st.sampled_from(sorted(self.pair.held))), health)

    @rule(eighths=st.integers(1, 40))
    def wait(self, eighths):
        self.pair.now += eighths / 8

    @rule(state=st.sampled_from(["forced_open", "forced_closed"]))
    def force(self, state):
        breaker, reference = self.pair.breaker, self.pair.reference
        force = breaker.force_open if state == "forced_open" else breaker.force_closed
        force(self.pair.now)
        if reference.state != state:
            reference.enter(state)

    @rule()
    def auto(self):
        self.pair.breaker.auto(self.pair.now)
        if self.pair.reference.state.startswith("forced"):
            self.pair.reference.enter("closed")

    @invariant()
    def agreed(self):
        self.pair.compare()


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)

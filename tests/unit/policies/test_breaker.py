"""The circuit breaker by example: when it opens, what it refuses, and what it takes no notice of."""

import random

import pytest

from grpc_faultwire.policies import Breaker, BreakerMode, BreakerPolicy, BreakerState, Health

OK, BAD, NEUTRAL = Health.SUCCESS, Health.FAILURE, Health.NEUTRAL
CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
POLICY = BreakerPolicy(minimum_calls=4, open_jitter=0.0)


def make(policy=POLICY, **changes):
    """A breaker without jitter."""
    return Breaker(policy, rng=lambda: 0.5, **changes)


def call(breaker, health, now=0.0, seconds=0.0):
    """One call that is let through and ends so."""
    permit = breaker.acquire(now)
    assert permit
    permit.record(health, now + seconds)


def opened(now=0.0, policy=POLICY, **changes):
    """A breaker that has just opened."""
    breaker = make(policy, **changes)
    for _ in range(policy.minimum_calls):
        call(breaker, BAD, now)
    assert breaker.state is OPEN
    return breaker


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        pytest.param("fff", CLOSED, id="too-few-calls"),
        pytest.param("ffff", OPEN, id="the-last-of-the-least-calls"),
        pytest.param("fssf", OPEN, id="exactly-the-ratio"),
        pytest.param("sssfff", OPEN, id="failures-after-successes"),
        pytest.param("sssssfff", CLOSED, id="below-the-ratio"),
        pytest.param("ffs" + "s", OPEN, id="a-success-may-complete-the-count"),
        pytest.param("fffnnnnn", CLOSED, id="neutral-ones-do-not-count"),
    ],
)
def test_it_opens_by_ratio(outcomes, state):
    """It opens when there are enough calls and the share of failures is reached, not one call earlier or later."""
    breaker = make()
    for outcome in outcomes:
        call(breaker, {"f": BAD, "s": OK, "n": NEUTRAL}[outcome])
    assert breaker.state is state


def test_seven_in_a_hundred_is_seven_in_a_hundred():
    """A ratio that floats cannot hold exactly is still reached at exactly its share."""
    breaker = make(BreakerPolicy(minimum_calls=100, failure_ratio=0.07))
    for n in range(100):
        call(breaker, BAD if n < 7 else OK)
    assert breaker.state is OPEN


def test_a_flood_of_refusals_by_a_healthy_server_does_not_open_it():
    """A client's own mistakes (INVALID_ARGUMENT) are answers, so they are successes here."""
    breaker = make()
    for _ in range(1000):
        call(breaker, OK)
    assert breaker.state is CLOSED
    assert breaker.snapshot(0.0).failure_ratio == 0.0


def test_old_failures_are_forgotten():
    """Failures that have left the window no longer count."""
    breaker = make(BreakerPolicy(minimum_calls=4, longest_window=0.0))
    for now in (0.0, 0.5, 1.0):
        call(breaker, BAD, now)
    call(breaker, BAD, 11.0)
    assert breaker.state is CLOSED
    assert breaker.snapshot(11.0).calls == 1


def test_a_rare_caller_opens_it_too():
    """At 0.4 calls a second the window stretches until it holds enough calls, and not for ever."""
    breaker = make(BreakerPolicy())
    for n in range(20):
        call(breaker, BAD, n * 2.5)
    assert breaker.state is OPEN
    rarer = make(BreakerPolicy())
    for n in range(100):
        call(rarer, BAD, n * 4.0)
    assert rarer.state is CLOSED
    assert rarer.snapshot(400.0).calls <= 15


def test_the_stretched_window_lets_go_when_it_need_not_stretch():
    """Once the last ten seconds hold enough calls, older ones are dropped."""
    breaker = make(BreakerPolicy(minimum_calls=4, failure_ratio=0.9))
    for now in (0.0, 1.0):
        call(breaker, BAD, now)
    call(breaker, OK, 2.0)
    for now in (30.0, 31.0, 32.0, 33.0):
        call(breaker, OK, now)
    assert breaker.snapshot(34.0).failures == 0


def test_calls_that_hang_open_it():
    """A server that answers nothing opens the circuit while its calls are still out."""
    breaker = make()
    permits = [breaker.acquire(0.5) for _ in range(4)]
    assert breaker.acquire(9.0)
    assert breaker.acquire(10.9)
    assert not breaker.acquire(11.0)
    assert breaker.state is OPEN
    for permit in permits:
        permit.record(BAD, 30.0)
    assert breaker.snapshot(30.0).stale == 4


def test_overdue_is_provisional():
    """An overdue call that ends well after all is a success, and no failure any more."""
    breaker = make(BreakerPolicy(minimum_calls=5))
    late = [breaker.acquire(0.0) for _ in range(3)]
    assert breaker.snapshot(12.0).overdue == 3
    for permit in late:
        permit.record(OK, 12.0)
    snapshot = breaker.snapshot(12.0)
    assert (snapshot.overdue, snapshot.calls, snapshot.failures) == (0, 3, 0)


def test_calls_that_are_meant_to_last_are_not_overdue():
    """Unwatched calls, and all calls if the policy says so, may take as long as they like."""
    breaker, patient = make(), make(BreakerPolicy(minimum_calls=4, overdue_after=None))
    for _ in range(10):
        breaker.acquire(0.0, watched=False)
        patient.acquire(0.0)
    assert breaker.acquire(20.0, watched=False)
    assert patient.acquire(20.0)
    assert breaker.snapshot(20.0).overdue == patient.snapshot(20.0).overdue == 0


def test_lost_permits_are_forgotten():
    """Calls whose end is never told count as overdue for a while, and then not at all."""
    breaker = make(BreakerPolicy(minimum_calls=100))
    lost = [breaker.acquire(0.0) for _ in range(5)]
    assert breaker.snapshot(20.0).overdue == 5
    assert breaker.snapshot(72.0).overdue == 0
    lost[0].record(OK, 73.0)
    assert breaker.snapshot(73.0).overdue == 0


def test_slow_calls_open_it():
    """Where slow calls are judged, successes that take too long open the circuit."""
    policy = BreakerPolicy(minimum_calls=4, slow_call_duration=0.5, slow_call_ratio=0.5)
    breaker = make(policy)
    for seconds in (0.1, 0.4, 0.5):
        call(breaker, OK, seconds=seconds)
    assert breaker.snapshot(0.0).slow == 1
    call(breaker, OK, seconds=5.0)
    assert breaker.state is OPEN


def test_a_slow_probe_closes_nothing():
    """A probe that succeeds too slowly is a failure."""
    policy = BreakerPolicy(minimum_calls=4, slow_call_duration=1.0, open_jitter=0.0)
    breaker = opened(policy=policy)
    call(breaker, OK, 2.0, seconds=1.5)
    assert breaker.state is OPEN


def test_a_refusal_tells_how_long():
    """An open circuit says when to come back; it is false where a permit is true."""
    refusal = opened().acquire(0.5)
    assert not refusal
    assert (refusal.state, refusal.retry_after) == (OPEN, 1.5)


def test_open_periods_double_up_to_the_maximum():
    """Each failed probe doubles the open period, from 2 s to 30 s; closing starts over."""
    breaker, now, periods = opened(), 0.0, []
    for _ in range(6):
        periods.append(breaker.blocked_for(now))
        now += periods[-1]
        call(breaker, BAD, now)
    assert periods == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    now += 30.0
    for _ in range(3):
        call(breaker, OK, now)
    for _ in range(4):
        call(breaker, BAD, now)
    assert breaker.blocked_for(now) == 2.0


def test_a_server_that_answers_some_is_not_shut_out():
    """The open period does not double when a probe succeeded before another failed: the server is alive."""
    breaker = opened()
    call(breaker, BAD, 2.0)
    assert breaker.blocked_for(2.0) == 4.0
    call(breaker, OK, 6.0)
    call(breaker, BAD, 6.0)
    assert breaker.blocked_for(6.0) == 2.0


def test_a_thousand_failed_probes_overflow_nothing():
    """The doubling stops where floats end."""
    assert BreakerPolicy(open_jitter=0.0).open_period(5000, 0.0) == 30.0


@pytest.mark.parametrize(("u", "seconds"), [(0.0, 1.6), (0.5, 2.0), (1.0, 2.4)])
def test_open_periods_are_spread(u, seconds):
    """Open periods differ by up to a fifth, so that clients do not probe in step."""
    breaker = Breaker(BreakerPolicy(minimum_calls=1), rng=lambda: u)
    call(breaker, BAD)
    assert breaker.blocked_for(0.0) == pytest.approx(seconds)


def test_forced_open_refuses_until_told_otherwise():
    """An operator's word outlasts all time, and nobody can tell how long."""
    breaker = make()
    breaker.force_open(0.0)
    refusal = breaker.acquire(1e9)
    assert (refusal.state, refusal.retry_after) == (BreakerState.FORCED_OPEN, None)
    assert breaker.blocked_for(1e9) == float("inf")
    breaker.auto(1e9)
    assert breaker.state is CLOSED
    assert breaker.acquire(1e9)


def test_forced_closed_lets_all_pass():
    """While forced closed, failures are counted and open nothing; afterwards the window is empty."""
    breaker = opened()
    breaker.force_closed(0.0)
    for _ in range(50):
        call(breaker, BAD)
    assert breaker.state is BreakerState.FORCED_CLOSED
    assert breaker.snapshot(0.0).failures == 50
    breaker.auto(0.0)
    assert (breaker.state, breaker.snapshot(0.0).calls) == (CLOSED, 0)


def test_auto_without_a_forced_state_changes_nothing():
    """Ending a forced state that is none leaves an open circuit open."""
    breaker = opened()
    breaker.auto(0.0)
    assert breaker.state is OPEN


def test_shadow_mode_refuses_nothing_and_tells_what_it_would():
    """In observe mode the states change, every call passes, and what it would have refused is counted."""
    policy = BreakerPolicy(minimum_calls=4, mode=BreakerMode.OBSERVE, open_jitter=0.0)
    breaker = opened(policy=policy)
    permits = [breaker.acquire(0.5) for _ in range(5)]
    assert all(permit.shadowed for permit in permits)
    for permit in permits:
        permit.record(OK, 0.6)
    snapshot = breaker.snapshot(0.6)
    assert (snapshot.state, snapshot.refused, snapshot.stale) == (OPEN, 5, 0)
    assert breaker.blocked_for(0.6) == 0.0
    assert not breaker.acquire(2.0).shadowed
    assert breaker.state is HALF_OPEN


def put(breaker, state, now):
    """Bring a closed breaker into a state, by its own ways."""
    if state in {OPEN, HALF_OPEN}:
        for _ in range(POLICY.minimum_calls):
            call(breaker, BAD, now)
    if state is HALF_OPEN:
        assert breaker.acquire(now + 2.0)
    if state is BreakerState.FORCED_OPEN:
        breaker.force_open(now)
    if state is BreakerState.FORCED_CLOSED:
        breaker.force_closed(now)
    if state is CLOSED:
        breaker.force_open(now)
        breaker.auto(now)
    assert breaker.state is state


@pytest.mark.parametrize("state", list(BreakerState), ids=lambda state: state.value)
@pytest.mark.parametrize("health", list(Health), ids=lambda health: health.value)
def test_a_late_result_changes_nothing(state, health):
    """What a call of an earlier generation tells is counted as stale and not applied, whatever the state is now."""
    breaker = make()
    late = [breaker.acquire(0.0) for _ in range(10)]
    put(breaker, state, 1.0)
    before = breaker.snapshot(3.0)
    for permit in late:
        permit.record(health, 3.0)
    assert breaker.snapshot(3.0) == before._replace(stale=before.stale + 10)


@pytest.mark.parametrize("health", list(Health), ids=lambda health: health.value)
def test_a_late_probe_changes_nothing(health):
    """A probe of an earlier half-open state is stale in the next one, and takes no slot from its probes."""
    breaker = opened()
    hung = breaker.acquire(2.0)
    call(breaker, BAD, 4.0)
    assert breaker.acquire(8.0)
    before = breaker.snapshot(8.0)
    hung.record(health, 8.0)
    assert breaker.snapshot(8.0) == before._replace(stale=before.stale + 1)
    assert not breaker.acquire(8.0)


def test_a_permit_counts_once():
    """Recording or releasing a permit again does nothing."""
    breaker = make()
    permit = breaker.acquire(0.0)
    permit.record(OK, 0.0)
    for _ in range(5):
        permit.record(BAD, 0.0)
        permit.healthy(0.0)
        permit.release()
    snapshot = breaker.snapshot(0.0)
    assert (snapshot.calls, snapshot.failures, snapshot.neutral, snapshot.stale) == (1, 0, 0, 0)


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0], ids=["a-day-back", "a-day-on"])
def test_a_clock_that_jumps_breaks_nothing(jump):
    """Readings out of order, as threads give them, or a broken clock raise nothing and keep the counts right."""
    breaker = make(BreakerPolicy(minimum_calls=1000, longest_window=0.0))
    permit = breaker.acquire(100_000.0)
    call(breaker, OK, 100_000.0)
    call(breaker, BAD, 100_000.0 + jump)
    permit.record(OK, 100_000.0)
    snapshot = breaker.snapshot(100_000.0)
    assert snapshot.calls == (3 if jump < 0 else 2)
    assert snapshot.failures == 1


def test_the_wall_clock_is_never_asked(monkeypatch):
    """Nothing but the readings it is given tells it the time."""

    def forbidden():
        raise AssertionError("asked the wall clock")

    for name in ("time", "monotonic", "perf_counter"):
        monkeypatch.setattr(f"time.{name}", forbidden)
    breaker = opened()
    call(breaker, OK, 2.0)
    assert breaker.state is HALF_OPEN


def test_time_before_zero():
    """A monotonic clock may start anywhere, even below zero."""
    breaker = opened(now=-50.5)
    assert breaker.blocked_for(-50.5) == 2.0
    assert breaker.acquire(-48.5)


def test_a_quarter_of_errors_leaves_it_closed():
    """Random errors of 25 % do not open it at 200 calls a second."""
    rng, breaker = random.Random(1), make(BreakerPolicy())
    for n in range(20_000):
        call(breaker, BAD if rng.random() < 0.25 else OK, n / 200)
    assert breaker.state is CLOSED


def test_after_a_fork_it_starts_anew():
    """A lock held at the fork is replaced; what the parent's calls tell is stale."""
    breaker = opened()
    breaker.force_closed(0.0)
    permit = breaker.acquire(0.0)
    generation = breaker._generation
    breaker._lock.acquire()
    breaker.reset_after_fork()
    assert breaker.state is CLOSED
    assert breaker._generation > generation
    permit.record(BAD, 0.0)
    assert breaker.snapshot(0.0).stale == 1
    assert breaker.acquire(0.0)

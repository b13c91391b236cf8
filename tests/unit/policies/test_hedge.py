"""Hedges: when the next attempt is due, and which answer is the call's."""

import pytest

from grpc_faultwire.category import Category
from grpc_faultwire.policies import (
    OK,
    BudgetPolicy,
    Health,
    HedgePolicy,
    HedgeState,
    HedgeStep,
    Latencies,
    RetryBudget,
    Throttle,
    Verdict,
)

POLICY = HedgePolicy(max_attempts=3, delay=1.0)
FAILED = Verdict("UNAVAILABLE", Category.OVERLOAD, retryable=True, health=Health.FAILURE)
FATAL = Verdict("NOT_FOUND", Category.NOT_FOUND)
WAIT, FINISH = HedgeStep.WAIT, HedgeStep.FINISH


def launched(times=1, budget=None, policy=POLICY):
    """A call with so many attempts out, one a second."""
    state = HedgeState(policy, delay=1.0, budget=budget)
    for n in range(times):
        state.launched(float(n))
    return state


def test_the_next_is_due_after_the_delay():
    """Each attempt makes the next one due after the delay, until all are out."""
    state = launched()
    assert (state.due_in(0.0), state.due_in(0.75), state.due_in(5.0)) == (1.0, 0.25, 0.0)
    state.launched(1.0)
    assert state.due_in(1.0) == 1.0
    state.launched(2.0)
    assert state.due_in(2.0) is None


@pytest.mark.parametrize(
    ("out", "verdict", "step", "due"),
    [
        pytest.param(1, OK, FINISH, ..., id="an-answer"),
        pytest.param(2, FATAL, FINISH, ..., id="a-fatal-error"),
        pytest.param(1, FAILED, WAIT, 0.0, id="not-fatal-sends-the-next-at-once"),
        pytest.param(2, FAILED, WAIT, 0.0, id="not-fatal-with-another-out"),
        pytest.param(3, FAILED, WAIT, None, id="not-fatal-and-all-are-sent"),
        pytest.param(1, FAILED._replace(pushback=0.5), WAIT, 0.5, id="pushback-sets-the-time"),
        pytest.param(1, FAILED._replace(delay=0.7), WAIT, 0.7, id="retry-info-sets-the-time"),
        pytest.param(1, FAILED._replace(stop=True), FINISH, None, id="forbidden-and-none-is-out"),
        pytest.param(2, FAILED._replace(stop=True), WAIT, None, id="forbidden-leaves-those-out"),
    ],
)
def test_an_attempt_ends(out, verdict, step, due):
    """What an attempt's end means for the call (gRFC A6)."""
    state = launched(out)
    assert state.settle(verdict, 2.0) is step
    if due is not ...:
        assert state.due_in(2.0) == (due and pytest.approx(due))


def test_an_attempt_with_other_credentials_takes_the_place_of_a_refused_one():
    """At once, at no cost, and not counted; what had been taken for another goes back."""
    budget = RetryBudget(BudgetPolicy(initial=10))
    state = launched(2, budget)
    assert state.take()
    assert budget.tokens == 5
    state.replaced(2.5)
    assert (state.due_in(2.5), state.take(), budget.tokens) == (0.0, True, 10)
    state.launched(2.5)
    assert (state.due_in(2.5), budget.tokens) == (1.0, 10)  # the third of three is to come
    state.lost()
    assert state.settle(FAILED._replace(stop=True), 3.0) is FINISH


def test_the_last_failure_is_the_calls():
    """When every attempt has failed, the last failure ends the call, and not one earlier."""
    state = launched(3)
    assert [state.settle(FAILED, 3.0) for _ in range(3)] == [WAIT, WAIT, FINISH]


def test_named_codes_decide():
    """A policy that names codes does not ask the classifier."""
    policy = HedgePolicy(delay=1.0, non_fatal_codes=frozenset({"INTERNAL"}))
    assert launched(policy=policy).settle(FAILED, 0.5) is FINISH
    assert launched(policy=policy).settle(Verdict("INTERNAL", Category.INTERNAL), 0.5) is WAIT


def test_an_empty_budget_keeps_back_only_the_next():
    """Without tokens no more attempts are due; those that are out go on."""
    state = launched(2, RetryBudget(BudgetPolicy(initial=0.0)))
    assert not state.take()
    assert state.due_in(9.0) is None
    assert state.settle(FAILED, 9.0) is WAIT
    assert state.settle(OK, 9.0) is FINISH


def test_hedges_and_retries_share_a_budget():
    """A hedge costs what a retry costs, and one that was not sent is refunded once."""
    budget = RetryBudget()
    state = launched(1, budget)
    assert state.take()
    assert budget.tokens == 5.0
    state.unsent()
    state.unsent()
    assert budget.tokens == 10.0
    assert state.due_in(9.0) is None
    state = launched(1, budget)
    assert state.take()
    state.launched(1.0)
    state.unsent()
    assert budget.tokens == 5.0


def test_the_budget_hears_how_attempts_end():
    """A failure that is not fatal is debited, forbidden ones too, and an answer credited (gRFC A6)."""
    throttle = Throttle()
    state = launched(3, throttle)
    state.settle(FAILED, 3.0)
    state.settle(FAILED._replace(stop=True), 3.0)
    assert throttle.tokens == 8.0
    state.settle(OK, 3.0)
    assert throttle.tokens == 8.1


def test_all_at_once():
    """A delay of zero makes the next attempt due as soon as one is sent (gRFC A6)."""
    state = HedgeState(HedgePolicy(delay=0.0), delay=0.0)
    state.launched(5.0)
    assert state.due_in(5.0) == 0.0


def test_the_delay_follows_recent_calls():
    """Without a fixed delay, it is the 95th percentile of recent calls, once enough are known."""
    policy, latencies = HedgePolicy(initial_delay=3.0), Latencies(size=100, least=20)
    for n in range(19):
        latencies.add(n + 1.0)
    assert policy.delay_by(latencies) == 3.0
    latencies.add(20.0)
    assert policy.delay_by(latencies) == 19.0
    for _ in range(100):
        latencies.add(0.5)
    assert policy.delay_by(latencies) == 0.5
    assert policy.delay_by(None) == 3.0
    assert Latencies(least=1).quantile(1.0) is None
    assert POLICY.delay_by(latencies) == 1.0


def test_a_quantile_is_not_exceeded():
    """The quantile is the least latency that at least its share of the calls did not exceed."""
    latencies = Latencies(least=1)
    for n in range(10):
        latencies.add(float(n))
    assert [latencies.quantile(share) for share in (0.05, 0.1, 0.11, 0.5, 0.95, 1.0)] == [0.0, 0.0, 1.0, 4.0, 9.0, 9.0]


def test_latencies_start_anew_after_a_fork():
    """A lock held at the fork is replaced, and the parent's calls are forgotten."""
    latencies = Latencies(least=1)
    latencies.add(1.0)
    latencies._lock.acquire()
    latencies.reset_after_fork()
    assert latencies.quantile(0.5) is None


def test_tokens_are_taken_once_for_a_hedge_that_is_waiting():
    """A second failure while a hedge waits for its time takes nothing more; giving up gives back all."""
    budget = RetryBudget(BudgetPolicy(initial=100))
    state = HedgeState(HedgePolicy(max_attempts=3, delay=1), delay=1, budget=budget)
    state.launched(0)
    assert state.take()
    assert state.take()
    assert budget.tokens == 95
    state.unsent()
    assert budget.tokens == 100

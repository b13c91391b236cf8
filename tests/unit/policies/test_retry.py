"""Whether a failed attempt is sent again, and when."""

import pytest

from grpc_faultwire.category import Category, RetryScope
from grpc_faultwire.policies import (
    BudgetPolicy,
    Deadline,
    Decision,
    Health,
    Jitter,
    Reason,
    RetryBudget,
    RetryPolicy,
    RetryState,
    Verdict,
)

FAILED = Verdict("UNAVAILABLE", Category.OVERLOAD, retryable=True, health=Health.FAILURE)
POLICY = RetryPolicy(max_attempts=4, initial_backoff=0.1, max_backoff=1.0)


def decide(verdict=FAILED, *, state=None, attempt=1, u=0.5, **changes):
    """Decide with ten seconds left, unless told otherwise."""
    state = state or RetryState(POLICY)
    given = {"now": 100.0, "deadline": Deadline(110.0)} | changes
    return state.decide(verdict, attempt=attempt, u=u, **given)


@pytest.mark.parametrize(
    ("change", "call", "reason"),
    [
        pytest.param({}, {}, Reason.RETRIED, id="retried"),
        pytest.param({"retryable": False}, {}, Reason.NOT_RETRYABLE, id="not-retryable"),
        pytest.param({"scope": RetryScope.NEVER}, {}, Reason.NOT_RETRYABLE, id="never"),
        pytest.param({"stop": True}, {}, Reason.PUSHBACK, id="negative-pushback"),
        pytest.param({}, {"committed": True}, Reason.COMMITTED, id="after-the-first-message"),
        pytest.param({}, {"attempt": 3}, Reason.RETRIED, id="the-last-but-one-attempt"),
        pytest.param({}, {"attempt": 4}, Reason.MAX_ATTEMPTS, id="the-last-attempt"),
        pytest.param({}, {"deadline": Deadline(100.05)}, Reason.DEADLINE, id="backoff-past-the-deadline"),
        pytest.param({}, {"deadline": Deadline(99.0)}, Reason.DEADLINE, id="deadline-already-over"),
        pytest.param({"pushback": 60.0}, {}, Reason.DEADLINE, id="pushback-past-the-deadline"),
        pytest.param({"delay": 9.9}, {}, Reason.DEADLINE, id="retry-info-past-the-deadline"),
        pytest.param({"delay": 60.1}, {"deadline": Deadline()}, Reason.PUSHBACK, id="retry-info-beyond-the-limit"),
        pytest.param({"pushback": 60.1}, {"deadline": Deadline()}, Reason.PUSHBACK, id="pushback-beyond-the-limit"),
        pytest.param({"delay": 60.0}, {"deadline": Deadline()}, Reason.RETRIED, id="retry-info-at-the-limit"),
        pytest.param({}, {"blocked_for": 0.2}, Reason.CIRCUIT_OPEN, id="breaker-open-for-longer"),
        pytest.param({}, {"blocked_for": float("inf")}, Reason.CIRCUIT_OPEN, id="breaker-forced-open"),
        pytest.param({}, {"blocked_for": 0.05}, Reason.RETRIED, id="breaker-lets-it-pass-by-then"),
    ],
)
def test_reason(change, call, reason):
    """Each way to end a call has its reason, and only RETRIED has a delay."""
    decision = decide(FAILED._replace(**change), **call)
    assert decision.reason is reason
    assert (decision.delay is not None) is (reason is Reason.RETRIED)


@pytest.mark.parametrize(
    ("change", "u", "delay"),
    [
        pytest.param({}, 0.0, 0.08, id="backoff-least"),
        pytest.param({}, 0.5, 0.1, id="backoff"),
        pytest.param({"pushback": 0.3}, 0.9, 0.3, id="pushback-is-exact"),
        pytest.param({"pushback": 0.0}, 0.9, 0.0, id="pushback-of-zero-is-at-once"),
        pytest.param({"delay": 2.0}, 0.0, 2.0, id="retry-info-is-a-minimum"),
        pytest.param({"delay": 2.0}, 0.5, 2.2, id="retry-info-is-jittered-upward"),
        pytest.param({"delay": 0.0}, 0.5, 0.1, id="retry-info-of-zero-still-backs-off"),
        pytest.param({"delay": 0.01}, 0.5, 0.1, id="backoff-longer-than-retry-info"),
        pytest.param({"delay": 2.0, "pushback": 1.0}, 0.5, 2.2, id="both-retry-info-longer"),
        pytest.param({"delay": 1.0, "pushback": 2.0}, 0.5, 2.2, id="both-pushback-longer"),
    ],
)
def test_delay(change, u, delay):
    """The server's word decides how long to wait; without one, the backoff does."""
    assert decide(FAILED._replace(**change), u=u).delay == pytest.approx(delay)


def test_backoff_grows_and_starts_again_after_pushback():
    """A pushback resets the backoff to its beginning (gRFC A6)."""
    state = RetryState(RetryPolicy(max_attempts=9, initial_backoff=0.1, max_backoff=10.0))
    pushed = FAILED._replace(pushback=0.7)
    verdicts = [FAILED, FAILED, FAILED, pushed, FAILED, FAILED]
    delays = [decide(verdict, state=state, attempt=n).delay for n, verdict in enumerate(verdicts, 1)]
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.7, 0.1, 0.2])


def test_full_jitter():
    """With full jitter the delay may be anything up to the backoff."""
    state = RetryState(RetryPolicy(initial_backoff=0.1, jitter=Jitter.FULL))
    assert decide(state=state, u=0.25).delay == pytest.approx(0.025)


def test_more_than_five_attempts():
    """Unlike gRPC's core, more attempts than five are made if the policy says so."""
    state = RetryState(RetryPolicy(max_attempts=8))
    assert [decide(state=state, attempt=n).reason for n in (7, 8)] == [Reason.RETRIED, Reason.MAX_ATTEMPTS]


def test_one_attempt_is_no_retry():
    """A policy of one attempt retries nothing."""
    assert decide(state=RetryState(RetryPolicy(max_attempts=1))).reason is Reason.MAX_ATTEMPTS


def test_time_for_the_attempt_is_kept():
    """A retry that would have less than the least attempt time is not waited for."""
    state = RetryState(RetryPolicy(initial_backoff=0.1, min_attempt_time=0.5))
    assert decide(state=state, deadline=Deadline(100.6)).reason is Reason.DEADLINE
    assert decide(state=state, deadline=Deadline(100.7)).reason is Reason.RETRIED


def test_named_codes_are_consent():
    """A policy that names a code repeats calls that the classifier would not."""
    state = RetryState(RetryPolicy(retryable_codes=frozenset({"ABORTED"})))
    aborted = Verdict("ABORTED", Category.CONFLICT, retryable=False)
    assert decide(aborted, state=state).reason is Reason.RETRIED
    assert decide(FAILED, state=state).reason is Reason.NOT_RETRYABLE


def budgeted(tokens=10.0):
    """A budget and the retries of a call that draws on it."""
    budget = RetryBudget(BudgetPolicy(initial=tokens))
    return budget, RetryState(RetryPolicy(max_attempts=9), budget)


def test_the_budget_pays_at_the_decision():
    """Tokens go when the retry is decided, before its backoff."""
    budget, state = budgeted(10.0)
    assert [decide(state=state, attempt=n).reason for n in (1, 2, 3)] == [
        Reason.RETRIED,
        Reason.RETRIED,
        Reason.BUDGET,
    ]
    assert budget.tokens == 0.0


def test_a_timeout_costs_its_own_price():
    """The verdict says what its retry costs."""
    budget, state = budgeted(12.0)
    decide(FAILED._replace(cost=10.0), state=state)
    assert budget.tokens == 2.0


@pytest.mark.parametrize(
    "refusal", [{"committed": True}, {"deadline": Deadline(100.0)}, {"attempt": 9}, {"blocked_for": 9.0}]
)
def test_a_retry_refused_otherwise_costs_nothing(refusal):
    """The budget is asked last, so it pays for nothing that will not be sent."""
    budget, state = budgeted()
    assert decide(state=state, **refusal).delay is None
    assert budget.tokens == 10.0


def test_an_unsent_retry_is_refunded_once():
    """Tokens of a retry that is cancelled in its backoff go back, once; those of one that was sent do not."""
    budget, state = budgeted()
    decide(state=state)
    state.unsent()
    state.unsent()
    assert budget.tokens == 10.0
    decide(state=state)
    state.sent()
    state.unsent()
    assert budget.tokens == 5.0


def test_an_empty_budget_refunds_nothing():
    """A retry that the budget refused took nothing, so nothing goes back."""
    budget, state = budgeted(4.0)
    assert decide(state=state) == Decision(None, Reason.BUDGET)
    state.unsent()
    assert budget.tokens == 4.0


class Ledger:
    """A budget that writes down what it is told."""

    def __init__(self):
        self.told = []

    def take(self, cost, /):
        self.told.append("take")
        return True

    def refund(self, cost, /):
        self.told.append("refund")

    def credit(self, verdict, /):
        self.told.append("credit")

    def debit(self):
        self.told.append("debit")

    def reset_after_fork(self):
        pass


@pytest.mark.parametrize(
    ("verdict", "attempt", "told"),
    [
        pytest.param(FAILED, 1, ["debit", "take"], id="retried"),
        pytest.param(FAILED, 4, ["debit"], id="the-last-attempt-counts-too"),
        pytest.param(FAILED._replace(stop=True), 1, ["debit"], id="pushback-that-forbids"),
        pytest.param(FAILED._replace(stop=True, retryable=False), 1, ["debit"], id="forbids-what-nobody-retries"),
        pytest.param(Verdict("NOT_FOUND", Category.NOT_FOUND), 1, ["credit"], id="an-answer"),
    ],
)
def test_the_budget_hears_of_every_failure_once(verdict, attempt, told):
    """Whatever the decision, the budget is told of the failure first, and once (gRFC A6)."""
    ledger = Ledger()
    decide(verdict, state=RetryState(POLICY, ledger), attempt=attempt)
    assert ledger.told == told


def test_without_a_budget_retries_are_free():
    """Budgets are optional."""
    state = RetryState(POLICY)
    assert decide(state=state).reason is Reason.RETRIED
    state.unsent()

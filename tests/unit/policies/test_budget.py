"""Budgets: the success-credited bucket, and the throttle of gRFC A6."""

import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from grpc_faultwire.category import Category
from grpc_faultwire.policies import (
    OK,
    BudgetPolicy,
    Health,
    RetryBudget,
    Throttle,
    ThrottlePolicy,
    Verdict,
)

ANSWERED = Verdict("INVALID_ARGUMENT", Category.VALIDATION, health=Health.SUCCESS)
NEUTRAL = Verdict("CANCELLED", Category.CANCELLED, health=Health.NEUTRAL)
FAILED = Verdict("INTERNAL", Category.INTERNAL, health=Health.FAILURE)


def test_it_starts_nearly_empty():
    """A new bucket pays for two retries, not for twenty: many small clients start at once."""
    budget = RetryBudget()
    assert [budget.take(5.0) for _ in range(3)] == [True, True, False]


def test_five_successes_pay_for_a_retry():
    """The sixth part of a token is not enough: exactly the cost is."""
    budget = RetryBudget(BudgetPolicy(initial=0.0))
    for _ in range(4):
        budget.credit(OK)
    assert not budget.take(5.0)
    budget.credit(OK)
    assert budget.take(5.0)
    assert budget.tokens == 0.0


@pytest.mark.parametrize(
    ("verdict", "tokens"),
    [
        pytest.param(OK, 11.0, id="success"),
        pytest.param(ANSWERED, 11.0, id="a-refusal-shows-a-server-that-works"),
        pytest.param(NEUTRAL, 10.0, id="neutral"),
        pytest.param(FAILED, 10.0, id="failure"),
    ],
)
def test_what_is_credited(verdict, tokens):
    """Only what shows a healthy server fills the bucket."""
    budget = RetryBudget()
    budget.credit(verdict)
    assert budget.tokens == tokens


def test_a_failure_costs_only_when_retried():
    """In the bucket, failures that nobody retries are free."""
    budget = RetryBudget()
    budget.debit()
    assert budget.tokens == 10.0


def test_it_never_overflows():
    """Credits and refunds stop at the capacity."""
    budget = RetryBudget(BudgetPolicy(capacity=10.0, initial=9.5))
    budget.credit(OK)
    assert budget.tokens == 10.0
    budget.refund(5.0)
    assert budget.tokens == 10.0


def test_threads_lose_and_make_no_tokens():
    """Many threads that take and credit leave exactly what is owed."""
    budget = RetryBudget(BudgetPolicy(capacity=1e9, initial=5000.0))
    taken = []

    def work():
        mine = 0
        for _ in range(500):
            mine += budget.take(5.0)
            budget.credit(OK)
        taken.append(mine)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget.tokens == 5000.0 + 8 * 500 - 5.0 * sum(taken)
    assert budget.tokens >= 0


def test_a_throttle_allows_retries_above_half():
    """Exactly half of the tokens is not enough (gRFC A6)."""
    throttle = Throttle(ThrottlePolicy(max_tokens=4, token_ratio=0.1))
    allowed = []
    for _ in range(3):
        allowed.append(throttle.take(5.0))
        throttle.debit()
    assert allowed == [True, True, False]
    assert throttle.tokens == 1.0


def test_an_odd_maximum_is_halved_exactly():
    """Half of three tokens is one and a half, not one."""
    throttle = Throttle(ThrottlePolicy(max_tokens=3))
    throttle.debit()
    assert throttle.take(5.0)
    throttle.debit()
    assert not throttle.take(5.0)


@pytest.mark.parametrize(
    ("ratio", "tokens"),
    [
        pytest.param(0.1, 0.1, id="one-decimal"),
        pytest.param(0.57, 0.57, id="two-decimals"),
        pytest.param(1.001, 1.001, id="a-thousand-times-it-is-just-below"),
        pytest.param(0.1239, 0.123, id="cut-after-three-decimals"),
        pytest.param(0.001, 0.001, id="the-least"),
        pytest.param(2.5, 2.5, id="above-one"),
    ],
)
def test_token_ratio(ratio, tokens):
    """A success adds the ratio, cut after three decimals (gRFC A6)."""
    throttle = Throttle(ThrottlePolicy(max_tokens=10, token_ratio=ratio))
    for _ in range(12):
        throttle.debit()
    assert throttle.tokens == 0.0
    throttle.credit(OK)
    assert throttle.tokens == tokens


@pytest.mark.parametrize(
    ("verdict", "tokens"), [(OK, 9.1), (ANSWERED, 9.0), (NEUTRAL, 9.0), (FAILED, 9.0)], ids=lambda part: str(part)[:24]
)
def test_what_a_throttle_counts_as_success(verdict, tokens):
    """Only OK adds tokens; errors that nobody retries leave them as they are (gRFC A6)."""
    throttle = Throttle()
    throttle.debit()
    throttle.credit(verdict)
    assert throttle.tokens == tokens


def test_a_throttle_stays_within_its_bounds():
    """It is full at the start, and retries themselves cost nothing."""
    throttle = Throttle()
    throttle.credit(OK)
    assert throttle.take(100.0)
    throttle.refund(100.0)
    assert throttle.tokens == 10.0


@pytest.mark.parametrize("budget", [RetryBudget(), Throttle()], ids=["bucket", "throttle"])
def test_after_a_fork_it_starts_anew(budget):
    """A lock that was held at the fork is replaced, and the tokens are the initial ones."""
    before = budget.tokens
    budget._add(-3)
    budget._lock.acquire()
    budget.reset_after_fork()
    budget.debit()
    assert budget.take(1.0)
    assert budget.tokens == before - 1


class BucketMachine(RuleBasedStateMachine):
    """The bucket beside the sum that it should be."""

    def __init__(self):
        super().__init__()
        self.budget = RetryBudget(BudgetPolicy(capacity=20.0, initial=10.0))
        self.expected = 10.0

    @rule(cost=st.integers(1, 12))
    def take(self, cost):
        enough = self.expected >= cost
        assert self.budget.take(float(cost)) is enough
        self.expected -= cost if enough else 0

    @rule(cost=st.integers(1, 12))
    def refund(self, cost):
        self.budget.refund(float(cost))
        self.expected = min(20.0, self.expected + cost)

    @rule(verdict=st.sampled_from([OK, ANSWERED, NEUTRAL, FAILED]))
    def credit(self, verdict):
        self.budget.credit(verdict)
        self.expected = min(20.0, self.expected + (verdict.health is Health.SUCCESS))

    @invariant()
    def tokens_are_what_they_should_be(self):
        assert self.budget.tokens == self.expected
        assert 0 <= self.budget.tokens <= 20


class ThrottleMachine(RuleBasedStateMachine):
    """The throttle beside gRFC A6 written down with fractions of thousandths."""

    def __init__(self):
        super().__init__()
        self.throttle = Throttle(ThrottlePolicy(max_tokens=5, token_ratio=0.3))
        self.expected = 5000

    @rule()
    def fail(self):
        self.throttle.debit()
        self.expected = max(0, self.expected - 1000)

    @rule()
    def succeed(self):
        self.throttle.credit(OK)
        self.expected = min(5000, self.expected + 300)

    @invariant()
    def retries_only_above_half(self):
        assert self.throttle.tokens * 1000 == pytest.approx(self.expected)
        assert self.throttle.take(5.0) is (self.expected > 2500)


TestBucketMachine = BucketMachine.TestCase
TestThrottleMachine = ThrottleMachine.TestCase
TestBucketMachine.settings = TestThrottleMachine.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None
)

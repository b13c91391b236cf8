"""The policies of one call, driven through its flow with a clock turned by hand."""

from __future__ import annotations

from typing import Any

import pytest

from bookshop.v1 import bookshop_pb2  # noqa: F401  # registers the descriptors that are looked up
from grpc_faultwire import (
    Category,
    Internal,
    Kind,
    NotFound,
    Origin,
    Outcome,
    ResourceExhausted,
    RetryScope,
    Side,
    StatusError,
    Unauthenticated,
    Unavailable,
)
from grpc_faultwire.audience import Audience
from grpc_faultwire.config import ClientPolicy, calling
from grpc_faultwire.enforcement import Enforcement, MethodPolicies
from grpc_faultwire.errors import DeadlineExceeded
from grpc_faultwire.flow import Flow
from grpc_faultwire.plan import Plan
from grpc_faultwire.policies import BreakerMode, BreakerPolicy, BreakerState, BudgetPolicy, HedgePolicy, RetryPolicy
from grpc_faultwire.records import CallInfo
from grpc_faultwire.sources import source_of
from grpc_faultwire.state import PolicyState
from grpc_faultwire.testing import FakeClock
from grpc_faultwire.trailers import PUSHBACK_KEY

READ = "/bookshop.v1.Bookshop/GetBook"
WRITE = "/bookshop.v1.Bookshop/PlaceOrder"


class Told:
    def __init__(self) -> None:
        self.events: list[Any] = []
        self.outcomes: list[Outcome] = []

    def on_event(self, _token: Any, event: Any) -> None:
        self.events.append(event)

    def on_end(self, _token: Any, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def said(self, name: str, key: str = "decision") -> list[Any]:
        return [event.attributes[key] for event in self.events if event.name == name]


class Caller:
    """Makes flows of one policy."""

    def __init__(self, policy: ClientPolicy | None = None, state: PolicyState | None = None) -> None:
        self.clock = FakeClock()
        self.told = Told()
        self.state = state or PolicyState(random=lambda: 0.5)
        self.enforcement = Enforcement(policy or ClientPolicy(), self.state)

    def flow(self, path: str = READ, timeout: float | None = None) -> Flow:
        call = CallInfo.of(path, kind=Kind.UNARY, side=Side.CLIENT, target="shop:443")
        plan = Plan(
            call,
            clock=self.clock,
            audience=Audience([self.told]),
            policies=self.enforcement.for_method(call),
            random=lambda: 0.5,
        )
        return Flow(plan, timeout)

    def run(
        self, *errors: StatusError | None, path: str = READ, timeout: float | None = None
    ) -> tuple[Flow, list[Any]]:
        """Settle attempts with these errors until the flow gives up; return it, and the delays."""
        flow, delays = self.flow(path, timeout), []
        for error in errors:
            attempt = flow.send()
            assert attempt is not None
            delay = flow.settle(attempt, error)
            if delay is None:
                break
            delays.append(delay)
            self.clock.advance(delay)
        return flow, delays


def remote(error: StatusError, *trailers: tuple[str, str]) -> StatusError:
    error.origin = Origin.REMOTE
    error._trailing_metadata = trailers
    return error


def down() -> StatusError:
    return remote(Unavailable("down"))


def test_a_read_is_retried_and_the_history_kept() -> None:
    """Two failures, then OK: backoff doubles, one outcome, three attempts."""
    caller = Caller()
    flow, delays = caller.run(down(), down(), None)
    assert delays == pytest.approx([0.05, 0.1])
    assert flow.error is None
    [outcome] = caller.told.outcomes
    assert [attempt.number for attempt in outcome.attempts] == [1, 2, 3]
    assert caller.told.said("retry") == ["retried", "retried"]


def test_the_last_real_error_is_raised_with_the_history() -> None:
    """After max_attempts the caller gets what the server said last."""
    caller = Caller()
    flow, _ = caller.run(down(), down(), remote(Unavailable("still down")))
    assert flow.error.message == "still down"
    assert len(flow.error.attempts) == 3
    assert caller.told.said("retry_stopped") == ["max_attempts"]


@pytest.mark.parametrize(
    ("error", "path", "reason"),
    [
        pytest.param(down(), WRITE, "not_retryable", id="a write may have been carried out"),
        pytest.param(remote(NotFound()), READ, "not_retryable", id="not found"),
        pytest.param(remote(Unavailable(retry_scope=RetryScope.NEVER)), READ, "not_retryable", id="never"),
        pytest.param(remote(Unavailable(), (PUSHBACK_KEY, "-1")), READ, "pushback", id="pushback forbids"),
        pytest.param(remote(Unavailable(retry_delay=100)), READ, "pushback", id="too long a delay"),
    ],
)
def test_what_is_not_retried(error: StatusError, path: str, reason: str) -> None:
    """The call ends at once with the real error, and telemetry says why."""
    caller = Caller()
    flow, delays = caller.run(error, path=path)
    assert delays == []
    assert flow.error is error
    assert caller.told.said("retry_stopped") == [reason]


def test_one_call_can_say_that_it_may_be_repeated() -> None:
    """`calling(idempotent=True)` wins over the proto."""
    caller = Caller()
    with calling(idempotent=True):
        _, delays = caller.run(down(), None, path=WRITE)
    assert len(delays) == 1
    with calling(idempotent=False):
        _, delays = caller.run(down(), path=READ)
    assert delays == []
    with calling(policy=False):
        _, delays = caller.run(down(), path=READ)
    assert delays == []


def test_naming_codes_is_consent() -> None:
    """A policy that names a code retries it, whatever the proto says; NEVER still wins."""
    policy = ClientPolicy(retry=RetryPolicy(retryable_codes=frozenset({"INTERNAL"})))
    assert Caller(policy).run(remote(Internal()), None, path=WRITE)[1]
    never = remote(Internal(retry_scope=RetryScope.NEVER))
    assert not Caller(policy).run(never, None, path=WRITE)[1]


def test_a_delay_that_does_not_fit_ends_the_call_now() -> None:
    """With the real error, and not later with DEADLINE_EXCEEDED."""
    caller = Caller()
    error = remote(ResourceExhausted(retry_delay=3))
    flow, delays = caller.run(error, timeout=2)
    assert delays == []
    assert flow.error is error
    assert caller.told.said("retry_stopped") == ["deadline"]


def test_retry_info_is_a_minimum_and_pushback_exact() -> None:
    """RetryInfo is jittered upward; pushback alone is obeyed to the letter."""
    assert Caller().run(remote(ResourceExhausted(retry_delay=2)), None)[1] == pytest.approx([2.2])
    pushed = remote(Unavailable(), (PUSHBACK_KEY, "1500"))
    assert Caller().run(pushed, None)[1] == [1.5]


def test_the_budget_stops_retries_and_successes_fill_it() -> None:
    """Ten tokens are two retries; then five successes allow one more."""
    caller = Caller(ClientPolicy(breaker=None, retry=RetryPolicy(max_attempts=9)))
    flow, delays = caller.run(*[down() for _ in range(9)])
    assert len(delays) == 2
    assert flow.error.message == "down"
    assert caller.told.said("retry_stopped") == ["budget"]
    for _ in range(5):
        caller.run(None)
    assert len(caller.run(down(), None)[1]) == 1


def test_a_retry_that_is_not_sent_costs_nothing() -> None:
    """A call that is cancelled in its backoff gives its tokens back."""
    caller = Caller()
    flow = caller.flow()
    attempt = flow.send()
    assert flow.settle(attempt, down()) is not None
    assert caller.state.budgets() == {"shop:443": 5.0}
    flow.close(None, "cancelled")
    assert caller.state.budgets() == {"shop:443": 10.0}


def test_an_open_circuit_refuses_without_sending() -> None:
    """Unavailable, made here, with the time left as its delay; it feeds no policy and is not retried."""
    caller = Caller(ClientPolicy(breaker=BreakerPolicy(minimum_calls=2), retry=None))
    for _ in range(2):
        caller.run(down())
    flow = caller.flow()
    with pytest.raises(Unavailable) as refused:
        flow.send()
    error = refused.value
    assert (error.reason, error.domain, error.origin) == ("CIRCUIT_OPEN", "faultwire", Origin.LOCAL)
    assert error.retry_delay == pytest.approx(2.0)
    assert caller.told.outcomes[-1].how == "refused"
    assert caller.told.said("circuit_rejected", "breaker") == ["shop:443/bookshop.v1.Bookshop"]
    caller.clock.advance(2.1)
    for _ in range(3):
        caller.run(None)
    [snapshot] = caller.state.snapshot(caller.clock())
    assert snapshot.state is BreakerState.CLOSED


def test_a_circuit_that_opens_between_attempts_raises_the_real_error() -> None:
    """The caller learns what the server said, not that a breaker stood in the way."""
    state = PolicyState(random=lambda: 0.5)
    caller = Caller(ClientPolicy(breaker=BreakerPolicy(minimum_calls=2)), state)
    other = Caller(ClientPolicy(breaker=BreakerPolicy(minimum_calls=2), retry=None), state)
    flow = caller.flow()
    attempt = flow.send()
    error = down()
    assert flow.settle(attempt, error) is not None
    other.clock.now = caller.clock.now
    other.run(down())
    assert flow.send() is None
    assert flow.error is error


@pytest.mark.parametrize("where", ["policy", "breaker"])
def test_shadow_mode_records_and_does_nothing(where: str) -> None:
    """Decisions are told, and every call is one attempt that passes."""
    if where == "policy":
        policy = ClientPolicy(mode="observe", breaker=BreakerPolicy(minimum_calls=2))
    else:
        policy = ClientPolicy(retry=None, breaker=BreakerPolicy(minimum_calls=2, mode=BreakerMode.OBSERVE))
    caller = Caller(policy)
    for _ in range(4):
        _, delays = caller.run(down())
        assert delays == []
    assert caller.told.said("circuit_rejected", "state")
    if where == "policy":
        assert "retried" in caller.told.said("retry")
        assert caller.state.budgets() == {"shop:443": 10.0}


def test_attempts_have_their_own_timeout() -> None:
    """The less of the attempt timeout and what is left; one cut short is retried."""
    caller = Caller(ClientPolicy(attempt_timeout=1.0))
    flow = caller.flow(timeout=1.5)
    attempt = flow.send()
    assert attempt.timeout == 1.0
    caller.clock.advance(1.0)
    late = DeadlineExceeded()
    late.origin = Origin.UNKNOWN
    delay = flow.settle(attempt, late)
    assert delay == pytest.approx(0.05)
    caller.clock.advance(delay)
    assert flow.send().timeout == pytest.approx(0.45)


def test_credentials_are_refreshed_once() -> None:
    """AFTER_REFRESH retries once, after the hook; the second time the error stands."""
    caller = Caller(ClientPolicy(refresh=lambda error: None))
    flow, delays = caller.run(remote(Unauthenticated()), remote(Unauthenticated("again")), path=WRITE)
    assert delays == [0.0]
    assert flow.error.message == "again"
    assert Caller().run(remote(Unauthenticated()))[1] == []


def test_hedges_that_fail_together_bring_about_one_attempt() -> None:
    """The budget pays once, whichever alarm of an adapter rings, and the call goes on with it."""
    hedge = HedgePolicy(max_attempts=4, delay=1.0)
    caller = Caller(ClientPolicy(hedge=hedge, budget=BudgetPolicy(initial=15), breaker=None))
    flow = caller.flow()
    first = flow.send()
    assert flow.hedge_in() == 1.0
    caller.clock.advance(1.0)
    second = flow.hedge()
    assert caller.state.budgets() == {"shop:443": 10.0}
    assert flow.settle(first, down()) == 0.0
    assert (flow.hedge_in(), flow.hedge()) == (None, None)
    assert flow.settle(second, down()) == 0.0
    assert caller.state.budgets() == {"shop:443": 5.0}
    third = flow.send()
    assert (third.number, flow.send(), flow.how) == (3, None, None)
    assert flow.settle(third, None) is None
    assert (flow.how, flow.error) == ("done", None)


def test_only_calls_with_one_request_and_one_response_are_hedged() -> None:
    """A stream that several servers answer could not be put together."""
    policy = ClientPolicy(hedge=HedgePolicy(), idempotent=True)
    hedged = {kind for kind in Kind if MethodPolicies(_call(kind), policy, PolicyState()).hedge is not None}
    assert hedged == {Kind.UNARY}


def _call(kind: Kind) -> CallInfo:
    return CallInfo.of(READ, kind=kind, side=Side.CLIENT)


def test_budget_and_breaker_are_shared_through_their_state() -> None:
    """Two channels with one state spend from one budget; channels without do not."""
    state = PolicyState(random=lambda: 0.5)
    policy = ClientPolicy(retry=RetryPolicy(max_attempts=2), breaker=None, budget=BudgetPolicy(initial=5))
    assert Caller(policy, state).run(down(), None)[1]
    assert not Caller(policy, state).run(down())[1] or state.budgets()["shop:443"] >= 0
    assert Caller(policy).run(down(), None)[1]


def test_breakers_are_told_apart_by_a_key_function() -> None:
    """A breaker for each method, if the key says so."""
    caller = Caller(
        ClientPolicy(breaker=BreakerPolicy(minimum_calls=1), retry=None, breaker_key=lambda call: call.full_method)
    )
    caller.run(down(), path=READ)
    with pytest.raises(Unavailable):
        caller.flow(READ).send()
    assert caller.flow(WRITE).send() is not None


def test_a_method_that_is_called_keeps_its_breaker_in_a_registry_that_is_full() -> None:
    """However many keys come and go: the breaker that is asked is the one that is shown and forced."""
    state = PolicyState(breakers=2, random=lambda: 0.5)
    caller = Caller(ClientPolicy(breaker=BreakerPolicy(minimum_calls=1), retry=None), state)
    call = CallInfo.of(READ, kind=Kind.UNARY, side=Side.CLIENT, target="shop:443")
    policies = caller.enforcement.for_method(call)
    assert policies is not None
    plan = Plan(call, clock=caller.clock, audience=Audience(), policies=policies)

    def one(error: StatusError | None) -> None:
        flow = Flow(plan)
        attempt = flow.send()
        assert attempt is not None
        flow.settle(attempt, error)

    one(None)
    for key in "abcdef":
        one(None)
        state.breaker(key, BreakerPolicy())
    state.force_open(("shop:443", call.service), 0.0)
    with pytest.raises(Unavailable):
        one(None)
    for key in "gh":  # an open one goes only when the others are open too
        state.breaker(key, BreakerPolicy()).force_open(0.0)
    state.breaker("i", BreakerPolicy())
    one(None)  # the open one has gone, and a new one knows nothing of what it had seen


def test_categories_of_our_own_errors() -> None:
    """An open circuit is overload of the server, in the caller's eyes."""
    caller = Caller(ClientPolicy(breaker=BreakerPolicy(minimum_calls=1), retry=None))
    caller.run(down())
    with pytest.raises(Unavailable) as refused:
        caller.flow().send()
    assert refused.value.category is Category.OVERLOAD


def test_observers_hear_of_breakers_once_however_many_channels_share_them() -> None:
    """A change of a breaker belongs to no call: observers with an `on_transition` are told by the state."""
    heard: list[Any] = []

    class Listening:
        def on_transition(self, transition: Any) -> None:
            heard.append(transition.after)

    state, observer = PolicyState(random=lambda: 0.5), Listening()
    policy = ClientPolicy(breaker=BreakerPolicy(minimum_calls=1), retry=None)
    for _ in range(2):
        source_of(policy, state, [observer])
    Caller(policy, state).run(down())
    assert heard == [BreakerState.OPEN]

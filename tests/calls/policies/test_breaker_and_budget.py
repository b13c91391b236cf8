"""Circuit breakers and budgets around real calls, from both worlds."""

from __future__ import annotations

import time

import grpc
import pytest
from policy_lab import READ, WRITE, Caller, fail, hang, ok

from grpc_faultwire import Origin, Unavailable
from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.policies import BreakerMode, BreakerPolicy, BreakerState, BudgetPolicy, RetryPolicy
from grpc_faultwire.state import PolicyState
from grpc_faultwire.testing import FakeClock

BREAKER = BreakerPolicy(minimum_calls=4)
ALONE = ClientPolicy(retry=None, breaker=BREAKER)


def state_of(state: PolicyState, now: float | None = None) -> BreakerState:
    """Return the state of the only breaker."""
    [snapshot] = state.snapshot(time.monotonic() if now is None else now)
    return snapshot.state


@pytest.mark.parametrize("style", ["unary", "with_call", "future", "stream"])
def test_an_open_circuit_refuses_without_sending(caller: Caller, style: str) -> None:
    """Unavailable, made here, with the time left; it is not retried, and it feeds no policy."""
    state = PolicyState()
    caller.connect(ClientPolicy(breaker=BREAKER, retry=None), state=state)
    for _ in range(4):
        caller.unary(fail())
    caller.connect(ClientPolicy(breaker=BREAKER), state=state)
    got = getattr(caller, style)(ok())
    got = got.result() if style == "future" else got
    assert isinstance(got.error, Unavailable)
    assert (got.error.reason, got.error.domain, got.error.origin) == ("CIRCUIT_OPEN", "faultwire", Origin.LOCAL)
    assert 0 < got.error.retry_delay <= 2.4
    assert (got.seen, list(got.error.attempts)) == ([], [])
    assert caller.ledger.outcomes()[-1].how == "refused"


def test_a_circuit_heals(caller: Caller) -> None:
    """After its time one probe passes at once, and three good answers close it."""
    clock, state = FakeClock(), PolicyState()
    caller.connect(ALONE, state=state, clock=clock)
    for _ in range(4):
        caller.unary(fail(), timeout=None)
    assert state_of(state, clock()) is BreakerState.OPEN
    clock.advance(3)
    for _ in range(3):
        assert caller.unary(timeout=None).value == b"ok"
    assert state_of(state, clock()) is BreakerState.CLOSED


def test_one_probe_at_a_time(caller: Caller) -> None:
    """While a probe hangs others are refused; cancelling it lets the next one pass."""
    clock, state = FakeClock(), PolicyState()
    caller.connect(ALONE, state=state, clock=clock)
    for _ in range(4):
        caller.unary(fail(), timeout=None)
    clock.advance(3)
    probe = caller.future(hang(), timeout=None)
    caller.server.arrived(probe.key)
    assert caller.unary(timeout=None).error.reason == "CIRCUIT_OPEN"
    assert probe.cancel()
    assert probe.result().error is not None
    assert caller.unary(timeout=None).value == b"ok"


@pytest.mark.parametrize(
    "code", ["INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"]
)
def test_callers_own_mistakes_open_no_circuit(caller: Caller, code: str) -> None:
    """The server answered; and a quota says nothing about its health."""
    state = PolicyState()
    caller.connect(ALONE, state=state)
    for _ in range(8):
        caller.unary(fail(code))
    assert state_of(state) is BreakerState.CLOSED


def test_a_caller_without_time_opens_no_circuit(caller: Caller) -> None:
    """DEADLINE_EXCEEDED after 30 ms is the caller's doing."""
    state = PolicyState()
    caller.connect(ALONE, state=state)
    for _ in range(8):
        assert caller.unary(hang(), timeout=0.03).error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert state_of(state) is BreakerState.CLOSED


def test_attempt_timeouts_open_it(caller: Caller) -> None:
    """Each attempt had the time that the policy thinks fair."""
    state = PolicyState()
    caller.connect(ClientPolicy(retry=None, breaker=BREAKER, attempt_timeout=0.05), state=state)
    for _ in range(4):
        caller.unary(hang())
    assert state_of(state) is BreakerState.OPEN


def test_cancelled_calls_are_neutral_and_give_their_permits_back(caller: Caller) -> None:
    """Whatever ends them: a cancel or a handle that is dropped."""
    state = PolicyState()
    caller.connect(ALONE, state=state)
    for number in range(8):
        handle = caller.future(hang())
        caller.server.arrived(handle.key)
        if number % 2 and caller.world == "sync":
            handle.drop()
        else:
            handle.cancel()
    caller.ledger.outcomes()
    [snapshot] = state.snapshot(time.monotonic())
    assert (snapshot.state, snapshot.calls, snapshot.neutral) == (BreakerState.CLOSED, 0, 8)


def test_a_stream_is_credited_at_its_first_message(caller: Caller) -> None:
    """A half-open circuit closes before long streams end."""
    clock, state = FakeClock(), PolicyState()
    caller.connect(ALONE, state=state, clock=clock)
    for _ in range(4):
        caller.unary(fail(), timeout=None)
    clock.advance(3)
    handles = []
    for _ in range(3):
        handles.append(caller.begin_stream(hang(b"1"), timeout=None))
        assert caller.read(handles[-1]) == b"1"
    assert state_of(state, clock()) is BreakerState.CLOSED
    for handle in handles:
        handle.cancel()


def test_the_first_success_after_a_failure_pays(caller: Caller) -> None:
    """Ten tokens are two retries; what a success earns allows more."""
    state = PolicyState()
    policy = ClientPolicy(breaker=None, retry=RetryPolicy(max_attempts=9, initial_backoff=0.001))
    caller.connect(policy, state=state, target="shop")
    assert len(caller.unary(fail()).seen) == 3
    assert caller.ledger.said("retry_stopped", "decision") == ["budget"]
    assert state.budgets() == {"shop": 0.0}
    for _ in range(5):
        caller.unary()
    assert len(caller.unary(fail(), ok()).seen) == 2


def test_channels_share_what_they_are_given(caller: Caller) -> None:
    """One state is one budget and one breaker; channels without have their own."""
    state = PolicyState()
    policy = ClientPolicy(breaker=None, budget=BudgetPolicy(initial=5), retry=RetryPolicy(initial_backoff=0.001))
    assert len(caller.connect(policy, state=state, target="shop").unary(fail()).seen) == 2
    assert len(caller.connect(policy, state=state, target="shop").unary(fail()).seen) == 1
    assert len(caller.connect(policy, target="shop").unary(fail()).seen) == 2


def test_observing_and_exempting(caller: Caller) -> None:
    """In shadow mode every call passes, and an exempted method is touched by nothing."""
    state = PolicyState()
    breaker = BreakerPolicy(minimum_calls=2, mode=BreakerMode.OBSERVE)
    caller.connect(ClientPolicy(retry=None, breaker=breaker), state=state)
    assert [len(caller.unary(fail()).seen) for _ in range(4)] == [1] * 4
    assert caller.ledger.said("circuit_rejected", "state")
    caller.connect(ClientPolicy(exempt=frozenset({READ.removeprefix("/")}), breaker=BreakerPolicy(minimum_calls=1)))
    assert [len(caller.unary(fail()).seen) for _ in range(3)] == [1] * 3
    assert [len(caller.unary(fail(), path=WRITE).seen) for _ in range(2)] == [1, 0]

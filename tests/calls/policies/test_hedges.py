"""Hedged calls, from both worlds: several attempts in flight, one answer, one end."""

from __future__ import annotations

import time
from typing import Any

import grpc
import pytest
from policy_lab import READ, READS, WRITE, Act, Caller, fail, hang, ok

from grpc_faultwire import RetryScope, StatusError
from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.policies import BreakerPolicy, BreakerState, BudgetPolicy, HedgePolicy
from grpc_faultwire.state import PolicyState

HEDGES = ClientPolicy(hedge=HedgePolicy(delay=0.05))


def hedged(**settings: object) -> ClientPolicy:
    """A policy that hedges."""
    return ClientPolicy(hedge=HedgePolicy(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("style", ["unary", "with_call", "future"])
def test_the_faster_of_two_answers(caller: Caller, style: str) -> None:
    """The slow attempt is cancelled at once, and the call has one end."""
    caller.connect(HEDGES)
    begin = getattr(caller, style)
    got = begin(hang(), ok(b"second", beside=2))
    got = got.result() if style == "future" else got
    assert (got.value, got.error, len(got.seen)) == (b"second", None, 2)
    assert got.seen[0].over.wait(2), "the loser was not cancelled"
    assert got.seconds < 3
    [outcome] = caller.ledger.outcomes()
    assert [attempt.hedge for attempt in outcome.attempts] == [False, True]
    assert outcome.attempts[0].error is not None
    assert outcome.attempts[0].error.code() is grpc.StatusCode.CANCELLED


def test_a_fast_call_is_not_hedged(caller: Caller) -> None:
    """One attempt, when it answers before the delay is over."""
    got = caller.connect(hedged(delay=5.0)).unary()
    assert (got.value, len(got.seen)) == (b"ok", 1)


def test_the_first_may_still_win(caller: Caller) -> None:
    """Then the hedge is the one that is cancelled."""
    got = caller.connect(HEDGES).unary(ok(b"first", beside=2), hang())
    assert (got.value, len(got.seen)) == (b"first", 2)
    assert got.seen[1].over.wait(2)


def test_all_at_once(caller: Caller) -> None:
    """Without a delay all attempts are sent, and the good one wins over those that fail."""
    policy = ClientPolicy(hedge=HedgePolicy(max_attempts=3, delay=0), budget=BudgetPolicy(initial=50))
    got = caller.connect(policy).unary(fail(beside=3), hang(), ok(b"third", beside=3, wait=0.1))
    assert (got.value, len(got.seen)) == (b"third", 3)


def test_a_failure_that_is_not_fatal_sends_the_next_at_once(caller: Caller) -> None:
    """And not after the delay."""
    got = caller.connect(hedged(delay=5.0)).unary(fail(), ok(b"second"))
    assert (got.value, len(got.seen)) == (b"second", 2)
    assert got.seconds < 3


def test_pushback_puts_the_next_off(caller: Caller) -> None:
    """For as long as the server says; a negative one forbids it."""
    caller.connect(hedged(delay=5.0))
    got = caller.unary(fail(pushback="300"), ok(b"second"))
    assert got.value == b"second"
    assert 0.3 <= got.seen[1].at - got.seen[0].at < 2
    assert len(caller.unary(fail(pushback="-1"), ok()).seen) == 1


def test_a_fatal_error_ends_the_call(caller: Caller) -> None:
    """The other attempt is cancelled, although it might have answered."""
    got = caller.connect(HEDGES).unary(hang(), fail("INVALID_ARGUMENT", beside=2))
    assert got.error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert len(got.history) == 2
    assert got.seen[0].over.wait(2)


def test_when_all_fail_the_last_error_stands(caller: Caller) -> None:
    """With the history of all."""
    policy = ClientPolicy(hedge=HedgePolicy(max_attempts=3, delay=0.02), budget=BudgetPolicy(initial=50))
    got = caller.connect(policy).unary(fail(message="1"), fail(message="2"), fail(message="3"))
    assert got.error.message == "3"
    assert [one.number for one in got.history] == [1, 2, 3]


def test_only_calls_without_side_effects_are_hedged(caller: Caller) -> None:
    """And of those only the ones with one request and one response."""
    caller.connect(ClientPolicy(hedge=HedgePolicy(delay=0.01), retry=None))
    assert len(caller.unary(ok(wait=0.2), path=WRITE).seen) == 1
    assert len(caller.stream(ok(b"", b"a", wait=0.2), path=READS).seen) == 1
    assert len(caller.unary(ok(wait=0.2), path=READ).seen) == 2


def test_the_budget_keeps_a_hedge_from_being_sent(caller: Caller) -> None:
    """It touches nothing that is out already."""
    policy = ClientPolicy(hedge=HedgePolicy(delay=0.02), budget=BudgetPolicy(initial=0))
    got = caller.connect(policy).unary(ok(b"first", wait=0.3))
    assert (got.value, len(got.seen)) == (b"first", 1)
    assert caller.ledger.said("hedge", "result") == ["budget"]


def test_an_open_circuit_keeps_a_hedge_from_being_sent(caller: Caller) -> None:
    """What was taken for it goes back."""
    state = PolicyState()
    policy = ClientPolicy(hedge=HedgePolicy(delay=0.2), breaker=BreakerPolicy(minimum_calls=1000))
    caller.connect(policy, state=state, target="shop")
    handle = caller.future(ok(b"first", wait=0.6))
    caller.server.arrived(handle.key)
    state.force_open(("shop", "bookshop.v1.Bookshop"), time.monotonic())
    got = handle.result()
    assert (got.value, len(got.seen)) == (b"first", 1)
    assert state.budgets()["shop"] == 11.0


def test_losers_are_neutral(caller: Caller) -> None:
    """A cancelled attempt is no failure: the circuit stays closed."""
    state = PolicyState()
    policy = ClientPolicy(
        hedge=HedgePolicy(delay=0.01), breaker=BreakerPolicy(minimum_calls=2), budget=BudgetPolicy(initial=100)
    )
    caller.connect(policy, state=state)
    for _ in range(6):
        assert caller.unary(hang(), ok()).value == b"ok"
    [snapshot] = state.snapshot(time.monotonic())
    assert (snapshot.state, snapshot.failure_ratio) == (BreakerState.CLOSED, 0.0)


@pytest.mark.parametrize("how", ["cancel", "close"])
def test_ending_it_ends_all_attempts(caller: Caller, how: str) -> None:
    """Cancelled or closed: one end, and nothing goes on at the server."""
    handle = caller.connect(HEDGES).future(hang())
    seen = caller.server.arrived(handle.key, 2)
    if how == "cancel":
        assert handle.cancel()
    else:
        caller.close()
    assert handle.result().error is not None
    assert all(one.over.wait(2) for one in seen)
    [outcome] = caller.ledger.outcomes()
    assert len(outcome.attempts) == 2


def test_a_dropped_handle_cancels_all_attempts(caller: Caller) -> None:
    """In sync; in aio an unary call that nobody holds runs on, as grpc's own does."""
    handle = caller.connect(HEDGES).future(hang(), timeout=1.5)
    seen = caller.server.arrived(handle.key, 2)
    handle.drop()
    if caller.world == "aio":
        caller.ledger.outcomes()
        return
    assert all(one.over.wait(1) for one in seen)
    [outcome] = caller.ledger.outcomes()
    assert outcome.how == "abandoned"


def test_the_deadline_covers_all_attempts(caller: Caller) -> None:
    """The hedge gets what is left."""
    got = caller.connect(hedged(delay=0.5)).unary(hang(), hang(), timeout=1.5)
    assert isinstance(got.error, StatusError)
    assert got.error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert got.seconds < 8  # a hang takes 10
    [outcome] = caller.ledger.outcomes()
    assert [attempt.timeout <= limit for attempt, limit in zip(outcome.attempts, (1.5, 1.01), strict=True)] == [
        True
    ] * 2
    # gRPC compares two clocks for it, one after the other, and a busy machine may pause in between.
    assert got.seen[1].remaining <= 1.3


def test_calls_teach_when_to_hedge(caller: Caller) -> None:
    """Without a delay of its own, a hedge is sent when most calls would have ended."""
    caller.connect(hedged(initial_delay=8.0))
    for _ in range(20):
        assert len(caller.unary().seen) == 1
    got = caller.unary(hang(), ok(b"second"))
    assert got.value == b"second"
    assert got.seconds < 5


# Credentials and deadlines.


def refreshing(hook: Any, delay: float = 0.05) -> ClientPolicy:
    """Hedges, and a hook that is asked for credentials."""
    return ClientPolicy(hedge=HedgePolicy(delay=delay), refresh=hook)


def renewed(error: Any) -> list[tuple[str, str]]:
    """Give the same new credentials whoever asks."""
    return [("authorization", "new")]


@pytest.mark.parametrize("style", ["unary", "with_call", "future"])
@pytest.mark.parametrize("act", [fail("UNAUTHENTICATED"), fail("ABORTED", scope=RetryScope.AFTER_REFRESH)])
def test_credentials_are_refreshed(caller: Caller, style: str, act: Act) -> None:
    """The refused attempt is replaced at once, at no cost; the caller's own metadata of the same key go."""
    state = PolicyState()
    caller.connect(refreshing(renewed, delay=5), state=state, target="here")
    got = getattr(caller, style)(act, ok(b"2"), metadata=(("authorization", "old"),))
    got = got.result() if style == "future" else got
    assert (got.value, got.error) == (b"2", None)
    assert [seen.get("authorization") for seen in got.seen] == ["old", "new"]
    caller.ledger.outcomes()
    assert state.budgets()["here"] == 11  # ten to begin with, and one for the success


def test_credentials_are_refreshed_once(caller: Caller) -> None:
    """A second refusal is fatal."""
    asked: list[Any] = []
    got = caller.connect(refreshing(asked.append, delay=5)).unary(fail("UNAUTHENTICATED"))
    assert got.error.code() is grpc.StatusCode.UNAUTHENTICATED
    assert (len(got.seen), len(asked)) == (2, 1)


def test_a_late_refusal_of_old_credentials_is_no_end(caller: Caller) -> None:
    """Two attempts are out with the old ones: the first refusal refreshes, the second tells nothing new."""
    asked: list[Any] = []
    late = fail("UNAUTHENTICATED", wait=0.4)
    caller.connect(refreshing(asked.append))
    got = caller.unary(late, fail("UNAUTHENTICATED"), ok(b"3", wait=0.8))
    assert (got.value, len(got.seen), len(asked)) == (b"3", 3, 1)


def test_a_hook_that_raises_leaves_the_attempts_that_are_out(caller: Caller) -> None:
    """The first may answer yet; without any, the refusal stands."""

    def raises(error: Any) -> Any:
        raise ValueError("no token")

    caller.connect(refreshing(raises))
    assert caller.unary(ok(b"slow", wait=0.8), fail("UNAUTHENTICATED")).value == b"slow"
    got = caller.unary(fail("UNAUTHENTICATED"))
    assert (got.error.code(), len(got.seen)) == (grpc.StatusCode.UNAUTHENTICATED, 1)
    got = caller.unary(fail(wait=0.8), fail("UNAUTHENTICATED"))
    assert (got.error.code(), len(got.seen)) == (grpc.StatusCode.UNAVAILABLE, 2)


@pytest.mark.parametrize("act", [fail(pushback="20000"), fail("RESOURCE_EXHAUSTED", retry_info=20.0)])
@pytest.mark.parametrize("style", ["unary", "future"])
def test_a_delay_that_does_not_fit_the_deadline_ends_the_call_now(caller: Caller, style: str, act: Act) -> None:
    """With the real error, and not later with DEADLINE_EXCEEDED."""
    caller.connect(hedged(delay=3.0))
    got = getattr(caller, style)(act, timeout=5)
    got = got.result() if style == "future" else got
    assert (got.error.code().name, len(got.seen)) == (act.code, 1)
    assert got.seconds < 2.5
    assert caller.ledger.said("hedge", "result") == ["deadline"]


def test_closing_the_channel_ends_the_wait_for_the_next(caller: Caller) -> None:
    """However many were due before the server pushed back."""
    handle = caller.connect(hedged(delay=0.6)).future(fail(pushback="20000"), timeout=30)
    caller.server.arrived(handle.key)
    time.sleep(0.8)
    since = time.monotonic()
    caller.close()
    [outcome] = caller.ledger.outcomes()
    assert outcome.code is grpc.StatusCode.CANCELLED
    assert time.monotonic() - since < 2
    assert handle.done()

"""Fallbacks, from both worlds: what is answered in place of an error."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from policy_lab import READ, Caller, fail, hang, ok

from grpc_faultwire import Unavailable, fallback
from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.fallback import UNANSWERED
from grpc_faultwire.policies import BreakerPolicy, HedgePolicy, RetryPolicy
from grpc_faultwire.state import PolicyState
from grpc_faultwire.sync import wrap_channel

QUICK = RetryPolicy(max_attempts=2, initial_backoff=0.01)


def answering(*fallbacks: Any, **settings: Any) -> ClientPolicy:
    """A policy that retries once, then falls back."""
    return ClientPolicy(**{"retry": QUICK, "budget": None, "fallbacks": fallbacks, **settings})


def test_a_value_takes_the_place_of_the_error(caller: Caller) -> None:
    """In all styles; telemetry shows the error that it hides."""
    caller.connect(answering(fallback.value(b"instead"), idempotent=True))
    assert caller.unary(fail()).value == b"instead"
    assert caller.future(fail()).result().value == b"instead"
    assert caller.client_stream([b"x"], fail()).value == b"instead"
    got = caller.with_call(fail())
    assert (got.value, got.call.code(), got.call.details()) == (b"instead", grpc.StatusCode.OK, "")
    for outcome in caller.ledger.outcomes():
        assert (outcome.code, outcome.error, len(outcome.attempts)) == (grpc.StatusCode.OK, None, 2)
        assert isinstance(outcome.recovered, Unavailable)
    assert caller.ledger.said("fallback", "result") == ["answered"] * 4


def test_responses_take_the_place_of_a_stream(caller: Caller) -> None:
    """An iterable of responses, and a lazy one too."""

    def lazy(failed: Any) -> Iterator[bytes]:
        yield failed.request
        yield b"end"

    caller.connect(answering(fallback.value([b"a", b"b"])))
    assert caller.stream(fail()).messages == [b"a", b"b"]
    assert caller.exchange([b"x"], fail()).messages == [b"a", b"b"]
    caller.connect(answering(fallback.function(lazy)))
    assert caller.stream(fail(), request=b"first").messages == [b"first", b"end"]


def test_a_stream_that_has_begun_is_left_alone(caller: Caller) -> None:
    """After the first message the error stands."""
    got = caller.connect(answering(fallback.value([b"other"]))).stream(fail("UNAVAILABLE", b"a"))
    assert got.messages == [b"a"]
    assert isinstance(got.error, Unavailable)


@pytest.mark.parametrize("door", ["wrapped", "official"])
def test_requests_that_cannot_be_sent_again_do_not_matter(caller: Caller, door: str) -> None:
    """A fallback answers as long as the caller has seen nothing, however much it sent."""
    requests = [bytes(60)] * 5
    caller.connect(answering(fallback.value([b"instead"]), idempotent=True, replay_bytes=100), door=door)
    assert caller.client_stream(requests, fail()).value == [b"instead"]
    got = caller.exchange(requests, fail())
    assert (got.messages, got.error, len(got.seen)) == ([b"instead"], None, 1)
    got = caller.exchange(requests, fail("UNAVAILABLE", b"a"))
    assert got.messages == [b"a"]
    assert isinstance(got.error, Unavailable)
    assert [outcome.code.name for outcome in caller.ledger.outcomes()] == ["OK", "OK", "UNAVAILABLE"]


def test_headers_that_were_seen_are_part_of_the_answer(caller: Caller) -> None:
    """Then the error stands."""
    handle = caller.connect(answering(fallback.value([b"other"]))).begin_stream(hang(headers=True), timeout=1.5)
    assert dict(caller.run(handle.call.initial_metadata))["early"] == "1"
    got = handle.result()
    assert (got.messages, got.error.code()) == ([], grpc.StatusCode.DEADLINE_EXCEEDED)


@pytest.mark.parametrize("style", ["unary", "future", "stream"])
def test_a_fallback_without_an_answer_leaves_the_error(caller: Caller, style: str) -> None:
    """Whether it declines, raises, or answers a stream with something else; the history is there."""

    def raises(failed: Any) -> Any:
        raise ValueError("in a user's function")

    caller.connect(answering(fallback.function(lambda _: UNANSWERED), fallback.function(raises)))
    got = getattr(caller, style)(fail())
    got = got.result() if style == "future" else got
    assert isinstance(got.error, Unavailable)
    assert got.error.message == "not now"
    assert len(got.history) == 2
    assert caller.ledger.said("fallback", "result") == ["failed", "failed"]
    [outcome] = caller.ledger.outcomes()
    assert (outcome.code, outcome.recovered) == (got.error.code(), None)


def test_an_answer_that_is_no_stream_leaves_the_error(caller: Caller) -> None:
    """A number cannot be iterated over."""
    got = caller.connect(answering(fallback.value(5))).stream(fail())
    assert isinstance(got.error, Unavailable)


def test_only_its_codes_and_categories_are_answered(caller: Caller) -> None:
    """By default outages: a caller's own mistake is not papered over."""
    caller.connect(answering(fallback.value(b"instead")))
    assert caller.unary(fail("INVALID_ARGUMENT")).error.code() is grpc.StatusCode.INVALID_ARGUMENT
    caller.connect(answering(fallback.value(b"instead", codes={"NOT_FOUND"})))
    assert caller.unary(fail("NOT_FOUND")).value == b"instead"
    assert caller.unary(fail()).error.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("style", ["unary", "future", "stream"])
def test_an_open_circuit_is_answered_too(caller: Caller, style: str) -> None:
    """Nothing is sent, and the caller has its answer; without one the refusal is raised."""
    state = PolicyState()
    answers: list[Any] = [UNANSWERED, [b"instead"]]
    breaker = BreakerPolicy(minimum_calls=1)
    policy = answering(fallback.function(lambda _: answers.pop(0)), retry=None, breaker=breaker)
    caller.connect(ClientPolicy(retry=None, breaker=breaker), state=state).unary(fail())
    caller.connect(policy, state=state)
    begin = getattr(caller, style)
    first, second = begin(fail()), begin(fail())
    first, second = (first.result(), second.result()) if style == "future" else (first, second)
    assert (first.error.reason, first.seen) == ("CIRCUIT_OPEN", [])
    assert (second.error, second.seen) == (None, [])
    assert [b"instead"] in (second.value, second.messages)
    assert [outcome.how for outcome in caller.ledger.outcomes()] == ["done", "refused", "done"]


def test_the_last_good_answer(caller: Caller) -> None:
    """Of the same request, learnt in every style; another request has none."""
    caller.connect(answering(fallback.last_good()))
    assert caller.unary(ok(b"1"), request=b"a").value == b"1"
    assert caller.future(ok(b"2"), request=b"b").result().value == b"2"
    assert caller.with_call(ok(b"3"), request=b"c").value == b"3"
    assert caller.unary(fail(), request=b"a").value == b"1"
    assert caller.unary(fail(), request=b"b").value == b"2"
    assert caller.future(fail(), request=b"c").result().value == b"3"
    assert isinstance(caller.unary(fail(), request=b"d").error, Unavailable)


def test_a_fault_while_learning_harms_no_answer(caller: Caller, caplog: pytest.LogCaptureFixture) -> None:
    """A key function that raises is logged, and the answer given."""

    def key(request: Any) -> Any:
        raise KeyError(request)

    caller.connect(answering(fallback.last_good(key=key)))
    assert caller.unary(ok(b"1")).value == b"1"
    assert caller.future(ok(b"1")).result().value == b"1"
    assert any("could not learn" in record.getMessage() for record in caplog.records)


def test_another_channel_is_another_stub_that_a_function_calls(caller: Caller) -> None:
    """It blocks, so it runs in no thread that serves others: other calls go on meanwhile."""
    key = caller.server.plan([ok(b"from the other channel", wait=0.3)])
    metadata = (("key", key),)
    with wrap_channel(grpc.insecure_channel(caller.address)) as other:
        stub = other.unary_unary(READ)
        elsewhere = fallback.function(lambda failed: stub(failed.request, timeout=5, metadata=metadata))
        caller.connect(answering(elsewhere))
        got = caller.unary(fail(), request=b"q")
        assert got.value == b"from the other channel"
        if caller.world == "aio":
            return  # where such a function is a coroutine function; see the tests of aio alone
        handle = caller.future(fail())
        quick = caller.future(fail(), ok(b"quick")).result()
        assert (quick.value, handle.done()) == (b"quick", False)
        assert handle.result().value == b"from the other channel"


@pytest.mark.parametrize("how", ["cancel", "close", "drop"])
@pytest.mark.parametrize("style", ["future", "begin_stream"])
def test_a_call_may_end_while_its_fallback_works(caller: Caller, style: str, how: str) -> None:
    """Exactly once, and what the fallback answers is thrown away."""
    if caller.world == "aio":
        pytest.skip("a function that blocks holds the event loop up; coroutine functions are tested in aio alone")
    working, go_on = threading.Event(), threading.Event()

    def answer(failed: Any) -> Any:
        working.set()
        assert go_on.wait(5)
        return [b"late"]

    caller.connect(answering(fallback.function(answer), retry=None))
    handle = getattr(caller, style)(fail())
    assert working.wait(5)
    {"cancel": handle.cancel, "close": caller.close, "drop": handle.drop}[how]()
    [outcome] = caller.ledger.outcomes()
    go_on.set()
    assert outcome.code is grpc.StatusCode.CANCELLED
    assert outcome.how == {"cancel": "cancelled", "close": "done", "drop": "abandoned"}[how]
    if how != "drop":
        assert handle.result().error is not None


def test_callbacks_come_after_the_fallback(caller: Caller) -> None:
    """With a call object that has its answer."""
    if caller.world == "aio":
        pytest.skip("callbacks of aio are tested in aio alone")
    came: list[Any] = []
    event = threading.Event()

    def called(call: Any) -> None:
        came.extend((call.code(), call.result()))
        event.set()

    handle = caller.connect(answering(fallback.value(b"instead"))).future(fail())
    handle.call.add_done_callback(called)
    assert event.wait(5)
    assert came == [grpc.StatusCode.OK, b"instead"]
    assert (handle.call.initial_metadata(), handle.call.trailing_metadata(), handle.call.done()) == ((), (), True)
    assert handle.call.exception() is None


def test_shadow_mode_answers_nothing(caller: Caller) -> None:
    """Decisions are recorded, and errors stay."""
    caller.connect(answering(fallback.value(b"instead"), mode="observe"))
    assert isinstance(caller.unary(fail()).error, Unavailable)


def test_a_hedged_call_falls_back(caller: Caller) -> None:
    """When the error is fatal, or none is left; the other attempts are cut."""
    caller.connect(answering(fallback.value(b"instead", codes={"INTERNAL"}), retry=None, hedge=HedgePolicy(delay=0.05)))
    since = time.monotonic()
    got = caller.unary(hang(), fail("INTERNAL"))
    assert (got.value, len(got.seen)) == (b"instead", 2)
    assert got.seen[0].over.wait(2)
    assert time.monotonic() - since < 5

"""Retries, from both worlds: when there is another attempt, when there is none, and what its caller then gets."""

from __future__ import annotations

import contextvars
import logging
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from policy_lab import EXCHANGE, READ, WRITE, Act, Caller, fail, hang, ok

from grpc_faultwire import RetryScope, StatusError
from grpc_faultwire.config import ClientPolicy, calling
from grpc_faultwire.flow import ATTEMPTS_KEY
from grpc_faultwire.policies import BreakerPolicy, BudgetPolicy, RetryPolicy

QUICK = RetryPolicy(initial_backoff=0.01)
RETRIES = ClientPolicy(retry=QUICK)


def failed(got: Any, attempts: int, *, message: str = "not now") -> None:
    """Check that the real error came, with its history."""
    assert isinstance(got.error, StatusError), got.error
    assert got.error.message == message
    assert len(got.seen) == attempts
    if attempts > 1:
        assert [one.number for one in got.history] == list(range(1, attempts + 1))
        assert all(one.ended is not None for one in got.history)


def test_a_read_succeeds_at_the_third_attempt(caller: Caller) -> None:
    """Two failures, then the answer; its caller notices nothing."""
    got = caller.connect(RETRIES).unary(fail(), fail(), ok(b"3"))
    assert (got.value, got.error, len(got.seen)) == (b"3", None, 3)
    assert caller.ledger.said("retry", "decision") == ["retried", "retried"]
    [outcome] = caller.ledger.outcomes()
    assert [attempt.number for attempt in outcome.attempts] == [1, 2, 3]


def test_every_style_of_call_is_retried(caller: Caller) -> None:
    """With its call object, as a future, with streams of requests, responses and both."""
    caller.connect(ClientPolicy(retry=QUICK, idempotent=True, budget=None))
    got = caller.with_call(fail(), ok(b"2"))
    assert (got.value, got.call.code()) == (b"2", grpc.StatusCode.OK)
    assert caller.future(fail(), ok(b"2")).result().value == b"2"
    assert caller.stream(fail(), ok(b"", b"a", b"b")).messages == [b"a", b"b"]
    assert caller.client_stream([b"x", b"y"], fail(), ok(b"2")).value == b"2"
    assert caller.exchange([b"x"], fail(), ok(b"", b"a")).messages == [b"a"]


@pytest.mark.parametrize("attempts", [1, 2, 7])
def test_max_attempts_counts_the_first(caller: Caller, attempts: int) -> None:
    """No more and no fewer, and unlike in gRPC's core more than five."""
    policy = ClientPolicy(retry=RetryPolicy(max_attempts=attempts, initial_backoff=0.001), budget=None)
    failed(caller.connect(policy).unary(fail()), attempts)
    assert caller.ledger.said("retry_stopped", "decision") == ["max_attempts"]


@pytest.mark.parametrize(
    ("act", "path", "reason"),
    [
        pytest.param(fail(), WRITE, "not_retryable", id="a write"),
        pytest.param(fail("NOT_FOUND"), READ, "not_retryable", id="not found"),
        pytest.param(fail("ABORTED"), READ, "not_retryable", id="aborted"),
        pytest.param(fail("RESOURCE_EXHAUSTED"), READ, "not_retryable", id="exhausted, without a delay"),
        pytest.param(fail(scope=RetryScope.NEVER), READ, "not_retryable", id="the server says never"),
        pytest.param(fail(pushback="-1"), READ, "pushback", id="pushback forbids"),
        pytest.param(fail(pushback="soon"), READ, "pushback", id="pushback is garbage"),
        pytest.param(fail(pushback="99999999999"), READ, "pushback", id="pushback overflows"),
        pytest.param(fail(pushback="61000"), READ, "pushback", id="pushback of more than a minute"),
        pytest.param(fail(pushback="20000"), READ, "deadline", id="pushback beyond the deadline"),
        pytest.param(fail(retry_info=20), READ, "deadline", id="RetryInfo beyond the deadline"),
        pytest.param(fail("NOT_FOUND", retry_info=0.01), READ, "not_retryable", id="RetryInfo changes no code"),
    ],
)
@pytest.mark.parametrize("style", ["unary", "future"])
def test_what_is_not_retried(caller: Caller, style: str, act: Act, path: str, reason: str) -> None:
    """One attempt, the real error at once, and telemetry says why."""
    caller.connect(RETRIES)
    got = caller.unary(act, path=path) if style == "unary" else caller.future(act, path=path).result()
    failed(got, 1)
    assert got.error.code().name == act.code
    assert got.seconds < 5
    assert caller.ledger.said("retry_stopped", "decision") == [reason]


def test_retry_info_is_a_minimum(caller: Caller) -> None:
    """RESOURCE_EXHAUSTED with a delay is retried, and not before its time."""
    got = caller.connect(RETRIES).unary(fail("RESOURCE_EXHAUSTED", retry_info=0.2), ok())
    assert got.value == b"ok"
    assert 0.2 <= got.seen[1].at - got.seen[0].at < 1.5


@pytest.mark.parametrize(("pushback", "least"), [("0", 0.0), ("200", 0.2)])
def test_pushback_is_exact(caller: Caller, pushback: str, least: float) -> None:
    """In place of a backoff of seconds the server's delay counts."""
    policy = ClientPolicy(retry=RetryPolicy(initial_backoff=4.0))
    got = caller.connect(policy).unary(fail(pushback=pushback), ok())
    assert got.value == b"ok"
    assert least <= got.seen[1].at - got.seen[0].at < least + 1.5


def test_idempotency_comes_from_call_policy_and_proto(caller: Caller) -> None:
    """In this order; what nobody knows to be idempotent is not repeated."""
    caller.connect(RETRIES)
    with calling(idempotent=True):
        assert caller.unary(fail(), ok(), path=WRITE).value == b"ok"
        assert caller.future(fail(), ok(), path=WRITE).result().value == b"ok"
    with calling(idempotent=False):
        failed(caller.unary(fail(), ok(), path=READ), 1)
    with calling(policy=False):
        failed(caller.unary(fail(), ok(), path=READ), 1)
    caller.connect(ClientPolicy(retry=QUICK, idempotent=True))
    assert caller.unary(fail(), ok(), path=WRITE).value == b"ok"
    caller.connect(ClientPolicy(retry=QUICK, idempotent=False))
    failed(caller.unary(fail(), ok(), path=READ), 1)


def test_headers_before_a_failure_do_not_end_the_chance(caller: Caller) -> None:
    """As long as nobody has asked for them."""
    caller.connect(RETRIES)
    assert caller.unary(fail(headers=True), ok(b"2")).value == b"2"
    assert caller.stream(fail(headers=True), ok(b"", b"a")).messages == [b"a"]


def test_a_stream_is_not_retried_once_a_message_was_delivered(caller: Caller) -> None:
    """No message comes twice: the error is raised after those that came."""
    got = caller.connect(RETRIES).stream(fail("UNAVAILABLE", b"a", b"b"), ok(b"", b"a", b"b", b"c"))
    assert got.messages == [b"a", b"b"]
    failed(got, 1)
    assert caller.ledger.said("retry_stopped", "decision") == ["committed"]


def test_requests_are_replayed_up_to_the_cap(caller: Caller) -> None:
    """Each attempt gets all of them, in their order."""
    caller.connect(ClientPolicy(retry=QUICK, idempotent=True, replay_bytes=100))
    requests = [bytes([number]) * 10 for number in range(10)]
    got = caller.client_stream(iter(requests), fail(), fail(early=True), ok(b"3"))
    assert got.value == b"3"
    assert [got.seen[0].requests, got.seen[2].requests] == [requests, requests]


@pytest.mark.parametrize("path", ["requests", "both"])
def test_beyond_the_cap_there_is_no_other_attempt(caller: Caller, path: str) -> None:
    """The error comes out instead of a truncated stream."""
    caller.connect(ClientPolicy(retry=QUICK, idempotent=True, replay_bytes=99))
    requests = [bytes([number]) * 10 for number in range(10)]
    got = (caller.client_stream if path == "requests" else caller.exchange)(iter(requests), fail(), ok(b"", b"a"))
    failed(got, 1)
    assert got.seen[0].requests == requests


def test_a_one_shot_iterator_is_read_once(caller: Caller) -> None:
    """A generator is not asked again, and no attempt gets an empty stream in its place."""
    read: list[bytes] = []

    def once() -> Iterator[bytes]:
        for number in range(5):
            read.append(b"%d" % number)
            yield read[-1]

    got = caller.connect(ClientPolicy(retry=QUICK, idempotent=True)).client_stream(once(), fail(), fail(), ok())
    assert got.value == b"ok"
    assert [seen.requests for seen in got.seen] == [read] * 3 == [[b"0", b"1", b"2", b"3", b"4"]] * 3


@pytest.mark.parametrize("style", ["unary", "future", "stream"])
@pytest.mark.parametrize("reason", ["budget", "circuit_open", "deadline", "not_retryable"])
def test_whatever_stops_retries_the_real_error_comes_with_its_history(caller: Caller, style: str, reason: str) -> None:
    """Not one that the policy made: what the server said last, and all the attempts."""
    patient = RetryPolicy(max_attempts=9, initial_backoff=0.01)
    policies = {
        "budget": ClientPolicy(retry=patient, breaker=None, budget=BudgetPolicy(initial=5)),
        "circuit_open": ClientPolicy(retry=patient, breaker=BreakerPolicy(minimum_calls=2), budget=None),
        "deadline": ClientPolicy(retry=RetryPolicy(max_attempts=9, initial_backoff=0.6), budget=None),
        "not_retryable": ClientPolicy(retry=patient),
    }
    acts = [fail(message="first"), fail("INTERNAL" if reason == "not_retryable" else "UNAVAILABLE", message="last")]
    caller.connect(policies[reason])
    options = {"timeout": 1.3} if reason == "deadline" else {}
    begin = {"unary": caller.unary, "future": caller.future, "stream": caller.stream}[style]
    got = begin(*acts, **options)
    got = got.result() if style == "future" else got
    failed(got, 2, message="last")
    assert [one.error.message for one in got.history if one.error is not None] == ["first"]
    assert caller.ledger.said("retry_stopped", "decision") == [reason]


def test_a_deadline_covers_all_attempts_and_no_sleep_outlasts_it(caller: Caller) -> None:
    """A delay that does not fit ends the call now with the real error, and attempts get what is left."""
    caller.connect(ClientPolicy(retry=RetryPolicy(initial_backoff=0.05), attempt_timeout=0.3))
    got = caller.unary(hang(), fail("NOT_FOUND"), timeout=5)
    assert got.error.code() is grpc.StatusCode.NOT_FOUND
    assert got.seen[0].remaining is not None
    assert got.seen[0].remaining <= 0.301  # timeouts are rounded up on the wire
    caller.connect(ClientPolicy(retry=RetryPolicy(initial_backoff=3)))
    got = caller.unary(fail(), timeout=1)
    failed(got, 1)
    assert got.seconds < 0.9


def test_a_call_without_a_timeout_gets_the_policy_s(caller: Caller) -> None:
    """The server sees it as the deadline."""
    got = caller.connect(ClientPolicy(timeout=7.0)).unary(timeout=None)
    assert 5 < got.seen[0].remaining < 7.5


def test_servers_learn_how_many_attempts_went_before(caller: Caller) -> None:
    """In our own key, since gRPC's core strips its own from a client's metadata."""
    got = caller.connect(RETRIES).future(fail(), fail(), ok()).result()
    assert [seen.get(ATTEMPTS_KEY) for seen in got.seen] == [None, "1", "2"]


def test_attempts_have_the_caller_s_context_variables(caller: Caller) -> None:
    """Wherever an attempt is sent from: tracing finds its parent."""
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")

    class Injects:
        def inject(self, token: Any, attempt: Any) -> list[tuple[str, str]]:
            return [("name", name.get())]

    caller.connect(ClientPolicy(retry=QUICK, budget=None), observers=[Injects()])
    name.set("me")
    for got in (caller.unary(fail(), fail(), ok()), caller.future(fail(), fail(), ok()).result()):
        assert [seen.get("name") for seen in got.seen] == ["me"] * 3


def test_cancelling_during_a_backoff_ends_the_call_at_once(caller: Caller) -> None:
    """And what was taken for the retry goes back."""
    handle = caller.connect(ClientPolicy(retry=RetryPolicy(initial_backoff=5.0))).future(fail(), timeout=30)
    caller.server.arrived(handle.key)
    deadline = time.monotonic() + 5
    while not caller.ledger.said("retry", "decision") and time.monotonic() < deadline:
        # The decision is told at the end or by the next event; the server's answer needs a moment to arrive.
        time.sleep(0.01)
    assert handle.cancel()
    assert handle.result().error is not None
    [outcome] = caller.ledger.outcomes()
    assert (outcome.how, len(caller.server.seen(handle.key))) == ("cancelled", 1)


def test_wait_for_ready_is_the_policy_s_where_the_call_does_not_say(caller: Caller) -> None:
    """Without a server a call that waits ends with its deadline, one that does not with UNAVAILABLE."""
    alive, caller.address = caller.address, "127.0.0.1:1"
    try:
        caller.connect(ClientPolicy(wait_for_ready=True, retry=None))
        assert caller.unary(timeout=0.3).error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert caller.future(timeout=0.3).result().error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert caller.unary(timeout=5, wait_for_ready=False).error.code() is grpc.StatusCode.UNAVAILABLE
        caller.connect(ClientPolicy(retry=None))
        assert caller.unary(timeout=5).error.code() is grpc.StatusCode.UNAVAILABLE
    finally:
        caller.address = alive


def test_a_service_config_that_retries_too_is_warned_of_once(caller: Caller, caplog: pytest.LogCaptureFixture) -> None:
    """Where the channel's arguments are known: grpc does not tell them."""
    config = (
        '{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 2, "initialBackoff": "0.01s",'
        ' "maxBackoff": "0.01s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}'
    )
    options = [("grpc.service_config", config)]
    with caplog.at_level(logging.WARNING, logger="grpc_faultwire"):
        caller.connect(RETRIES, options=options)
        caller.unary()
        assert not caplog.records
        caller.connect(RETRIES, options=options, told=True)
        caller.unary()
        caller.unary(path=WRITE)
        caller.exchange([b""], path=EXCHANGE)
    assert ["attempts multiply" in record.getMessage() for record in caplog.records] == [True]

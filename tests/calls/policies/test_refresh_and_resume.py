"""Credentials that are refreshed and streams that go on where they broke off, from both worlds."""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref
from typing import Any

import grpc
import pytest
from policy_lab import EXCHANGE, WRITE, Caller, fail, hang, ok

from grpc_faultwire import RetryScope, StatusError, Unauthenticated, Unavailable, fallback
from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.policies import RetryPolicy

QUICK = RetryPolicy(initial_backoff=0.01)


class Tokens:
    """A hook that gives new credentials each time."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.errors: list[StatusError] = []
        self.threads: list[threading.Thread] = []
        self.fault = fault

    def __call__(self, error: StatusError) -> Any:
        self.errors.append(error)
        self.threads.append(threading.current_thread())
        if self.fault is not None:
            raise self.fault
        return [("authorization", f"new {len(self.errors)}")]


@pytest.mark.parametrize("style", ["unary", "future", "begin_stream"])
@pytest.mark.parametrize("act", [fail("UNAUTHENTICATED"), fail("ABORTED", scope=RetryScope.AFTER_REFRESH)])
def test_the_hook_s_metadata_replace_the_caller_s(caller: Caller, style: str, act: Any) -> None:
    """Of the same keys, from the second attempt on; a write is repeated too, since its server refused to do it."""
    tokens = Tokens()
    caller.connect(ClientPolicy(refresh=tokens))
    path = {} if style == "begin_stream" else {"path": WRITE}
    got = getattr(caller, style)(act, ok(b"2"), metadata=(("authorization", "old"), ("other", "kept")), **path)
    got = got if style == "unary" else got.result()
    assert got.error is None
    assert [seen.get("authorization") for seen in got.seen] == ["old", "new 1"]
    assert [seen.get("other") for seen in got.seen] == ["kept", "kept"]
    assert [pair[0] for pair in got.seen[1].metadata].count("authorization") == 1
    [error] = tokens.errors
    assert error.code().name == act.code


def test_new_credentials_stay(caller: Caller) -> None:
    """Attempts after the refreshed one have them too."""
    caller.connect(ClientPolicy(refresh=Tokens(), retry=QUICK))
    got = caller.unary(fail("UNAUTHENTICATED"), fail(), ok())
    assert [seen.get("authorization") for seen in got.seen] == [None, "new 1", "new 1"]


def test_the_hook_is_asked_once(caller: Caller) -> None:
    """A second refusal stands."""
    tokens = Tokens()
    got = caller.connect(ClientPolicy(refresh=tokens)).unary(fail("UNAUTHENTICATED"))
    assert isinstance(got.error, Unauthenticated)
    assert (len(got.seen), len(tokens.errors)) == (2, 1)


def test_the_hook_may_return_nothing(caller: Caller) -> None:
    """Then the caller's own metadata are sent again: call credentials may have been refreshed elsewhere."""
    got = caller.connect(ClientPolicy(refresh=lambda error: None)).unary(
        fail("UNAUTHENTICATED"), ok(b"2"), metadata=(("authorization", "old"),)
    )
    assert (got.value, got.seen[1].get("authorization")) == (b"2", "old")


@pytest.mark.parametrize("style", ["unary", "future", "stream"])
def test_a_hook_that_raises_leaves_the_error(caller: Caller, style: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once, however many calls it fails."""
    caller.connect(ClientPolicy(refresh=Tokens(ValueError("no token"))))
    with caplog.at_level(logging.WARNING, logger="grpc_faultwire"):
        for _ in range(3):
            got = getattr(caller, style)(fail("UNAUTHENTICATED", message="who are you?"))
            got = got.result() if style == "future" else got
            assert isinstance(got.error, Unauthenticated)
            assert (got.error.message, len(got.seen)) == ("who are you?", 1)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("style", ["unary", "future", "stream"])
def test_a_hook_whose_fault_was_logged_is_not_kept(
    caller: Caller, style: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It may know its errors, these the frames through which they were raised, and these the calls."""
    caplog.set_level(logging.CRITICAL, logger="grpc_faultwire")  # pytest keeps records, and they know frames too
    tokens = Tokens(ValueError("no token"))
    hook = weakref.ref(tokens)
    caller.connect(ClientPolicy(refresh=tokens))
    handle = getattr(caller, style)(fail("UNAUTHENTICATED"))
    if style == "future":
        handle.result()
    del tokens, handle
    caller.forget()
    deadline = time.monotonic() + 30
    while hook() is not None and time.monotonic() < deadline:
        gc.collect()  # the thread that asked it takes a moment to end
        time.sleep(0.01)
    assert hook() is None


def test_after_a_hook_that_raises_a_fallback_may_answer(caller: Caller) -> None:
    """As after any error that it covers."""
    policy = ClientPolicy(
        refresh=Tokens(ValueError("no token")), fallbacks=(fallback.value(b"guest", codes={"UNAUTHENTICATED"}),)
    )
    caller.connect(policy)
    assert caller.unary(fail("UNAUTHENTICATED")).value == b"guest"
    assert caller.future(fail("UNAUTHENTICATED")).result().value == b"guest"


def test_the_hook_runs_where_it_may_block(caller: Caller) -> None:
    """In the caller's thread, or in one of its own; in aio it may be a coroutine function."""
    tokens = Tokens()
    caller.connect(ClientPolicy(refresh=tokens))
    caller.unary(fail("UNAUTHENTICATED"), ok())
    caller.future(fail("UNAUTHENTICATED"), ok()).result()
    if caller.world == "aio":
        assert {thread.name for thread in tokens.threads} == {"aio caller"}
        return
    assert tokens.threads[0] is threading.current_thread()
    assert tokens.threads[1].name == "faultwire-recovery"


def test_cancelling_while_credentials_are_refreshed(caller: Caller) -> None:
    """The call ends once, and no other attempt is sent."""
    if caller.world == "aio":
        pytest.skip("a hook that blocks holds the event loop up; coroutine functions are tested in aio alone")
    asked, go_on = threading.Event(), threading.Event()

    def refresh(error: Any) -> None:
        asked.set()
        assert go_on.wait(5)

    handle = caller.connect(ClientPolicy(refresh=refresh)).future(fail("UNAUTHENTICATED"), ok())
    assert asked.wait(5)
    assert handle.cancel()
    go_on.set()
    [outcome] = caller.ledger.outcomes()
    assert (outcome.how, len(caller.server.seen(handle.key))) == ("cancelled", 1)


def after(request: bytes, response: bytes) -> bytes:
    """Ask for what comes after a response."""
    return request + b" after " + response


RESUMED = ClientPolicy(retry=QUICK, resume=after)


def test_a_stream_goes_on_where_it_broke_off(caller: Caller) -> None:
    """Each attempt asks for what comes after the last response, and no message comes twice."""
    caller.connect(RESUMED)
    got = caller.stream(fail("UNAVAILABLE", b"1", b"2"), fail("UNAVAILABLE", b"3"), ok(b"", b"4"), request=b"all")
    assert (got.messages, got.error) == ([b"1", b"2", b"3", b"4"], None)
    assert [seen.requests for seen in got.seen] == [[b"all"], [b"all after 2"], [b"all after 3"]]
    [outcome] = caller.ledger.outcomes()
    assert len(outcome.attempts) == 3


def test_without_a_message_the_request_is_sent_again_as_it_is(caller: Caller) -> None:
    """There is nothing to go on from yet."""
    got = caller.connect(RESUMED).stream(fail(), ok(b"", b"1"), request=b"all")
    assert (got.messages, [seen.requests for seen in got.seen]) == ([b"1"], [[b"all"], [b"all"]])


def test_a_stream_that_breaks_off_too_often_fails(caller: Caller) -> None:
    """After max_attempts in all, with its history; fallbacks do not answer a stream that has begun."""
    policy = ClientPolicy(retry=QUICK, resume=after, budget=None, fallbacks=(fallback.value([b"other"]),))
    got = caller.connect(policy).stream(fail("UNAVAILABLE", b"1"))
    assert got.messages == [b"1"] * 3
    assert isinstance(got.error, Unavailable)
    assert len(got.history) == 3


def test_only_what_is_retryable_is_resumed(caller: Caller) -> None:
    """An error that forbids retries ends the stream."""
    got = caller.connect(RESUMED).stream(fail("NOT_FOUND", b"1"), ok(b"", b"2"))
    assert got.messages == [b"1"]
    assert got.error.code() is grpc.StatusCode.NOT_FOUND


def test_streams_of_requests_are_not_resumed(caller: Caller) -> None:
    """There is no one request that could continue them."""
    got = caller.connect(RESUMED).exchange([b"x"], fail("UNAVAILABLE", b"1"), ok(b"", b"2"), path=EXCHANGE)
    assert got.messages == [b"1"]
    assert isinstance(got.error, Unavailable)


def test_a_resume_function_that_raises_leaves_the_error(caller: Caller) -> None:
    """With what was delivered before it."""

    def resume(request: Any, response: Any) -> Any:
        raise ValueError(response)

    got = caller.connect(ClientPolicy(retry=QUICK, resume=resume)).stream(fail("UNAVAILABLE", b"1"), ok())
    assert got.messages == [b"1"]
    assert isinstance(got.error, Unavailable)
    assert len(got.seen) == 1


def test_a_resumed_stream_can_be_cancelled(caller: Caller) -> None:
    """In any of its attempts."""
    handle = caller.connect(RESUMED).begin_stream(fail("UNAVAILABLE", b"1"), hang(b"2"))
    assert [caller.read(handle), caller.read(handle)] == [b"1", b"2"]
    assert handle.cancel()
    assert caller.server.arrived(handle.key, 2)[1].over.wait(2)
    [outcome] = caller.ledger.outcomes()
    assert outcome.how == "cancelled"

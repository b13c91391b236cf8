"""Hedges and users' coroutines, as only aio has them: contexts, streams of answers, other channels."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from aio_policy_lab import HEDGE, QUICK_RETRY, Served, connected, result
from policy_lab import READ, READS, fail, hang, ok

from grpc_faultwire import StatusError, Unavailable, fallback
from grpc_faultwire.aio import wrap_channel
from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.policies import HedgePolicy


def test_a_hedge_that_wins_cancels_the_other(flaky: Served) -> None:
    """The second attempt answers, the first is cancelled at its server, and the breaker hears nothing bad of it."""

    async def run() -> None:
        async with connected(flaky, ClientPolicy(hedge=HEDGE)) as lab:
            call = lab.call(hang(), ok(b"2"))
            assert await call == b"2"
            assert (await call.code(), call.done(), call.cancelled()) == (grpc.StatusCode.OK, True, False)
            await lab.over()
            (breaker,) = lab.state.snapshot(time.monotonic())
            assert (breaker.calls, breaker.failures) == (1, 0)
            (outcome,) = lab.ledger.outcomes()
            assert [attempt.hedge for attempt in outcome.attempts] == [False, True]

    asyncio.run(run())


def test_a_hedged_call_that_nobody_awaits_runs_on(flaky: Served) -> None:
    """As grpc's own unary calls do."""

    async def run() -> None:
        async with connected(flaky, ClientPolicy(hedge=HEDGE)) as lab:
            lab.call(hang(), ok(beside=2))
            gc.collect()
            await lab.arrived(2)
            assert await lab.ends() == ["done"]

    asyncio.run(run())


def test_closing_with_grace_lets_hedged_attempts_end(flaky: Served) -> None:
    """No further attempt is sent on a closing channel; the one in flight may answer."""

    async def run() -> None:
        async with connected(flaky, ClientPolicy(hedge=HedgePolicy(delay=0.1))) as lab:
            task = asyncio.ensure_future(result(lab.call(ok(b"1", wait=0.2))))
            await lab.arrived()
            await lab.channel.close(5)
            assert await task == b"1"
            assert len(lab.server.seen(lab.keys[0])) == 1

    asyncio.run(run())


def test_hedges_have_the_caller_s_context(flaky: Served) -> None:
    """Fallbacks, refreshing and further attempts run in the context of the call."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen: list[tuple[str, str]] = []

    class Injects:
        def inject(self, token: Any, attempt: Any) -> Any:
            seen.append((f"attempt {attempt.number}", variable.get()))
            return ()

    async def refresh(_error: Any) -> None:
        seen.append(("refresh", variable.get()))

    def answer(_failed: Any) -> bytes:
        seen.append(("fallback", variable.get()))
        return b"fallen"

    async def run() -> None:
        server, address = flaky
        hedged = ClientPolicy(hedge=HEDGE)
        falling = ClientPolicy(refresh=refresh, fallbacks=(fallback.function(answer),))
        for policy, acts in ((hedged, (hang(), ok())), (falling, (fail("UNAUTHENTICATED"), fail("INTERNAL")))):
            async with wrap_channel(grpc.aio.insecure_channel(address), policy, observers=[Injects()]) as channel:
                variable.set("caller")
                call = channel.unary_unary(READ)(b"", metadata=(("key", server.plan(acts)),))
                variable.set("later")
                await call
        assert {value for _, value in seen} == {"caller"}
        assert {name for name, _ in seen} == {"attempt 1", "attempt 2", "refresh", "fallback"}

    asyncio.run(run())


async def _raises(_given: Any) -> Any:
    raise LookupError("in the hook")


async def _declines(_given: Any) -> Any:
    return fallback.UNANSWERED


async def _is_cancelled(_given: Any) -> Any:
    raise asyncio.CancelledError


@pytest.mark.parametrize("answer", [_raises, _declines, _is_cancelled])
def test_a_fallback_without_an_answer_leaves_the_error(flaky: Served, answer: Any) -> None:
    """Whatever becomes of the coroutine, the caller sees what the server said, with grpc's own error as its cause."""

    async def run() -> None:
        policy = ClientPolicy(fallbacks=(fallback.function(answer),))
        async with connected(flaky, policy) as lab:
            with pytest.raises(StatusError, match="not now") as caught:
                await lab.call(fail("INTERNAL"))
            assert isinstance(caught.value.__cause__, grpc.aio.AioRpcError)
            assert await lab.ends() == ["done"]

    asyncio.run(run())


def test_a_stream_goes_on_where_it_broke_off(flaky: Served) -> None:
    """A coroutine function makes the request that continues a stream: no message is missing, none comes twice."""

    async def resume(request: bytes, last: bytes) -> bytes:
        await asyncio.sleep(0)
        return request + b" after " + last

    async def run() -> None:
        async with connected(flaky, ClientPolicy(retry=QUICK_RETRY, resume=resume)) as lab:
            call = lab.call(fail("UNAVAILABLE", b"1", b"2"), fail("UNAVAILABLE", b"3"), ok(b"", b"4"), path=READS)
            assert [response async for response in call] == [b"1", b"2", b"3", b"4"]
            requests = [seen.requests for seen in lab.server.seen(lab.keys[0])]
            assert requests == [[b"request"], [b"request after 2"], [b"request after 3"]]

    asyncio.run(run())


@pytest.mark.parametrize("resume", [lambda request, last: 1 / 0, _raises])
def test_a_stream_that_cannot_be_resumed_keeps_its_error(flaky: Served, resume: Any) -> None:
    """Whatever the hook raises, the caller has the messages that came, and the server's error."""

    async def run() -> None:
        async with connected(flaky, ClientPolicy(retry=QUICK_RETRY, resume=resume)) as lab:
            call = lab.call(fail("UNAVAILABLE", b"1"), path=READS)
            assert await call.read() == b"1"
            with pytest.raises(Unavailable, match="not now"):
                await call.read()
            assert await lab.ends() == ["done"]

    asyncio.run(run())


async def _not_pairs(_given: Any) -> Any:
    return 7


@pytest.mark.parametrize("refresh", [_raises, _not_pairs, _is_cancelled])
def test_a_refresh_that_fails_leaves_the_error(flaky: Served, refresh: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The call is not sent again; one warning says why."""

    async def run() -> None:
        # Another object each time: a function's faults are logged once.
        async with connected(flaky, ClientPolicy(refresh=lambda error: refresh(error))) as lab:
            call = lab.call(fail("UNAUTHENTICATED"), ok())
            with pytest.raises(StatusError, match="not now"):
                await call
            assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
            assert len(lab.server.seen(lab.keys[0])) == 1
            assert await lab.ends() == ["done"]

    asyncio.run(run())
    assert [record.levelname for record in caplog.records if record.name.startswith("grpc_faultwire.aio")] == [
        "WARNING"
    ]


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("reads", [False, True], ids=["iterated", "read"])
def test_a_fallback_s_responses_are_streamed(flaky: Served, asynchronous: bool, reads: bool) -> None:
    """A list or an asynchronous generator takes the place of the stream, however it is consumed."""

    async def numbers() -> AsyncIterator[bytes]:
        for number in (b"1", b"2"):
            await asyncio.sleep(0)
            yield number

    async def run() -> None:
        answer = fallback.function(lambda _: numbers() if asynchronous else [b"1", b"2"])
        async with connected(flaky, ClientPolicy(fallbacks=(answer,))) as lab:
            call = lab.call(fail("INTERNAL"), path=READS)
            if reads:
                assert [await call.read() for _ in range(4)] == [b"1", b"2", grpc.aio.EOF, grpc.aio.EOF]
            else:
                assert [response async for response in call] == [b"1", b"2"]
                assert [response async for response in call] == []
            assert (await call.code(), await call.details()) == (grpc.StatusCode.OK, "")
            assert tuple(await call.initial_metadata()) == tuple(await call.trailing_metadata()) == ()
            assert await call.debug_error_string() == ""

    asyncio.run(run())


def test_another_channel_answers(flaky: Served) -> None:
    """A fallback may return a call of another channel: it is awaited, and the caller has its answer."""

    async def run() -> None:
        server, address = flaky
        async with grpc.aio.insecure_channel(address) as other:

            def elsewhere(failed: fallback.Failed) -> Any:
                return other.unary_unary(failed.method)(
                    failed.request, metadata=(("key", server.plan([ok(b"other")])),)
                )

            async with connected(flaky, ClientPolicy(fallbacks=(fallback.function(elsewhere),))) as lab:
                assert await lab.call(fail("INTERNAL")) == b"other"

    asyncio.run(run())


@pytest.mark.parametrize("how", ["wrapped", "official"])
def test_both_doors(flaky: Served, how: str) -> None:
    """The official interceptors hedge, refresh and fall back as a wrapped channel does."""

    async def refresh(_error: Any) -> Any:
        return [("authorization", "new")]

    async def run() -> None:
        async with connected(flaky, ClientPolicy(hedge=HEDGE), how=how) as lab:
            assert await lab.call(hang(), ok(b"hedge")) == b"hedge"
            with pytest.raises(StatusError, match="not now"):
                await lab.call(hang(), fail("NOT_FOUND"))
            await lab.over()
        falling = ClientPolicy(refresh=refresh, fallbacks=(fallback.value(b"value"), fallback.last_good()))
        async with connected(flaky, falling, how=how) as lab:
            assert await lab.call(fail("UNAUTHENTICATED"), ok(b"fresh")) == b"fresh"
            assert [seen.get("authorization") for seen in lab.server.seen(lab.keys[0])] == [None, "new"]
            assert await lab.call(fail("INTERNAL")) == b"value"
        async with connected(flaky, ClientPolicy(fallbacks=(fallback.last_good(),)), how=how) as lab:
            assert await lab.call(ok(b"good")) == b"good"
            await lab.ends()
            assert await lab.call(fail("INTERNAL")) == b"good"

    asyncio.run(run())

"""Calls that wait to be sent again end at once when their caller or their channel ends them."""

from __future__ import annotations

import asyncio
import contextvars
import gc
from typing import Any

import grpc
import grpc.aio
import pytest
from aio_lab import KINDS, OLD, SS, SU, US, UU, Lab, Scripted, consume, lab, outcome, status

from grpc_faultwire import errors

TWICE = "fail:UNAVAILABLEx2"
ALWAYS = "fail:UNAVAILABLEx99"
VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
kinds = pytest.mark.parametrize("kind", KINDS)
request_streams = pytest.mark.parametrize("kind", [SU, SS])


def script(kind: str, *steps: str) -> str:
    """Steps that end as this kind's default does."""
    tail = {UU: "", US: "reply:2", SU: "drain", SS: "drain reply:2"}[kind]
    return " ".join([*steps, tail])


def expected(kind: str) -> Any:
    return {UU: b"0 requests", SU: b"2 requests"}.get(kind, [b"reply 0", b"reply 1"])


async def settled(made: Lab) -> None:
    await made.settled()


def _returned(*values: Any) -> list[Any]:
    return [("returned", value) for value in values]


def _metadata(pairs: Any) -> list[Any]:
    return _returned(grpc.aio.Metadata(*pairs), grpc.aio.Metadata(*pairs))


async def in_backoff(made: Lab, kind: str) -> Any:
    call = made.call(kind, script(kind, ALWAYS))
    await failed(made, 1)
    return call


async def failed(made: Lab, attempts: int) -> None:
    """Wait until so many attempts have ended."""
    for _ in range(2000):
        if len([what for what, _ in made.ends.attempts if what == "end"]) >= attempts:
            return
        await asyncio.sleep(0.001)


@kinds
@pytest.mark.parametrize("way", ["cancel", "task", "close", "leave", "wait_for", "connection"])
def test_ended_during_backoff(kind: str, way: str) -> None:
    """Cancelling a call or closing its channel while it waits to be sent again ends it at once."""

    async def run() -> None:
        async with lab(policy=Scripted([30])) as made:
            call = await in_backoff(made, kind)
            seen: list[Any] = []
            call.add_done_callback(lambda given: seen.append((given is call, given.done(), given.cancelled())))
            assert (call.done(), call.cancelled()) == (False, False)
            waiting = asyncio.ensure_future(call.wait_for_connection() if way == "connection" else consume(kind, call))
            await asyncio.sleep(0)
            if way == "cancel":
                assert (call.cancel(), call.cancel()) == (True, False)
            elif way == "close":
                await made.channel.close()
            elif way == "leave":
                await made.channel.__aexit__(None, None, None)
            elif way == "wait_for":
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(waiting, 0.01)
            else:
                waiting.cancel()
            assert (await outcome(waiting))[1] == "CancelledError"
            assert await status(call) == (
                True,
                True,
                [*_returned(grpc.StatusCode.CANCELLED, "Locally cancelled by application!"), *_metadata(())],
                "str",
            )
            assert seen == [(True, True, True)]
            await settled(made)
            assert made.ends.hows == ["cancelled"]

    asyncio.run(run())


@pytest.mark.parametrize("kind", [US, SS])
def test_stream_dropped_during_backoff(kind: str) -> None:
    """A stream that nobody holds is not sent again."""

    async def run() -> None:
        async with lab(policy=Scripted([30])) as made:
            call = await in_backoff(made, kind)
            del call
            gc.collect()
            await asyncio.sleep(0.01)
            assert made.ends.hows == ["abandoned"]
            await settled(made)

    asyncio.run(run())


def test_unary_dropped_during_backoff_runs_on() -> None:
    """A unary call that nobody holds is sent again."""

    async def run() -> None:
        async with lab(policy=Scripted([0.01, 0.01])) as made:
            made.call(UU, TWICE)
            await made.until("ok")
            await settled(made)
            assert made.ends.hows == ["done"]

    asyncio.run(run())


def test_channel_closed_under_a_retry() -> None:
    """A bare channel that is closed behind our back ends a call that would be sent again."""

    async def run() -> None:
        async with lab(policy=Scripted([0.02])) as made:
            call = await in_backoff(made, UU)
            await made.channel._inner.close()
            with pytest.raises(errors.Unknown, match="UsageError"):
                await call
            await settled(made)
            assert made.ends.hows == ["failed"]

    asyncio.run(run())


def test_write_waits_out_a_backoff() -> None:
    """A write during the wait between attempts goes to the next attempt."""

    async def run() -> None:
        async with lab(policy=Scripted([0.05])) as made:
            call = made.call(SU, "read:1 fail:UNAVAILABLEx1 drain", requests=None)
            await call.write(b"a")
            await failed(made, 1)
            await call.write(b"b")
            await call.done_writing()
            await call.done_writing()
            assert await call == b"2 requests"

    asyncio.run(run())


def test_write_is_cancelled_in_a_backoff() -> None:
    """Cancelling a task that writes during the wait between attempts cancels the call, as a write does in grpc."""

    async def run() -> None:
        async with lab(policy=Scripted([30])) as made:
            call = made.call(SU, "read:1 fail:UNAVAILABLEx1 drain", requests=None)
            await call.write(b"a")
            await failed(made, 1)
            writing = asyncio.ensure_future(call.write(b"b"))
            await asyncio.sleep(0)
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
            assert (call.done(), call.cancelled()) == (True, True)
            await settled(made)

    asyncio.run(run())


@pytest.mark.skipif(OLD, reason="it refuses no grace")
def test_refused_close_ends_nothing() -> None:
    """A grace that grpc refuses does not end calls that wait to be sent again."""

    async def run() -> None:
        async with lab(policy=Scripted([0.05])) as made:
            call = made.call(UU, "fail:UNAVAILABLEx1")
            await failed(made, 1)
            with pytest.raises(ValueError, match="negative"):
                await made.channel.close(-1)
            assert await call == b"0 requests"
            await made.settled()

    asyncio.run(run())

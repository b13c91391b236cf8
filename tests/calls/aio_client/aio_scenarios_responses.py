"""Scenarios: awaiting, reading and iterating responses."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

from aio_lab import SU, UU, Lab, called, consume, outcome, status
from aio_scenarios import RESPONSE_STREAMS, scenario

# Awaiting, reading, iterating.


@scenario(UU, SU)
async def awaited_twice(lab: Lab, kind: str) -> Any:
    """The response stays."""
    call = lab.call(kind)
    return await call, await call


@scenario(UU, SU)
async def failure_awaited_twice(lab: Lab, kind: str) -> Any:
    """The error stays."""
    call = lab.call(kind, "abort:OUT_OF_RANGE")
    return await outcome(call), await outcome(call)


@scenario(UU, SU)
async def awaited_by_two(lab: Lab, kind: str) -> Any:
    """Two tasks wait for one response."""
    call = lab.call(kind, "sleep:0.01")

    async def wait() -> Any:
        return await call

    return await asyncio.gather(wait(), wait(), wait())


@scenario(UU, SU)
async def one_of_two_cancelled(lab: Lab, kind: str) -> Any:
    """Cancelling one of two tasks cancels the call."""
    call = lab.call(kind, "hang")
    one, two = asyncio.ensure_future(consume(kind, call)), asyncio.ensure_future(consume(kind, call))
    await lab.until(("start", kind, []))
    one.cancel()
    return await outcome(one), await outcome(two), await status(call)


@scenario(UU)
async def never_awaited(lab: Lab, kind: str) -> Any:
    """A unary call that nobody holds runs on."""
    lab.call(kind, "sleep:0.01")
    gc.collect()
    await lab.until("ok")


@scenario(UU)
async def cancelled_and_never_awaited(lab: Lab, kind: str) -> Any:
    """Cancelled and dropped."""
    lab.call(kind, "hang").cancel()
    gc.collect()
    await asyncio.sleep(0.01)


@scenario(*RESPONSE_STREAMS)
async def reads(lab: Lab, kind: str) -> Any:
    """read() to the end, and beyond."""
    call = lab.call(kind, "reply:3 trail")
    return [await call.read() for _ in range(5)], await status(call)


@scenario(*RESPONSE_STREAMS)
async def reads_a_failure(lab: Lab, kind: str) -> Any:
    """read() to an error, and beyond."""
    call = lab.call(kind, "reply:2 abort:ABORTED")
    return [await outcome(call.read()) for _ in range(4)], await status(call)


@scenario(*RESPONSE_STREAMS)
async def reads_after_cancel(lab: Lab, kind: str) -> Any:
    """read() on a cancelled call."""
    call = lab.call(kind, "reply:2 hang")
    first = await call.read()
    call.cancel()
    return first, await outcome(call.read()), await outcome(call.read()), await status(call)


@scenario(*RESPONSE_STREAMS)
async def iterates_a_failure(lab: Lab, kind: str) -> Any:
    """Iterating to an error, and beyond."""
    call = lab.call(kind, "reply:2 abort:ABORTED")
    iterator = aiter(call)
    steps = [await outcome(anext(iterator)) for _ in range(4)]
    return steps, await outcome(consume(kind, call)), await status(call)


@scenario(*RESPONSE_STREAMS)
async def iterates_twice(lab: Lab, kind: str) -> Any:
    """A stream that is iterated to its end is empty."""
    call = lab.call(kind, "reply:2")
    return await consume(kind, call), await consume(kind, call), aiter(call) is aiter(call)


@scenario(*RESPONSE_STREAMS)
async def breaks_and_goes_on(lab: Lab, kind: str) -> Any:
    """Iterating in two parts."""
    call = lab.call(kind, "reply:4")
    first = []
    async for response in call:
        first.append(response)
        if len(first) == 2:
            break
    return first, await consume(kind, call), await status(call)


@scenario(*RESPONSE_STREAMS)
async def breaks_and_cancels(lab: Lab, kind: str) -> Any:
    """Leaving a stream in the middle."""
    call = lab.call(kind, "reply:4 hang")
    async for _ in call:
        call.cancel()
        break
    return await status(call), await outcome(consume(kind, call))


@scenario(*RESPONSE_STREAMS)
async def cancels_while_iterating(lab: Lab, kind: str) -> Any:
    """Cancelling from within the loop."""
    call = lab.call(kind, "reply:4 hang")
    seen = []

    async def run() -> None:
        async for response in call:
            seen.append(response)
            call.cancel()

    return await outcome(run()), seen, await status(call)


@scenario(*RESPONSE_STREAMS)
async def reads_then_iterates(lab: Lab, kind: str) -> Any:
    """Styles must not be mixed: read() first."""
    call = lab.call(kind, "reply:4 hang")
    result = await outcome(call.read()), called(aiter, call)
    return result, await outcome(call.read()), call.cancel()


@scenario(*RESPONSE_STREAMS)
async def iterates_then_reads(lab: Lab, kind: str) -> Any:
    """Styles must not be mixed: iteration first."""
    call = lab.call(kind, "reply:4 hang")
    iterator = aiter(call)
    result = await outcome(anext(iterator)), await outcome(call.read())
    return result, await outcome(anext(iterator)), call.cancel()


@scenario(*RESPONSE_STREAMS)
async def closes_the_iterator(lab: Lab, kind: str) -> Any:
    """The iterator is an asynchronous generator."""
    call = lab.call(kind, "reply:4 hang")
    iterator = aiter(call)
    first = await anext(iterator)
    result = await outcome(iterator.aclose()), await outcome(anext(iterator)), await outcome(consume(kind, call))
    return first, result, call.done(), call.cancel()


@scenario(*RESPONSE_STREAMS)
async def many_responses(lab: Lab, kind: str) -> Any:
    """A longer stream, with a slow reader."""
    call = lab.call(kind, "reply:200 trail")
    count = 0
    async for _ in call:
        count += 1
        if count % 50 == 0:
            await asyncio.sleep(0.002)
    return count, await status(call)


@scenario(*RESPONSE_STREAMS)
async def read_task_cancelled(lab: Lab, kind: str) -> Any:
    """Cancelling a task in read()."""
    call = lab.call(kind, "reply:1 hang")
    first = await call.read()
    task = asyncio.ensure_future(call.read())
    await asyncio.sleep(0.01)
    task.cancel()
    return first, await outcome(task), await status(call), await outcome(call.read())


@scenario(*RESPONSE_STREAMS)
async def two_at_once(lab: Lab, kind: str) -> Any:
    """Two tasks in one iterator."""
    call = lab.call(kind, "reply:1 hang")
    iterator = aiter(call)
    await anext(iterator)
    one = asyncio.ensure_future(anext(iterator))
    await asyncio.sleep(0.005)
    result = await outcome(anext(iterator))
    call.cancel()
    return result, await outcome(one)

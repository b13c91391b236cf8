"""Scenarios: cancelling, callbacks and getters."""

from __future__ import annotations

import asyncio
from typing import Any

from aio_lab import KINDS, SU, UU, Lab, called, consume, outcome, status
from aio_scenarios import scenario

# Cancelling.


@scenario(*KINDS)
async def cancelled_at_once(lab: Lab, kind: str) -> Any:
    """Cancelled before anything was sent."""
    call = lab.call(kind, "hang")
    before = call.done(), call.cancelled(), call.cancel(), call.done(), call.cancelled(), call.cancel()
    return before, await outcome(consume(kind, call)), await status(call)


@scenario(*KINDS)
async def cancelled_later(lab: Lab, kind: str) -> Any:
    """Cancelled while the server works."""
    call = lab.call(kind, "hang")
    task = asyncio.ensure_future(outcome(consume(kind, call)))
    await lab.until(("start", kind, []))
    return call.cancel(), await task, await status(call), call.cancel()


@scenario(*KINDS)
async def cancelled_after_initial_metadata(lab: Lab, kind: str) -> Any:
    """Cancelled when part of the answer is there."""
    call = lab.call(kind, "initial hang")
    task = asyncio.ensure_future(outcome(consume(kind, call)))
    await (lab.until(("start", kind, [])) if kind == UU else call.initial_metadata())
    return call.cancel(), await task, await status(call)


@scenario(*KINDS)
async def cancel_after_the_end(lab: Lab, kind: str) -> Any:
    """Too late."""
    call = lab.call(kind)
    await consume(kind, call)
    return call.cancel(), await status(call)


@scenario(*KINDS)
async def task_cancelled(lab: Lab, kind: str) -> Any:
    """Cancelling the task that waits reaches the server."""
    call = lab.call(kind, "hang")
    task = asyncio.ensure_future(consume(kind, call))
    await lab.until(("start", kind, []))
    task.cancel()
    return await outcome(task), await status(call)


@scenario(*KINDS)
async def task_cancelled_at_once(lab: Lab, kind: str) -> Any:
    """Cancelling the task that waits before anything was sent."""
    call = lab.call(kind, "hang")
    task = asyncio.ensure_future(consume(kind, call))
    await asyncio.sleep(0)
    task.cancel()
    return await outcome(task), await status(call)


@scenario(*KINDS)
async def wait_for(lab: Lab, kind: str) -> Any:
    """asyncio.wait_for."""
    call = lab.call(kind, "hang")
    return await outcome(asyncio.wait_for(consume(kind, call), 0.05)), await status(call)


@scenario(*KINDS)
async def timeout_block(lab: Lab, kind: str) -> Any:
    """asyncio.timeout."""
    call = lab.call(kind, "hang")

    async def run() -> Any:
        async with asyncio.timeout(0.05):
            return await consume(kind, call)

    return await outcome(run()), await status(call)


@scenario(*KINDS)
async def getter_cancelled(lab: Lab, kind: str) -> Any:
    """Cancelling a task that waits for the code does not cancel the call."""
    call = lab.call(kind, "gate")
    task = asyncio.ensure_future(call.code())
    await lab.until(("start", kind, []))
    task.cancel()
    cancelled = await outcome(task)
    lab.gate.set()
    return cancelled, await outcome(consume(kind, call)), await status(call)


@scenario(*KINDS)
async def task_group(lab: Lab, kind: str) -> Any:
    """A sibling that fails cancels the call."""
    call = lab.call(kind, "hang")

    async def fails() -> None:
        await lab.until(("start", kind, []))
        raise ValueError

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(consume(kind, call))
            group.create_task(fails())

    return await outcome(both()), await status(call)


# Callbacks.


@scenario(*KINDS)
async def done_callbacks(lab: Lab, kind: str) -> Any:
    """Callbacks, their order, what they are given, and one that comes late."""
    order: list[Any] = []
    call = lab.call(kind)
    call.add_done_callback(lambda given: order.append(("first", given is call, given.done(), given.cancelled())))
    call.add_done_callback(lambda given: order.append(("second", given is call)))
    answer = await consume(kind, call)
    order.append("consumed")
    call.add_done_callback(lambda given: order.append(("late", given is call)))
    return answer, order


@scenario(*KINDS)
async def done_callbacks_of_failures(lab: Lab, kind: str) -> Any:
    """Callbacks when the server fails the call."""
    order: list[Any] = []
    call = lab.call(kind, "abort:INTERNAL")
    call.add_done_callback(lambda given: order.append(("callback", given.done(), given.cancelled())))
    result = await outcome(consume(kind, call))
    return result, order


@scenario(*KINDS)
async def done_callbacks_of_cancelled(lab: Lab, kind: str) -> Any:
    """Callbacks come within cancel()."""
    order: list[Any] = []
    call = lab.call(kind, "hang")
    call.add_done_callback(lambda given: order.append((given is call, given.done(), given.cancelled())))
    order.append(("before", called(call.cancel)))
    order.append("after")
    return order, await outcome(consume(kind, call))


@scenario(*KINDS)
async def callback_raises(lab: Lab, kind: str) -> Any:
    """A callback that raises, within cancel()."""
    call = lab.call(kind, "hang")

    def raises(given: Any) -> None:
        raise KeyError("callback")

    call.add_done_callback(raises)
    return called(call.cancel), call.done(), call.cancelled()


# Asking.


@scenario(UU, SU)
async def asks_before_the_response(lab: Lab, kind: str) -> Any:
    """Getters that wait, before the response."""
    call = lab.call(kind, "initial sleep:0.02 trail")
    answers = await asyncio.gather(
        call.code(), call.details(), call.initial_metadata(), call.trailing_metadata(), call.debug_error_string()
    )
    return [type(answer).__name__ for answer in answers], answers[:4], await call


@scenario(*KINDS)
async def initial_metadata_first(lab: Lab, kind: str) -> Any:
    """Initial metadata while the call goes on."""
    call = lab.call(kind, "initial gate")
    if kind == UU:  # where they come with the end
        lab.gate.set()
    metadata = await call.initial_metadata()
    done = call.done()
    lab.gate.set()
    return metadata, done, await outcome(consume(kind, call)), await call.initial_metadata()


@scenario(*KINDS)
async def waits_for_connection(lab: Lab, kind: str) -> Any:
    """wait_for_connection on a server that is there."""
    call = lab.call(kind)
    return (
        await outcome(call.wait_for_connection()),
        await consume(kind, call),
        await outcome(call.wait_for_connection()),
    )


@scenario(*KINDS)
async def waits_for_connection_of_a_failing_call(lab: Lab, kind: str) -> Any:
    """wait_for_connection on a call that fails."""
    call = lab.call(kind, "abort:DATA_LOSS")
    first = await outcome(call.wait_for_connection()) if kind == UU else None
    return first, await outcome(consume(kind, call)), await outcome(call.wait_for_connection())


@scenario(*KINDS)
async def task_cancelled_in_wait_for_connection(lab: Lab, kind: str) -> Any:
    """wait_for_connection in a task that is cancelled."""
    call = lab.call(kind, "hang")
    task = asyncio.ensure_future(call.wait_for_connection())
    await asyncio.sleep(0)
    task.cancel()
    result = await outcome(task)
    call.cancel()
    return result, await status(call)

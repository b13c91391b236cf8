"""Scenarios: streams of requests."""

from __future__ import annotations

import asyncio
from typing import Any

from aio_lab import SS, Lab, consume, outcome, status
from aio_scenarios import REQUEST_STREAMS, VARIABLE, scenario

# Requests.


@scenario(*REQUEST_STREAMS)
async def writes(lab: Lab, kind: str) -> Any:
    """write() and done_writing()."""
    call = lab.call(kind, requests=None)
    wrote = [await outcome(call.write(b"%d" % number)) for number in range(3)]
    return wrote, await outcome(call.done_writing()), await consume(kind, call), await status(call)


@scenario(*REQUEST_STREAMS)
async def writes_after_done_writing(lab: Lab, kind: str) -> Any:
    """No writing after done_writing(), which may be called twice."""
    call = lab.call(kind, requests=None)
    await call.write(b"a")
    result = await outcome(call.done_writing()), await outcome(call.done_writing()), await outcome(call.write(b"b"))
    return result, await consume(kind, call)


@scenario(*REQUEST_STREAMS)
async def writes_after_the_end(lab: Lab, kind: str) -> Any:
    """No writing after the end."""
    call = lab.call(kind, requests=None)
    await call.done_writing()
    await consume(kind, call)
    return await outcome(call.write(b"b")), await outcome(call.done_writing()), await status(call)


@scenario(*REQUEST_STREAMS)
async def writes_after_cancel(lab: Lab, kind: str) -> Any:
    """No writing on a cancelled call."""
    call = lab.call(kind, "read:1 hang", requests=None)
    await call.write(b"a")
    call.cancel()
    return await outcome(call.write(b"b")), await outcome(call.done_writing()), await status(call)


@scenario(*REQUEST_STREAMS)
async def writes_to_a_failed_call(lab: Lab, kind: str) -> Any:
    """The server has ended the call: writes are refused."""
    call = lab.call(kind, "read:1 abort:INVALID_ARGUMENT", requests=None)
    await call.write(b"a")
    first = await outcome(consume(kind, call))
    return first, await outcome(call.write(b"b")), await outcome(call.done_writing()), await status(call)


@scenario(*REQUEST_STREAMS)
async def server_ends_early(lab: Lab, kind: str) -> Any:
    """The server answers before the requests have ended."""
    call = lab.call(kind, "read:1", requests=None)
    await call.write(b"a")
    return await consume(kind, call), await status(call), await outcome(call.write(b"b"))


@scenario(*REQUEST_STREAMS)
async def writes_beside_an_iterator(lab: Lab, kind: str) -> Any:
    """Styles must not be mixed: an iterator was given."""
    call = lab.call(kind)
    return await outcome(call.write(b"b")), await outcome(call.done_writing()), await consume(kind, call)


@scenario(*REQUEST_STREAMS)
async def asynchronous_requests(lab: Lab, kind: str) -> Any:
    """An asynchronous generator of requests."""

    async def requests() -> Any:
        for number in range(3):
            await asyncio.sleep(0.001)
            yield b"%d" % number

    call = lab.call(kind, requests=requests())
    return await consume(kind, call), await status(call)


@scenario(*REQUEST_STREAMS)
async def listed_requests(lab: Lab, kind: str) -> Any:
    """A list of requests."""
    return await consume(kind, lab.call(kind, requests=[b"a", b"b"]))


@scenario(*REQUEST_STREAMS)
async def no_requests(lab: Lab, kind: str) -> Any:
    """An empty iterator."""
    return await consume(kind, lab.call(kind, requests=[]))


@scenario(*REQUEST_STREAMS)
async def requests_raise(lab: Lab, kind: str) -> Any:
    """An iterator that raises cancels the call."""

    async def requests() -> Any:
        yield b"a"
        raise ValueError

    call = lab.call(kind, "read:1 hang", requests=requests())
    return await outcome(consume(kind, call)), await status(call)


@scenario(*REQUEST_STREAMS)
async def requests_are_no_iterator(lab: Lab, kind: str) -> Any:
    """Something that cannot be iterated cancels the call."""
    call = lab.call(kind, "read:1 hang", requests=7)
    return await outcome(consume(kind, call)), await status(call)


@scenario(*REQUEST_STREAMS)
async def requests_go_on_after_the_end(lab: Lab, kind: str) -> Any:
    """The server answers while the iterator has more."""

    async def requests() -> Any:
        for number in range(100):
            yield b"%d" % number
            await asyncio.sleep(0.002)

    call = lab.call(kind, "read:2", requests=requests())
    # Not its status: a write that fails after the end changes what grpc.aio remembers of it, but not what we do.
    return await consume(kind, call), call.done(), call.cancelled()


@scenario(*REQUEST_STREAMS)
async def requests_see_the_caller_s_context(lab: Lab, kind: str) -> Any:
    """Context variables in an iterator of requests are the caller's."""
    seen = []

    async def requests() -> Any:
        seen.append(VARIABLE.get())
        yield b"a"
        seen.append(VARIABLE.get())

    VARIABLE.set("caller")
    call = lab.call(kind, requests=requests())
    VARIABLE.set("later")
    await consume(kind, call)
    return seen, VARIABLE.get()


@scenario(*REQUEST_STREAMS)
async def write_task_cancelled(lab: Lab, kind: str) -> Any:
    """Cancelling a task that writes more than the server takes."""
    call = lab.call(kind, "hang", requests=None)

    async def write() -> None:
        while True:
            await call.write(b"x" * 65536)

    task = asyncio.ensure_future(write())
    await lab.until(("start", kind, []))
    await asyncio.sleep(0.03)
    task.cancel()
    return await outcome(task), await outcome(consume(kind, call)), await status(call)


@scenario(SS)
async def converses(lab: Lab, kind: str) -> Any:
    """write() and read() in turns."""
    call = lab.call(kind, "echo trail", requests=None)
    said = []
    for number in range(5):
        await call.write(b"%d" % number)
        said.append(await call.read())
    await call.done_writing()
    return said, await call.read(), await status(call)


@scenario(SS)
async def writes_and_iterates(lab: Lab, kind: str) -> Any:
    """write() on one side, iteration on the other."""
    call = lab.call(kind, "echo", requests=None)
    said = []
    await call.write(b"0")
    async for response in call:
        said.append(response)
        await (call.write(b"%d" % len(said)) if len(said) < 4 else call.done_writing())
    return said, await status(call)


@scenario(SS)
async def streams_by_iterator_and_read(lab: Lab, kind: str) -> Any:
    """An iterator on one side, read() on the other."""
    call = lab.call(kind, "echo")
    return [await call.read() for _ in range(3)], await status(call)

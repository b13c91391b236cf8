"""What callers do with calls, as grpc.aio's documentation has it; each scenario returns everything that it observed."""

from __future__ import annotations

import asyncio
import contextvars
import gc
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
from aio_lab import KINDS, SS, SU, US, UU, Lab, called, consume, outcome, status

SCENARIOS: dict[str, tuple[Callable[..., Any], str]] = {}
VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
RESPONSE_STREAMS = (US, SS)
REQUEST_STREAMS = (SU, SS)


def scenario(*kinds: str) -> Any:
    """Register a scenario for these kinds of calls."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for kind in kinds:
            SCENARIOS[f"{function.__name__}-{kind}"] = function, kind
        return function

    return register


# How calls end.


@scenario(*KINDS)
async def succeeds(lab: Lab, kind: str) -> Any:
    """A call that succeeds, and all that it says of itself."""
    call = lab.call(kind)
    return await consume(kind, call), await status(call)


@scenario(*KINDS)
async def sends_metadata(lab: Lab, kind: str) -> Any:
    """Metadata in both directions."""
    call = lab.call(kind, "initial trail", metadata=(("x-one", "1"), ("x-bin-bin", b"\x00"), ("x-one", "2")))
    return await outcome(consume(kind, call)), await status(call)


@scenario(*KINDS)
async def takes_metadata_objects(lab: Lab, kind: str) -> Any:
    """A grpc.aio.Metadata instead of a tuple."""
    metadata = grpc.aio.Metadata(("script", "trail" if kind in (UU, US) else "drain trail"), ("x-two", "2"))
    request = b"a" if kind in (UU, US) else iter([b"a"])
    call = lab.method(kind)(request, metadata=metadata)
    return await outcome(consume(kind, call)), await status(call), tuple(metadata)


@scenario(*KINDS)
async def refuses_bad_metadata(lab: Lab, kind: str) -> Any:
    """Metadata that grpc cannot send."""
    call = called(lab.call, kind, metadata=(("x-number", 7),))
    return call[:2] if call[0] != "returned" else await outcome(asyncio.wait_for(consume(kind, call[1]), 0.3))


@scenario(*KINDS)
async def aborted(lab: Lab, kind: str) -> Any:
    """A status from the server."""
    call = lab.call(kind, "initial abort:NOT_FOUND")
    return await outcome(consume(kind, call)), await status(call)


@scenario(*KINDS)
async def aborted_at_once(lab: Lab, kind: str) -> Any:
    """A status without initial metadata."""
    call = lab.call(kind, "abort:PERMISSION_DENIED")
    return await outcome(consume(kind, call)), await status(call)


@scenario(*KINDS)
async def handler_raises(lab: Lab, kind: str) -> Any:
    """An exception in the handler."""
    call = lab.call(kind, "raise")
    return await outcome(consume(kind, call)), await status(call)


@scenario(*KINDS)
async def cancelled_by_the_server(lab: Lab, kind: str) -> Any:
    """CANCELLED as a status of the server's is an error, not a cancellation."""
    call = lab.call(kind, "abort:CANCELLED")
    return await outcome(consume(kind, call)), await status(call)


@scenario(*KINDS)
async def unknown_method(lab: Lab, kind: str) -> Any:
    """A method that the server has not."""
    call = getattr(lab.channel, kind)("/lab.Lab/None")(b"a" if kind in (UU, US) else iter([b"a"]))
    return await outcome(consume(kind, call)), await status(call)


@scenario(*KINDS)
async def deadline(lab: Lab, kind: str) -> Any:
    """A deadline that expires."""
    call = lab.call(kind, "hang", timeout=0.05)
    return await outcome(consume(kind, call)), await status(call)


@scenario(*KINDS)
async def deadline_in_the_past(lab: Lab, kind: str) -> Any:
    """A deadline that has expired."""
    call = lab.call(kind, "hang", timeout=-1)
    return await outcome(consume(kind, call)), await status(call), call.time_remaining()


@scenario(*KINDS)
async def bad_timeout(lab: Lab, kind: str) -> Any:
    """A timeout that is no number."""
    return called(lab.call, kind, timeout="soon")


@scenario(*KINDS)
async def time_remaining(lab: Lab, kind: str) -> Any:
    """What is left of the timeout."""
    call, other = lab.call(kind, timeout=50), lab.call(kind)
    left = call.time_remaining()
    await consume(kind, call), await consume(kind, other)
    return 49 < left <= 50, 49 < call.time_remaining() <= 50, other.time_remaining()


# Options.


@scenario(*KINDS)
async def wait_for_ready_and_compression(lab: Lab, kind: str) -> Any:
    """Options that change nothing here."""
    call = lab.call(kind, wait_for_ready=True, compression=grpc.Compression.Gzip)
    return await consume(kind, call), await status(call)


@scenario(*KINDS)
async def credentials_on_an_insecure_channel(lab: Lab, kind: str) -> Any:
    """Call credentials without TLS."""
    call = called(lab.call, kind, credentials=grpc.access_token_call_credentials("token"))
    return call if call[0] != "returned" else await outcome(consume(kind, call[1]))


@scenario(*KINDS)
async def registered_method(lab: Lab, kind: str) -> Any:
    """A registered method, as generated code makes them."""
    method = getattr(lab.channel, kind)(f"/lab.Lab/{kind}", None, None, True)
    call = method(b"a" if kind in (UU, US) else iter([b"a"]))
    return await consume(kind, call), await status(call)


@scenario(*KINDS)
async def serializers(lab: Lab, kind: str) -> Any:
    """Messages that are not bytes."""
    method = lab.method(kind, request_serializer=str.encode, response_deserializer=lambda data: ("got", data))
    call = method("ä" if kind in (UU, US) else iter(["ä", "b"]))
    return await consume(kind, call), await status(call)


@scenario(*KINDS)
async def same_multicallable_twice(lab: Lab, kind: str) -> Any:
    """Two calls at the same time."""
    first, second = lab.call(kind, "sleep:0.01"), lab.call(kind)
    return await asyncio.gather(consume(kind, first), consume(kind, second))


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
    await lab.until(("start", kind, []))
    await asyncio.sleep(0.02)
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
    call = lab.call(kind, "sleep:0.03")
    task = asyncio.ensure_future(call.code())
    await asyncio.sleep(0.005)
    task.cancel()
    return await outcome(task), await outcome(consume(kind, call)), await status(call)


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
    call = lab.call(kind, "initial sleep:0.02")
    metadata = await call.initial_metadata()
    return metadata, call.done(), await outcome(consume(kind, call)), await call.initial_metadata()


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
    return await consume(kind, call), await status(call)


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


# Channels.


@scenario(*KINDS)
async def unreachable(lab: Lab, kind: str) -> Any:
    """Nobody listens there."""
    await lab.quiet()
    options = {"wait_for_ready": False, "timeout": 5}
    channel = lab.channel
    lab.channel = lab.to("127.0.0.1:1")
    call = lab.call(kind, **options)
    connected = outcome(call.wait_for_connection())
    result = _without_address(await connected), _without_address(await outcome(consume(kind, call)))
    done = call.done(), await call.code(), call.cancelled()
    await lab.channel.close()
    lab.channel = channel
    return result, done


def _without_address(result: Any) -> Any:
    return result[:3]


@scenario(*KINDS)
async def closed_during_a_call(lab: Lab, kind: str) -> Any:
    """Closing the channel cancels its calls."""
    call = lab.call(kind, "hang")
    task = asyncio.ensure_future(outcome(consume(kind, call)))
    await lab.until(("start", kind, []))
    await lab.channel.close()
    return await task, await status(call)


@scenario(*KINDS)
async def closed_with_grace(lab: Lab, kind: str) -> Any:
    """Closing with enough grace lets calls end."""
    call = lab.call(kind, "sleep:0.03")
    task = asyncio.ensure_future(outcome(consume(kind, call)))
    await lab.until(("start", kind, []))
    await lab.channel.close(2)
    return await task, await status(call)


@scenario(*KINDS)
async def closed_with_too_little_grace(lab: Lab, kind: str) -> Any:
    """Closing with too little grace cancels calls."""
    call = lab.call(kind, "hang")
    task = asyncio.ensure_future(outcome(consume(kind, call)))
    await lab.until(("start", kind, []))
    await lab.channel.close(0.02)
    return await task, await status(call)


@scenario(*KINDS)
async def closed_before(lab: Lab, kind: str) -> Any:
    """No call on a closed channel."""
    await lab.channel.close()
    await lab.channel.close()
    return called(lab.call, kind)


@scenario(*KINDS)
async def closed_by_leaving(lab: Lab, kind: str) -> Any:
    """The channel as a context manager."""
    async with lab.channel as channel:
        call = lab.call(kind, "hang")
        same = channel is lab.channel
        await asyncio.sleep(0.01)
    return same, await outcome(consume(kind, call)), await status(call)


@scenario(UU)
async def negative_grace(lab: Lab, kind: str) -> Any:
    """A grace that is refused closes nothing."""
    call = lab.call(kind, "sleep:0.02")
    return await outcome(lab.channel.close(-1)), await outcome(call)


@scenario(UU)
async def connectivity(lab: Lab, kind: str) -> Any:
    """States of the connection."""
    before = lab.channel.get_state()
    await lab.channel.channel_ready()
    ready = lab.channel.get_state(try_to_connect=True)
    waiting = asyncio.ensure_future(lab.channel.wait_for_state_change(ready))
    await lab.channel.close()
    return before, ready, await outcome(asyncio.wait_for(waiting, 2)), called(lab.channel.get_state)


@scenario(UU)
async def state_wait_cancelled(lab: Lab, kind: str) -> Any:
    """Waiting for a state that does not come."""
    await lab.channel.channel_ready()
    waiting = lab.channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
    return await outcome(asyncio.wait_for(waiting, 0.02))

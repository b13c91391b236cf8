"""Exits that few handlers take: still one status, one record, and a server that goes on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from test_flavours import caught, generic
from worlds import SHAPES, World, call

from faultwire.testing.v1 import scripted_pb2 as pb
from grpc_faultwire import NotFound, Translator, Unavailable

Code = grpc.StatusCode


def numbers(stub: Any, shape: str, step: str = "", **arguments: Any) -> list[int]:
    return [response.number for response in call(stub, shape, step, **arguments)]


def aio_only(world: World, what: str) -> None:
    if world.name != "aio":
        pytest.skip(f"about {what}")


# Readers and writers.


async def writes_and_fails(_request: Any, context: Any) -> None:
    await context.write(pb.Response(number=1))
    raise NotFound("missing")


@pytest.mark.parametrize("shape", ["UnaryStream", "StreamStream"])
@pytest.mark.parametrize("how", ["answers", "fails", "declines"])
def test_recovery_of_a_handler_that_writes(world: World, shape: str, how: str) -> None:
    """What a recovery gives is written to the context; it may fail half way, or decline."""
    aio_only(world, "coroutine functions that write")
    translator = Translator()

    async def following() -> Any:
        yield pb.Response(number=90)
        if how == "fails":
            raise Unavailable("the recovery failed too")

    translator.recovery(NotFound)(lambda _error, _call: None if how == "declines" else following())
    stub = world.stub(generic(writes_and_fails, shape), world.interceptor(translator))
    if how == "answers":
        assert numbers(stub, shape) == [1, 90]
    else:
        assert caught(stub, shape).message == ("missing" if how == "declines" else "the recovery failed too")
    [outcome] = world.recorder.wait()
    assert outcome.code is {"answers": Code.OK, "fails": Code.UNAVAILABLE, "declines": Code.NOT_FOUND}[how]
    assert (outcome.recovered is not None) == (how == "answers" or how == "fails")


def test_a_write_after_a_swallowed_abort(world: World) -> None:
    """Nothing is sent after an abort, even if the handler goes on; its status arrives."""
    aio_only(world, "coroutine functions that write")

    async def behavior(_request: Any, context: Any) -> None:
        await context.write(pb.Response(number=1))
        try:
            await context.abort(Code.ABORTED, "aborted")
        except grpc.aio.AbortError:
            await context.write(pb.Response(number=2))

    stub = world.stub(generic(behavior, "UnaryStream"))
    stream = stub.UnaryStream(pb.Request(), timeout=5)
    responses = []
    with pytest.raises(grpc.RpcError) as error:
        for response in stream:
            responses.append(response.number)
    assert (responses, error.value.code()) == ([1], Code.ABORTED)


# What is left to grpc.


@pytest.mark.parametrize("shape", SHAPES)
def test_pass_through_after_set_code(world: World, shape: str) -> None:
    """An exception that is left to grpc after set_code gives the code that was set, as it does without us."""

    def step(context: Any) -> Any:
        context.set_code(Code.ABORTED)
        context.set_details("said")
        raise ValueError("left")

    stub = world.stub({"step": step}, world.interceptor(Translator(on_unmapped="pass_through")))
    with pytest.raises(grpc.RpcError) as error:
        call(stub, shape, "step")
    assert error.value.code() is Code.ABORTED
    assert [outcome.how for outcome in world.recorder.wait()] == ["done"]


# Generators that fail while they are closed.


@pytest.mark.parametrize("shape", ["UnaryStream", "StreamStream"])
def test_a_generator_that_raises_while_it_is_closed(world: World, shape: str, caplog: pytest.LogCaptureFixture) -> None:
    """What a generator raises when its response cannot be sent is logged; the status is that of the response."""
    secret = "raised while it was closed"

    def behavior(_request: Any, _context: Any) -> Iterator[Any]:
        try:
            yield "nonsense"
        finally:
            raise ValueError(secret)

    async def aio_behavior(_request: Any, _context: Any) -> Any:
        try:
            yield "nonsense"
        finally:
            raise ValueError(secret)

    stub = world.stub(generic(aio_behavior if world.name == "aio" else behavior, shape))
    assert caught(stub, shape).reason == "RESPONSE_UNSERIALIZABLE"
    assert [outcome.code for outcome in world.recorder.wait()] == [Code.INTERNAL]
    if world.name != "sync-on-aio":  # there the generator is closed in its thread, after the status
        assert "a handler's generator raised while it was closed" in caplog.text


@pytest.mark.parametrize("shape", ["UnaryStream", "StreamStream"])
def test_a_caller_that_goes_while_a_generator_is_closed(world: World, shape: str) -> None:
    """The cancellation ends a close that takes its time; the exit that was decided before is what is recorded."""
    aio_only(world, "async generators")
    closing, closed = threading.Event(), threading.Event()

    async def behavior(_request: Any, _context: Any) -> Any:
        try:
            yield "nonsense"
        finally:
            closing.set()
            try:
                await asyncio.sleep(30)
            finally:
                closed.set()

    stub = world.stub(generic(behavior, shape))
    stream = getattr(stub, shape)(pb.Request() if shape == "UnaryStream" else iter([pb.Request()]), timeout=20)
    assert closing.wait(5)
    stream.cancel()
    assert closed.wait(5)
    assert [outcome.code for outcome in world.recorder.wait()] == [Code.INTERNAL]


@pytest.mark.parametrize("shape", ["UnaryStream", "StreamStream"])
def test_a_plain_function_that_raises_stop_iteration(world: World, shape: str) -> None:
    """Not taken for the end of a stream: no iterator was there yet."""

    def behavior(_request: Any, _context: Any) -> Any:
        raise StopIteration

    error = caught(world.stub(generic(behavior, shape)), shape)
    assert (error.code(), error.message) == (Code.INTERNAL, "Internal error.")


# Callers that go.


def test_a_handler_that_outlasts_its_deadline(world: World) -> None:
    """A handler that returns after the deadline is recorded as late, though grpc could not cancel it."""
    aio_only(world, "handlers that block the event loop")

    async def behavior(_request: Any, context: Any) -> Any:
        while context.time_remaining() > 0:
            time.sleep(0.01)  # noqa: ASYNC251  # it blocks the loop, so that no cancellation gets in between
        time.sleep(0.2)  # noqa: ASYNC251  # the caller's clock may be behind, and would let the answer pass
        return pb.Response()

    stub = world.stub(generic(behavior, "UnaryUnary"))
    with pytest.raises(grpc.RpcError) as error:
        stub.UnaryUnary(pb.Request(), timeout=0.2)
    assert error.value.code() is Code.DEADLINE_EXCEEDED
    [outcome] = world.recorder.wait()
    assert (outcome.code, outcome.how) == (Code.DEADLINE_EXCEEDED, "cancelled")


@pytest.mark.parametrize("shape", ["UnaryStream", "StreamStream"])
def test_a_handler_that_swallows_its_cancellation(world: World, shape: str) -> None:
    """It returns as if all were well; what is recorded, once, is that its caller had gone."""
    aio_only(world, "tasks")
    entered, left = threading.Event(), threading.Event()

    async def behavior(_request: Any, context: Any) -> None:
        await context.write(pb.Response(number=1))
        entered.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            left.set()

    stub = world.stub(generic(behavior, shape))
    stream = getattr(stub, shape)(pb.Request() if shape == "UnaryStream" else iter([pb.Request()]), timeout=20)
    assert entered.wait(5)
    stream.cancel()
    assert left.wait(5)
    [outcome] = world.recorder.wait()
    assert (outcome.code, outcome.how) == (Code.CANCELLED, "cancelled")


def test_callers_that_go_while_they_are_read(world: World) -> None:
    """A handler that waits for a request when its caller cancels is recorded as cancelled, not as done or failed.

    To grpc the stream has ended a moment before it was cancelled, so that a handler may still have taken half a stream
    for the whole; in grpc.aio every one of them would.
    """
    reading, over = threading.Event(), threading.Event()

    def behavior(request_iterator: Any, _context: Any) -> Any:
        for _ in request_iterator:
            reading.set()
        return pb.Response()

    async def aio_behavior(request_iterator: Any, _context: Any) -> Any:
        async for _ in request_iterator:
            reading.set()
        return pb.Response()

    def requests() -> Iterator[pb.Request]:
        yield pb.Request()
        over.wait(10)

    stub = world.stub(generic(aio_behavior if world.name == "aio" else behavior, "StreamUnary"))
    for _ in range(10):
        reading.clear()
        running = stub.StreamUnary.future(requests(), timeout=20)
        assert reading.wait(5)
        running.cancel()
    outcomes = [(outcome.code, outcome.how) for outcome in world.recorder.wait(10)]
    over.set()
    assert set(outcomes) <= {(Code.CANCELLED, "cancelled"), (Code.OK, "done")}
    assert outcomes.count((Code.CANCELLED, "cancelled")) >= 3


def test_a_caller_that_goes_before_a_non_blocking_behavior_begins(world: World) -> None:
    """A call that waited for a thread until its caller had gone is recorded, though it may never say that it ends."""
    if world.aio:
        pytest.skip("grpc.aio does not know experimental_non_blocking")
    entered, opened, begun = threading.Event(), threading.Event(), threading.Event()

    def busy(_requests: Any, _context: Any) -> Iterator[Any]:
        entered.set()
        opened.wait(10)
        yield from ()

    def never_sends(_requests: Any, _context: Any, _send_response: Any) -> None:
        begun.set()

    never_sends.experimental_non_blocking = True  # type: ignore[attr-defined]  # grpc looks for it on the function
    both = [generic(busy, "UnaryStream"), generic(never_sends, "StreamStream")]
    stub = world.stub(both, max_workers=1)
    first = stub.UnaryStream(pb.Request(), timeout=20)
    try:
        assert entered.wait(5)
        second = stub.StreamStream(iter([]), timeout=20)
        # The server has the call once it has been asked for its handler; then it waits for the thread.
        queued = stub.StreamStream(iter([]), timeout=0.3)
        with pytest.raises(grpc.RpcError):
            next(queued)
        second.cancel()
    finally:
        opened.set()
    assert list(first) == []
    outcomes = world.recorder.wait(3)
    assert begun.wait(5)
    assert {outcome.code for outcome in outcomes} <= {Code.OK, Code.CANCELLED, Code.DEADLINE_EXCEEDED}
    assert len(outcomes) == 3


# What plain handlers find in the context of an aio server.


def sync_on_aio(world: World) -> None:
    if world.name != "sync-on-aio":
        pytest.skip("about plain handlers on an aio server")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_plain_handler_that_cancels(world: World, shape: str) -> None:
    """`cancel` of a plain handler on an aio server ends its RPC with CANCELLED once it leaves."""
    sync_on_aio(world)
    seen: list[bool] = []

    def step(context: Any) -> Any:
        context.cancel()
        seen.append(context.is_active())
        seen.append(context.add_callback(lambda: None))

    stub = world.stub({"step": step})
    with pytest.raises(grpc.RpcError) as error:
        call(stub, shape, "step")
    assert error.value.code() is Code.CANCELLED
    assert seen == [False, False]


def test_a_plain_handler_that_reads_after_its_call_ended(world: World) -> None:
    """Requests of a call that has ended are refused with grpc's own error, and the thread comes back."""
    sync_on_aio(world)
    seen: list[type[BaseException]] = []

    def behavior(request_iterator: Any, context: Any) -> Any:
        context.cancel()
        try:
            next(request_iterator)
        except BaseException as error:
            seen.append(type(error))
            raise
        return pb.Response()

    stub = world.stub(generic(behavior, "StreamUnary"))
    assert caught(stub, "StreamUnary").code() is Code.CANCELLED
    assert seen == [grpc.RpcError]


# Odd words of a handler.


def garbage(context: Any) -> Any:
    return context.abort_with_status(Status(Code.NOT_FOUND, "missing", (("grpc-status-details-bin", b"\xff"),)))


class Status(grpc.Status):
    def __init__(self, code: Any, details: str, trailing_metadata: Any) -> None:
        self.code, self.details, self.trailing_metadata = code, details, trailing_metadata


@pytest.mark.parametrize("shape", SHAPES)
def test_details_of_an_abort_that_cannot_be_read(world: World, shape: str) -> None:
    """Garbage in the place of a google.rpc.Status does not leave; code and message do."""
    error = caught(world.stub({"step": garbage}), shape, "step")
    assert (error.code(), error.message, error.anomalies) == (Code.NOT_FOUND, "missing", ())


def test_requests_have_the_name_that_grpcs_have(world: World) -> None:
    """grpc's own iterator of requests has a method `next` in sync."""
    if world.name != "sync":
        pytest.skip("grpc.aio's iterators have none")

    def behavior(request_iterator: Any, _context: Any) -> Any:
        return pb.Response(payload=request_iterator.next().payload)

    [response] = call(world.stub(generic(behavior, "StreamUnary")), "StreamUnary", "", payload=b"x")
    assert response.payload == b"x"


def test_writes_that_are_cancelled_with_their_task(world: World) -> None:
    """A write that its own task gives up goes on beneath, and the RPC ends with the handler's status."""
    aio_only(world, "tasks")

    async def behavior(_request: Any, context: Any) -> None:
        try:
            async with asyncio.timeout(0):
                await context.write(pb.Response(payload=b"x" * 100_000))
        except TimeoutError:
            raise NotFound("too slow") from None

    stub = world.stub(generic(behavior, "UnaryStream"))
    assert caught(stub, "UnaryStream").message == "too slow"

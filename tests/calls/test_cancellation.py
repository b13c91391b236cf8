"""A caller that goes, or whose deadline passes, is recorded as such, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from worlds import SHAPES, World, call

from faultwire.testing.v1 import scripted_pb2 as pb
from grpc_faultwire import NotFound


class Gate:
    """A step that waits until its caller has gone, or the test ends."""

    def __init__(self, aio: bool) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()
        self.aio = aio

    def __call__(self, context: Any) -> Any:
        self.entered.set()
        if self.aio:
            return asyncio.sleep(30)
        while context.is_active() and not self.opened.wait(0.01):
            pass
        return None


@pytest.fixture
def gate(world: World) -> Iterator[Gate]:
    gate = Gate(world.name == "aio")
    yield gate
    gate.opened.set()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_callers_that_go(world: World, gate: Gate, shape: str, how: str) -> None:
    """One record with CANCELLED or DEADLINE_EXCEEDED, in all shapes."""
    stub = world.stub({"gate": gate, "ok": lambda _context: None})
    request = pb.Request(step="gate", count=1)
    method = getattr(stub, shape)
    timeout = 0.5 if how == "deadline" else 20
    argument = iter([request]) if shape.startswith("Stream") else request
    running = (
        method(argument, timeout=timeout) if shape.endswith("Stream") else method.future(argument, timeout=timeout)
    )
    assert gate.entered.wait(5)
    if how == "cancel":
        running.cancel()
    [outcome] = world.recorder.wait()
    expected = grpc.StatusCode.CANCELLED if how == "cancel" else grpc.StatusCode.DEADLINE_EXCEEDED
    assert outcome.code is expected
    assert outcome.how == "cancelled"
    assert call(stub, shape, "ok", count=1)


@pytest.mark.parametrize("shape", ["UnaryStream", "StreamStream"])
def test_callers_that_stop_reading(world: World, shape: str) -> None:
    """A stream whose caller leaves in the middle closes the handler's generator, and is recorded once."""
    closed = threading.Event()

    class Servicer:
        pass

    def endless(context: Any) -> Iterator[pb.Response]:
        try:
            while True:
                yield pb.Response(payload=b"x" * 1000)
        finally:
            closed.set()

    async def aio_endless(context: Any) -> Any:
        try:
            while True:
                yield pb.Response(payload=b"x" * 1000)
        finally:
            closed.set()

    from test_flavours import generic

    if world.name == "aio":

        async def behavior(request: Any, context: Any) -> Any:
            async for response in aio_endless(context):
                yield response
    else:

        def behavior(request: Any, context: Any) -> Any:
            yield from endless(context)

    stub = world.stub(generic(behavior, shape))
    stream = getattr(stub, shape)(iter([pb.Request()]) if shape == "StreamStream" else pb.Request(), timeout=20)
    next(stream)
    stream.cancel()
    [outcome] = world.recorder.wait()
    assert outcome.code is grpc.StatusCode.CANCELLED
    deadline = time.monotonic() + 5
    while not closed.wait(0.05) and time.monotonic() < deadline:
        world.recorder.wait(2, timeout=0.05)
    assert closed.is_set()


def test_threads_of_an_aio_server_come_back(world: World) -> None:
    """More cancelled generators than the pool has threads: the pool still serves (grpc/grpc#25327)."""
    if world.name != "sync-on-aio":
        pytest.skip("about plain generators on an aio server")
    from concurrent.futures import ThreadPoolExecutor

    from test_flavours import generic

    def behavior(request: Any, context: Any) -> Any:
        while context.is_active():
            yield pb.Response(number=1)

    with ThreadPoolExecutor(2) as pool:
        interceptor = world.interceptor(migration_thread_pool=pool)
        stub = world.stub(generic(behavior, "UnaryStream"), interceptor)
        for _ in range(6):
            stream = stub.UnaryStream(pb.Request(), timeout=20)
            next(stream)
            stream.cancel()
        world.recorder.wait(6)
        stream = stub.UnaryStream(pb.Request(), timeout=5)
        assert next(stream).number == 1
        stream.cancel()
        world.recorder.wait(7)


def test_an_error_while_another_task_writes(world: World) -> None:
    """An abort while another task's write is under way still ends the RPC; in plain grpc.aio it hangs."""
    if world.name != "aio":
        pytest.skip("about tasks")
    from test_flavours import generic

    async def behavior(request: Any, context: Any) -> None:
        async def write() -> None:
            for _ in range(50):
                await context.write(pb.Response(payload=b"x" * 100_000))

        task = asyncio.ensure_future(write())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        try:
            raise NotFound("missing")
        finally:
            task.cancel()

    stub = world.stub(generic(behavior, "UnaryStream"))
    for _ in range(10):
        with pytest.raises(grpc.RpcError) as error:
            list(stub.UnaryStream(pb.Request(), timeout=5))
        assert error.value.code() is grpc.StatusCode.NOT_FOUND

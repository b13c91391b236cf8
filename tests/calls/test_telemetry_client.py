"""The truth table of callers: each outcome is one count and one CLIENT span, under the right code and category."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grpc
import pytest
from opentelemetry.instrumentation.grpc import aio_client_interceptors, client_interceptor, grpcext
from telemetry_lab import ARRANGEMENTS, Telemetry, counted, difference, told
from worlds import SHAPES

from faultwire.testing.v1 import scripted_pb2 as pb
from faultwire.testing.v1 import scripted_pb2_grpc
from grpc_faultwire import NotFound, aio, sync
from grpc_faultwire.testing import ScriptedServicer, serve

Code = grpc.StatusCode


class Waiting:
    """A step that waits until its caller has gone, or the test ends."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.opened = threading.Event()

    def __call__(self, context: Any) -> None:
        self.entered.release()
        while context.is_active() and not self.opened.wait(0.01):
            pass


def raising(exception: Exception) -> Callable[[Any], Any]:
    def step(_context: Any) -> Any:
        raise exception

    return step


class Row(NamedTuple):
    step: Callable[[Any], Any] | None
    code: Code
    category: str | None


ROWS = {
    "ok": Row(lambda _context: None, Code.OK, None),
    "abort_not_found": Row(lambda context: context.abort(Code.NOT_FOUND, "no"), Code.NOT_FOUND, "not_found"),
    "abort_internal": Row(lambda context: context.abort(Code.INTERNAL, "no"), Code.INTERNAL, "internal"),
    "rich_error": Row(raising(NotFound("no", reason="NO_BOOK")), Code.NOT_FOUND, "not_found"),
    "set_code": Row(
        lambda context: context.set_code(Code.FAILED_PRECONDITION), Code.FAILED_PRECONDITION, "precondition"
    ),
    "raise": Row(raising(ValueError("secret")), Code.INTERNAL, "internal"),
    "cancel": Row(None, Code.CANCELLED, "cancelled"),
    "deadline": Row(None, Code.DEADLINE_EXCEEDED, "timeout"),
    "unknown": Row(None, Code.UNIMPLEMENTED, "unimplemented"),
    "refused": Row(None, Code.UNAVAILABLE, "transport"),
}


class Client:
    """A caller in one of the worlds, with OpenTelemetry's instrumentation outside, inside, or not there.

    "inside" means that ours is inside theirs.
    """

    def __init__(self, telemetry: Telemetry, arrangement: str, shape: str, gate: Waiting) -> None:
        self.telemetry = telemetry
        self.arrangement = arrangement
        self.shape = shape
        self.gate = gate

    def argument(self, name: str) -> Any:
        request = pb.Request(step=name, count=1)
        return iter([request]) if self.shape.startswith("Stream") else request

    def unknown(self, channel: Any) -> Any:
        make = {
            "UnaryUnary": channel.unary_unary,
            "UnaryStream": channel.unary_stream,
            "StreamUnary": channel.stream_unary,
            "StreamStream": channel.stream_stream,
        }[self.shape]
        return make(f"/nowhere.v1.Nothing/{self.shape}", pb.Request.SerializeToString, pb.Response.FromString)


class SyncClient(Client):
    def bring_about(self, name: str, address: str) -> None:
        with self._channel(address) as channel:
            method = self.unknown(channel) if name == "unknown" else getattr(_stub(channel), self.shape)
            timeout = 0.15 if name == "deadline" else 5
            with contextlib.suppress(grpc.RpcError, grpc.FutureCancelledError):
                if name == "cancel":
                    self._cancel(method)
                else:
                    answer = method(self.argument(name), timeout=timeout)
                    if self.shape.endswith("Stream"):
                        list(answer)

    def _cancel(self, method: Any) -> None:
        stream = self.shape.endswith("Stream")
        running = (method if stream else method.future)(self.argument("cancel"), timeout=20)
        if stream:
            next(running)
        assert self.gate.entered.acquire(timeout=5)
        # OpenTelemetry's instrumentation gives a bare generator for a unary-stream call.
        (running.cancel if hasattr(running, "cancel") else running.close)()

    def _channel(self, address: str) -> Any:
        theirs = client_interceptor(tracer_provider=self.telemetry.provider)
        channel = grpc.insecure_channel(address)
        if self.arrangement == "outside":
            channel = grpcext.intercept_channel(channel, theirs)
        channel = sync.wrap_channel(channel, observers=self.telemetry.observers, target=address)
        return grpcext.intercept_channel(channel, theirs) if self.arrangement == "inside" else channel


class AioClient(Client):
    def bring_about(self, name: str, address: str) -> None:
        asyncio.run(self._bring_about(name, address))

    async def _bring_about(self, name: str, address: str) -> None:
        async with self._channel(address) as channel:
            method = self.unknown(channel) if name == "unknown" else getattr(_stub(channel), self.shape)
            timeout = 0.15 if name == "deadline" else 5
            with contextlib.suppress(grpc.RpcError, asyncio.CancelledError):
                running = method(self.argument(name), timeout=timeout)
                if name == "cancel":
                    await self._cancel(running)
                elif self.shape.endswith("Stream"):
                    [response async for response in running]
                else:
                    await running

    async def _cancel(self, running: Any) -> None:
        stream = self.shape.endswith("Stream")
        if stream:
            # Only a reader sees a stream's end through grpc.aio's interceptors.
            await anext(aiter(running))
        else:
            waiting = asyncio.ensure_future(_await(running))
        await asyncio.to_thread(self.gate.entered.acquire, timeout=5)
        running.cancel()
        if stream:
            await running.code()
        else:
            await asyncio.wait([waiting])

    def _channel(self, address: str) -> Any:
        theirs = aio_client_interceptors(tracer_provider=self.telemetry.provider)
        observers = self.telemetry.observers
        if self.arrangement == "inside":
            ours = aio.client_interceptors(observers=observers, target=address)
            return grpc.aio.insecure_channel(address, interceptors=[*theirs, *ours])
        channel = grpc.aio.insecure_channel(address, interceptors=theirs if self.arrangement == "outside" else None)
        return aio.wrap_channel(channel, observers=observers, target=address)


async def _await(call: Any) -> Any:
    with contextlib.suppress(grpc.RpcError, asyncio.CancelledError):
        return await call


def _stub(channel: Any) -> Any:
    return scripted_pb2_grpc.ScriptedStub(channel)


@pytest.fixture
def gate() -> Iterator[Waiting]:
    waiting = Waiting()
    yield waiting
    waiting.opened.set()


@pytest.fixture
def address(gate: Waiting) -> Iterator[str]:
    steps = {name: row.step for name, row in ROWS.items() if row.step} | {"cancel": gate, "deadline": gate}
    with serve([ScriptedServicer(steps)], [sync.ServerInterceptor()]) as server:
        yield server.address
        gate.opened.set()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("world", [SyncClient, AioClient], ids=["sync", "aio"])
def test_truth_table(
    world: type[SyncClient | AioClient], arrangement: str, shape: str, gate: Waiting, address: str
) -> None:
    """Ten outcomes: one count and one CLIENT span each, with the right code, category and status."""
    telemetry = Telemetry()
    client = world(telemetry, arrangement, shape, gate)
    wrong, seen = {}, 0
    for name, row in ROWS.items():
        before = telemetry.settled("client", shape)
        client.bring_about(name, "127.0.0.1:1" if name == "refused" else address)
        counts = difference(before, telemetry.settled("client", shape))
        status = "UNSET" if row.code is Code.OK else "ERROR"
        told_of = [("CLIENT", row.code.value[0], status, row.category)]
        spans = [told(span) for span in telemetry.spans.wait(seen + len(told_of), timeout=2)[seen:]]
        seen += len(spans)
        expected = counted(row.code, row.category), told_of
        if (counts, spans) != expected:
            wrong[name] = (counts, spans)
    assert not wrong
    assert telemetry.total("grpc_client_started_total") == telemetry.total("grpc_client_handled_total") == len(ROWS)
    assert telemetry.total("grpc_client_attempts_total") == len(ROWS)
    assert telemetry.total("grpc_client_in_flight") == 0

"""The rest of the truth table: calls that policies have a hand in, or that nobody waits for, are one record too."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import grpc
import pytest
from opentelemetry.instrumentation.grpc import aio_client_interceptors, client_interceptor, grpcext
from telemetry_lab import ARRANGEMENTS, Telemetry, counted, difference, told

from faultwire.testing.v1 import scripted_pb2 as pb
from faultwire.testing.v1 import scripted_pb2_grpc
from grpc_faultwire import Unavailable, aio, fallback, sync
from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.policies import BreakerPolicy, HedgePolicy, RetryPolicy
from grpc_faultwire.testing import ScriptedServicer, serve

Code = grpc.StatusCode
NONE = ClientPolicy(retry=None, breaker=None, budget=None)
RETRY = ClientPolicy(
    retry=RetryPolicy(
        max_attempts=3, initial_backoff=0.001, max_backoff=0.002, retryable_codes=frozenset({"UNAVAILABLE"})
    )
)


class Row(NamedTuple):
    """How a call is made, and what is recorded of the last one.

    Attributes:
        step: the server's.
        policy: the caller's.
        code: how it ends.
        category: of its error.
        attempts: counted, in all calls of the row.
        way: wait, future (never waited for, in aio), drop (a stream).
        before: calls that go before.
    """

    step: str
    policy: ClientPolicy
    code: Code
    category: str | None
    attempts: int
    way: str = "wait"
    before: int = 0


ROWS = {
    "retried_then_ok": Row("flaky", RETRY, Code.OK, None, 3),
    "exhausted": Row("down", RETRY, Code.UNAVAILABLE, "overload", 3),
    "open_circuit": Row(
        "down",
        ClientPolicy(retry=None, breaker=BreakerPolicy(minimum_calls=3, open_duration=30, max_open_duration=30)),
        Code.UNAVAILABLE,
        "overload",
        3,
        before=3,
    ),
    "hedged": Row("slow_first", ClientPolicy(hedge=HedgePolicy(delay=0.02), idempotent=True), Code.OK, None, 2),
    "fallback": Row("down", ClientPolicy(retry=None, fallbacks=[fallback.value(pb.Response())]), Code.OK, None, 1),
    "future": Row("ok", NONE, Code.OK, None, 1, way="future"),
    "failed_future": Row("down", NONE, Code.UNAVAILABLE, "overload", 1, way="future"),
    "abandoned_stream": Row("held", NONE, Code.CANCELLED, "cancelled", 1, way="drop"),
}

KEPT = Row("held", NONE, Code.DEADLINE_EXCEEDED, "timeout", 1, way="drop")
"""A stream that is dropped behind interceptors of grpc.aio: grpc itself holds it, and it goes on to its deadline."""


class Steps:
    """What the server does."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.entered = threading.Event()
        self.left = threading.Event()
        self.calls = 0

    def table(self) -> dict[str, Callable[[Any], Any]]:
        return {
            "ok": lambda _context: None,
            "down": self.down,
            "flaky": self.flaky,
            "slow_first": self.slow_first,
            "held": self.held,
        }

    def down(self, _context: Any) -> None:
        raise Unavailable("down")

    def flaky(self, _context: Any) -> None:
        self.calls += 1
        if self.calls < 3:
            raise Unavailable("not yet")

    def slow_first(self, context: Any) -> None:
        self.calls += 1
        if self.calls == 1:
            self.held(context)

    def held(self, context: Any) -> None:
        self.entered.set()
        while context.is_active() and not self.over.wait(0.01):
            pass
        self.left.set()


class SyncCaller:
    """Makes a row's calls through a channel with OpenTelemetry's instrumentation outside, inside, or not there."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry

    def run(self, address: str, arrangement: str, row: Row, ready: Callable[[], None]) -> None:
        with self._channel(address, arrangement, row.policy) as channel:
            stub = scripted_pb2_grpc.ScriptedStub(channel)
            for _ in range(row.before):
                self._call(stub, row, "wait")
            ready()
            self._call(stub, row, row.way)

    def _call(self, stub: Any, row: Row, way: str) -> None:
        request = pb.Request(step=row.step, count=1)
        if way == "drop":
            stream = stub.UnaryStream(request, timeout=5)
            next(stream)
            del stream
            gc.collect()
            self.telemetry.spans.wait(1)
        elif way == "future":
            over = threading.Event()
            stub.UnaryUnary.future(request, timeout=5).add_done_callback(lambda _: over.set())
            assert over.wait(5)
        else:
            with contextlib.suppress(grpc.RpcError):
                stub.UnaryUnary(request, timeout=5)

    def _channel(self, address: str, arrangement: str, policy: ClientPolicy) -> Any:
        theirs = client_interceptor(tracer_provider=self.telemetry.provider)
        channel = grpc.insecure_channel(address)
        if arrangement in ("outside", "theirs"):
            channel = grpcext.intercept_channel(channel, theirs)
        if arrangement != "theirs":
            channel = sync.wrap_channel(channel, policy, observers=self.telemetry.observers, target="lab")
        return grpcext.intercept_channel(channel, theirs) if arrangement == "inside" else channel


class AioCaller:
    """The same."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry

    def run(self, address: str, arrangement: str, row: Row, ready: Callable[[], None]) -> None:
        asyncio.run(self._run(address, arrangement, row, ready))

    async def _run(self, address: str, arrangement: str, row: Row, ready: Callable[[], None]) -> None:
        async with self._channel(address, arrangement, row.policy) as channel:
            stub = scripted_pb2_grpc.ScriptedStub(channel)
            for _ in range(row.before):
                await self._call(stub, row, "wait")
            ready()
            await self._call(stub, row, row.way)

    async def _call(self, stub: Any, row: Row, way: str) -> None:
        request = pb.Request(step=row.step, count=1)
        if way == "drop":
            stream = stub.UnaryStream(request, timeout=0.5)
            await anext(aiter(stream))
            del stream
            while not self.telemetry.spans.ended:
                gc.collect()
                await asyncio.sleep(0.05)
        elif way == "future":
            # Never awaited, and nobody holds it.
            stub.UnaryUnary(request, timeout=5)
            await asyncio.to_thread(self.telemetry.spans.wait, 1)
        else:
            with contextlib.suppress(grpc.RpcError):
                await stub.UnaryUnary(request, timeout=5)

    def _channel(self, address: str, arrangement: str, policy: ClientPolicy) -> Any:
        theirs = aio_client_interceptors(tracer_provider=self.telemetry.provider)
        observers = self.telemetry.observers
        if arrangement == "inside":
            ours = aio.client_interceptors(policy, observers=observers, target="lab")
            return grpc.aio.insecure_channel(address, interceptors=[*theirs, *ours])
        channel = grpc.aio.insecure_channel(address, interceptors=None if arrangement == "alone" else theirs)
        return (
            channel if arrangement == "theirs" else aio.wrap_channel(channel, policy, observers=observers, target="lab")
        )


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
def address(steps: Steps) -> Iterator[str]:
    with serve([ScriptedServicer(steps.table())], [sync.ServerInterceptor()]) as server:
        yield server.address
        steps.over.set()


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("world", [SyncCaller, AioCaller], ids=["sync", "aio"])
def test_rows(world: type[SyncCaller | AioCaller], arrangement: str, steps: Steps, address: str) -> None:
    """Retried, exhausted, refused, hedged, recovered, never waited for, dropped: one count and one CLIENT span each."""
    wrong = {}
    rows = ROWS | ({"abandoned_stream": KEPT} if (world, arrangement) == (AioCaller, "inside") else {})
    for name, row in rows.items():
        telemetry, steps.calls = Telemetry(), 0
        before: dict[str, float] = {}
        ready = partial(_note, telemetry, _method(row), before)
        world(telemetry).run(address, arrangement, row, ready)
        counts = difference(before, telemetry.settled("client", _method(row)))
        spans = [told(span) for span in telemetry.spans.wait(row.before + 1)[row.before :]]
        status = "UNSET" if row.code is Code.OK else "ERROR"
        expected = ("CLIENT", row.code.value[0], status, row.category)
        attempts, in_flight = telemetry.total("grpc_client_attempts_total"), telemetry.total("grpc_client_in_flight")
        if (counts, spans, attempts, in_flight) != (counted(row.code, row.category), [expected], row.attempts, 0):
            wrong[name] = (counts, spans, attempts, in_flight)
    assert not wrong


def test_grpc_itself_keeps_dropped_streams(address: str) -> None:
    """OpenTelemetry's instrumentation for grpc.aio alone calls the same stream OK."""
    telemetry = Telemetry()
    AioCaller(telemetry).run(address, "theirs", KEPT, lambda: None)
    [span] = telemetry.spans.wait(1)
    assert (span.attributes or {})["rpc.grpc.status_code"] == 0


def test_cancelled_behind_interceptors(steps: Steps, address: str) -> None:
    """A call of grpc.aio that is cancelled behind interceptors is cancelled at its server, and recorded, at once."""
    telemetry = Telemetry()

    async def run() -> None:
        async with AioCaller(telemetry)._channel(address, "inside", NONE) as channel:
            call = scripted_pb2_grpc.ScriptedStub(channel).UnaryUnary(pb.Request(step="held"), timeout=5)
            await asyncio.to_thread(steps.entered.wait, 5)
            call.cancel()
            assert await asyncio.to_thread(steps.left.wait, 2)
            [span] = telemetry.spans.ended
            assert told(span) == ("CLIENT", 1, "ERROR", "cancelled")

    asyncio.run(run())


def _note(telemetry: Telemetry, method: str, counts: dict[str, float]) -> None:
    counts.update(telemetry.settled("client", method))


def _method(row: Row) -> str:
    return "UnaryStream" if row.way == "drop" else "UnaryUnary"

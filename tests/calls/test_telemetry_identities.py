"""Accounting identities: whatever callers do, and however many at once, the counts agree with each other."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from telemetry_lab import Telemetry
from worlds import SHAPES, World

from faultwire.testing.v1 import scripted_pb2 as pb
from faultwire.testing.v1 import scripted_pb2_grpc
from grpc_faultwire import Internal, InvalidArgument, NotFound, Unavailable, aio, sync
from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.observers.names import GO_CODES
from grpc_faultwire.policies import BreakerPolicy, HedgePolicy, RetryPolicy

ERRORS = {
    "ok": None,
    "not_found": NotFound,
    "invalid": InvalidArgument,
    "internal": Internal,
    "unavailable": Unavailable,
}
POLICY = ClientPolicy(
    retry=RetryPolicy(
        max_attempts=3, initial_backoff=0.001, max_backoff=0.002, retryable_codes=frozenset({"UNAVAILABLE"})
    ),
    breaker=BreakerPolicy(minimum_calls=10, open_duration=0.01, max_open_duration=0.02),
)
HEDGES = ClientPolicy(hedge=HedgePolicy(delay=0), idempotent=True)
"""Hedges at once, as long as its budget lasts."""
WAYS = ("wait", "future", "drop", "cancel", "deadline", "unknown", "hedge")


def step(name: str) -> Any:
    def run(context: Any) -> None:
        error = ERRORS[name]
        if error is not None:
            raise error("x")

    return run


class Counts:
    """What came back to callers.

    Attributes:
        made: calls.
        codes: what those saw that waited.
    """

    def __init__(self) -> None:
        self.made = 0
        self.codes: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, code: grpc.StatusCode, way: str) -> None:
        with self._lock:
            self.made += 1
            if way != "drop":
                self.codes[code.name] += 1


class Callers:
    """Make calls in many ways."""

    def __init__(self, counts: Counts, channel: Any, hedging: Any) -> None:
        self.stub = scripted_pb2_grpc.ScriptedStub(channel)
        self.hedging = scripted_pb2_grpc.ScriptedStub(hedging)
        self.unknown = channel.unary_unary("/nowhere.v1.Nothing/None", lambda _: b"", lambda _: None)
        self.counts = counts

    def make(self, shape: str, name: str, way: str) -> None:
        code = None
        try:
            self._make(shape, name, way)
            code = grpc.StatusCode.OK
        except grpc.FutureCancelledError:
            code = grpc.StatusCode.CANCELLED
        except grpc.RpcError as error:
            code = error.code()
        self.counts.add(code, way)

    def _make(self, shape: str, name: str, way: str) -> None:
        if way == "unknown":
            self.unknown(None, timeout=5)
            return
        request = pb.Request(step=name, count=2)
        if way == "hedge":
            self.hedging.UnaryUnary(request, timeout=5)
            return
        argument = iter([request]) if shape.startswith("Stream") else request
        method = getattr(self.stub, shape)
        timeout = 1e-6 if way == "deadline" else 5
        if shape.endswith("Stream"):
            running = method(argument, timeout=timeout)
            if way == "cancel":
                running.cancel()
            if way != "drop":
                list(running)
        elif way in ("wait", "deadline"):
            method(argument, timeout=timeout)
        else:
            running = method.future(argument, timeout=timeout)
            if way == "cancel":
                running.cancel()
            if way != "drop":
                running.result()


class AioCallers:
    """The same, in grpc.aio."""

    def __init__(self, counts: Counts, channel: Any, hedging: Any) -> None:
        self.stub = scripted_pb2_grpc.ScriptedStub(channel)
        self.hedging = scripted_pb2_grpc.ScriptedStub(hedging)
        self.unknown = channel.unary_unary("/nowhere.v1.Nothing/None", lambda _: b"", lambda _: None)
        self.counts = counts

    async def make(self, shape: str, name: str, way: str) -> None:
        code = grpc.StatusCode.OK
        try:
            await self._make(shape, name, way)
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
        except grpc.RpcError as error:
            code = error.code()
        self.counts.add(code, way)

    async def _make(self, shape: str, name: str, way: str) -> None:
        request = pb.Request(step=name, count=2)
        if way in ("unknown", "hedge"):
            await (self.unknown(None, timeout=5) if way == "unknown" else self.hedging.UnaryUnary(request, timeout=5))
            return
        argument = iter([request]) if shape.startswith("Stream") else request
        running = getattr(self.stub, shape)(argument, timeout=1e-6 if way == "deadline" else 5)
        if way == "cancel":
            running.cancel()
        if way == "drop":
            return
        if shape.endswith("Stream"):
            [response async for response in running]
        elif way == "future":
            await asyncio.ensure_future(_awaited(running))
        else:
            await running


async def _awaited(call: Any) -> Any:
    return await call


CALLS = st.lists(
    st.tuples(st.sampled_from(SHAPES), st.sampled_from(sorted(ERRORS)), st.sampled_from(WAYS)), min_size=1, max_size=30
)


class House:
    """A server and channels with policies, observed; what they counted must agree."""

    def __init__(self, world: World) -> None:
        self.telemetry = Telemetry(tracing="off")
        ours = world.interceptor(observers=[*self.telemetry.observers, world.recorder])
        self.address = world.serve({name: step(name) for name in ERRORS}, ours)
        self.counts = Counts()
        channels = (
            sync.wrap_channel(world.channel(self.address), policy, observers=self.telemetry.observers)
            for policy in (POLICY, HEDGES)
        )
        self.callers = Callers(self.counts, *channels)

    def run(self, calls: list[tuple[str, str, str]], threads: int = 8) -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda one: self.callers.make(*one), calls))
        self.agree()

    def run_aio(self, calls: list[tuple[str, str, str]], tasks: int = 8) -> None:
        asyncio.run(self._run_aio(calls, tasks))
        self.agree()

    async def _run_aio(self, calls: list[tuple[str, str, str]], tasks: int) -> None:
        observers = self.telemetry.observers
        async with (
            aio.wrap_channel(grpc.aio.insecure_channel(self.address), POLICY, observers=observers) as channel,
            aio.wrap_channel(grpc.aio.insecure_channel(self.address), HEDGES, observers=observers) as hedging,
        ):
            callers = AioCallers(self.counts, channel, hedging)
            for start in range(0, len(calls), tasks):
                await asyncio.gather(*(callers.make(*one) for one in calls[start : start + tasks]))

    def agree(self) -> None:
        # A call that its caller has left may still be on its way to the server.
        changed = threading.Event()
        for _ in range(500):
            if not self.wrong():
                return
            changed.wait(0.01)
        assert not self.wrong()

    def total(self, name: str, **labels: str) -> float:
        return self.telemetry.total(name, **labels)

    def wrong(self) -> list[str]:
        """Return the identities that do not hold, with their two sides."""
        found: list[tuple[str, float, float]] = []
        for side in ("server", "client"):
            started, handled = self.total(f"grpc_{side}_started_total"), self.total(f"grpc_{side}_handled_total")
            ok = self.total(f"grpc_{side}_handled_total", grpc_code="OK")
            found.append((f"{side}: started = handled + in flight", started, handled))
            found.append((f"{side}: in flight = 0", self.total(f"grpc_{side}_in_flight"), 0))
            found.append((f"{side}: errors = handled - OK", self.total(f"grpc_{side}_errors_total"), handled - ok))
            found.append((f"{side}: durations = handled", self.total(f"grpc_{side}_handling_seconds_count"), handled))
        made, attempts = self.counts.made, "grpc_client_attempts_total"
        first, retries = self.total(attempts, attempt="first"), self.total(attempts, attempt="retry")
        hedges = self.total("grpc_client_hedges_total", result="sent")
        refused = self.total("grpc_client_errors_total", reason="CIRCUIT_OPEN")
        found.append(("started = what the callers made", self.total("grpc_client_started_total"), made))
        found.append(("first attempts + refused = calls", first + refused, made))
        found.append(("attempts = first + retries + hedges", self.total(attempts), first + retries + hedges))
        for name, count in self.counts.codes.items():
            handled = self.total("grpc_client_handled_total", grpc_code=GO_CODES[name])
            # Calls that were dropped are counted too, and their callers saw nothing.
            found.append((f"callers saw {name}", min(handled, count), count))
        return [f"{what}: {one} != {other}" for what, one, other in found if one != other]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=CALLS)
def test_counts_agree(world: World, calls: list[tuple[str, str, str]]) -> None:
    """Any mix of calls, eight at a time: started = handled, errors = handled - OK, attempts = sent + retries."""
    house = world.__dict__.setdefault("house", None) or House(world)
    world.__dict__["house"] = house
    house.run(calls)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=CALLS)
def test_counts_agree_in_aio(world: World, calls: list[tuple[str, str, str]]) -> None:
    """The same for callers of grpc.aio."""
    house = world.__dict__.setdefault("house", None) or House(world)
    world.__dict__["house"] = house
    house.run_aio(calls)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_soak(world: World) -> None:
    """Ten thousand calls of every kind, half of them in each world, thirty-two at a time, keep the same identities."""
    import random

    dice = random.Random(20260823)
    house = House(world)
    for _ in range(10):
        calls = [(dice.choice(SHAPES), dice.choice(sorted(ERRORS)), dice.choice(WAYS)) for _ in range(500)]
        house.run(calls, threads=32)
        house.run_aio(calls, tasks=32)

"""Calls that policies have a hand in: one record for the call, one for each attempt, and what was decided."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import logging.handlers
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from telemetry_lab import Telemetry, told

from faultwire.testing.v1 import scripted_pb2 as pb
from faultwire.testing.v1 import scripted_pb2_grpc
from grpc_faultwire import Unavailable, aio, sync
from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.observers import LoggingObserver, OpenTelemetryObserver
from grpc_faultwire.policies import BreakerPolicy, HedgePolicy, RetryPolicy
from grpc_faultwire.state import PolicyState
from grpc_faultwire.testing import ScriptedServicer, serve

Code = grpc.StatusCode
RETRY = RetryPolicy(
    max_attempts=3, initial_backoff=0.001, max_backoff=0.002, retryable_codes=frozenset({"UNAVAILABLE"})
)


class Flaky:
    """A step that fails so many times, then succeeds."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = 0

    def __call__(self, _context: Any) -> None:
        self.calls += 1
        if self.calls <= self.failures:
            raise Unavailable("not yet")


Run = Callable[..., list[Code]]


@pytest.fixture(params=["sync", "aio"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Serve a step, call it so many times through one wrapped channel, and return the codes."""
    with contextlib.ExitStack() as stack:

        def run(step: Any, observers: list[Any], policy: ClientPolicy, *, times: int = 1, state: Any = None) -> Any:
            server = stack.enter_context(serve([ScriptedServicer({"step": step})], [sync.ServerInterceptor()]))
            settings = {"observers": observers, "target": "lab", "state": state}
            if request.param == "sync":
                return _sync(server.address, policy, settings, times)
            return asyncio.run(_aio(server.address, policy, settings, times))

        yield run


def _sync(address: str, policy: Any, settings: dict[str, Any], times: int) -> list[Code]:
    codes = []
    with sync.wrap_channel(grpc.insecure_channel(address), policy, **settings) as channel:
        stub = scripted_pb2_grpc.ScriptedStub(channel)
        for _ in range(times):
            try:
                stub.UnaryUnary(pb.Request(step="step"), timeout=5)
                codes.append(Code.OK)
            except grpc.RpcError as error:
                codes.append(error.code())
    return codes


async def _aio(address: str, policy: Any, settings: dict[str, Any], times: int) -> list[Code]:
    codes = []
    async with aio.wrap_channel(grpc.aio.insecure_channel(address), policy, **settings) as channel:
        stub = scripted_pb2_grpc.ScriptedStub(channel)
        for _ in range(times):
            try:
                await stub.UnaryUnary(pb.Request(step="step"), timeout=5)
                codes.append(Code.OK)
            except grpc.RpcError as error:
                codes.append(error.code())
    return codes


def events(span: Any) -> list[tuple[str, Any, Any]]:
    return [
        (event.name, event.attributes.get("faultwire.attempt"), event.attributes.get("faultwire.decision"))
        for event in span.events
    ]


def test_retried_then_ok(run: Run) -> None:
    """A call that succeeds at its third attempt is one OK and no error; its attempts are events and counts."""
    telemetry = Telemetry()
    assert run(Flaky(2), telemetry.observers, ClientPolicy(retry=RETRY)) == [Code.OK]
    [span] = telemetry.spans.wait(1)
    assert told(span) == ("CLIENT", 0, "UNSET", None)
    assert span.attributes["faultwire.attempts"] == 3
    assert events(span) == [
        ("faultwire.attempt", 1, None),
        ("faultwire.retry", 1, "retried"),
        ("faultwire.attempt", 2, None),
        ("faultwire.retry", 2, "retried"),
        ("faultwire.attempt", 3, None),
    ]
    total = telemetry.total
    assert total("grpc_client_handled_total", grpc_code="OK") == total("grpc_client_handled_total") == 1
    assert total("grpc_client_errors_total") == 0
    assert total("grpc_client_attempts_total", attempt="first", grpc_code="Unavailable") == 1
    assert total("grpc_client_attempts_total", attempt="retry", grpc_code="Unavailable") == 1
    assert total("grpc_client_attempts_total", attempt="retry", grpc_code="OK") == 1
    assert total("grpc_client_retry_decisions_total", decision="retried") == 2
    assert total("grpc_client_call_retries_sum") == 2
    assert total("grpc_client_retry_delay_seconds_count") == 2


def test_exhausted(run: Run) -> None:
    """A call whose attempts all fail is one error, and the last decision says why there was no other attempt."""
    telemetry = Telemetry()
    assert run(Flaky(9), telemetry.observers, ClientPolicy(retry=RETRY)) == [Code.UNAVAILABLE]
    [span] = telemetry.spans.wait(1)
    assert told(span) == ("CLIENT", 14, "ERROR", "overload")
    assert events(span)[-1] == ("faultwire.retry_stopped", 3, "max_attempts")
    assert telemetry.total("grpc_client_handled_total", grpc_code="Unavailable") == 1
    assert telemetry.total("grpc_client_errors_total", category="overload", origin="remote") == 1
    assert telemetry.total("grpc_client_attempts_total") == 3
    assert telemetry.total("grpc_client_retry_decisions_total", decision="max_attempts") == 1


def test_open_circuit(run: Run) -> None:
    """Refused calls are no attempts; their spans say CIRCUIT_OPEN and are linked to the one that opened the circuit."""
    telemetry = Telemetry()
    state = PolicyState()
    state.listen(telemetry.prometheus.on_transition)
    state.listen(telemetry.opentelemetry.on_transition)
    policy = ClientPolicy(retry=None, breaker=BreakerPolicy(minimum_calls=3, open_duration=30, max_open_duration=30))
    codes = run(Flaky(99), telemetry.observers, policy, times=5, state=state)
    assert codes == [Code.UNAVAILABLE] * 5
    spans = telemetry.spans.wait(5)
    assert [span.attributes["error.type"] for span in spans] == ["UNAVAILABLE"] * 3 + ["CIRCUIT_OPEN"] * 2
    assert "faultwire.circuit_transition" in [event.name for event in spans[2].events]
    for span in spans[3:]:
        assert [event.name for event in span.events] == ["faultwire.circuit_rejected"]
        assert [link.context.span_id for link in span.links] == [spans[2].get_span_context().span_id]
    total = telemetry.total
    breaker = "lab/faultwire.testing.v1.Scripted"
    assert total("grpc_client_started_total") == total("grpc_client_handled_total") == 5
    assert total("grpc_client_attempts_total") == 3
    assert total("grpc_client_circuit_rejections_total", breaker=breaker) == 2
    assert total("grpc_client_errors_total", reason="CIRCUIT_OPEN", origin="local") == 2
    assert total("grpc_client_circuit_calls_total", breaker=breaker, kind="failure") == 3
    assert total("grpc_client_circuit_transitions_total", from_state="closed", to_state="open") == 1
    assert total("grpc_client_circuit_state", breaker=breaker, state="open") == 1
    assert total("grpc_client_circuit_state", breaker=breaker, state="closed") == 0


def test_refused_hedge(run: Run) -> None:
    """A hedge that is due while the circuit is open is told of once, as refused, and is no attempt."""
    telemetry = Telemetry()
    state = PolicyState()
    refused = threading.Event()

    class Listener:
        def on_start(self, call: Any) -> None: ...

        def on_event(self, token: Any, event: Any) -> None:
            if event.name == "hedge":
                refused.set()

    def opening(_context: Any) -> None:
        state.force_open(("lab", "faultwire.testing.v1.Scripted"), time.monotonic())
        refused.wait(5)

    policy = ClientPolicy(hedge=HedgePolicy(delay=0.05), idempotent=True)
    assert run(opening, [*telemetry.observers, Listener()], policy, state=state) == [Code.OK]
    assert telemetry.total("grpc_client_hedges_total", result="circuit_open") == 1
    assert telemetry.total("grpc_client_hedges_total") == telemetry.total("grpc_client_attempts_total") == 1


def test_attempts_as_spans(run: Run) -> None:
    """On request attempts are CLIENT spans, children of an INTERNAL one, each linked to the one before (gRFC A72)."""
    telemetry = Telemetry(attempt_spans=True)
    server = Telemetry()
    step = Flaky(1)
    assert run(step, telemetry.observers, ClientPolicy(retry=RETRY)) == [Code.OK]
    first, second, logical = telemetry.spans.wait(3)
    assert [span.kind.name for span in (first, second, logical)] == ["CLIENT", "CLIENT", "INTERNAL"]
    assert [span.name for span in (first, logical)] == [f"Attempt.{logical.name}", logical.name]
    assert {span.parent.span_id for span in (first, second)} == {logical.get_span_context().span_id}
    assert [link.context.span_id for link in second.links] == [first.get_span_context().span_id]
    assert [span.attributes["previous-rpc-attempts"] for span in (first, second)] == [0, 1]
    assert [span.status.status_code.name for span in (first, second, logical)] == ["ERROR", "UNSET", "UNSET"]
    assert not server.spans.ended


def test_measurements_of_opentelemetry(run: Run) -> None:
    """With a meter provider, durations, retries and delays are measured under A66's and A96's names."""
    telemetry = Telemetry()
    observer = OpenTelemetryObserver(telemetry.provider, telemetry.meters, tracing="off")
    assert run(Flaky(1), [observer], ClientPolicy(retry=RETRY)) == [Code.OK]
    points = {
        metric.name: (dict(point.attributes), point.count)
        for resource in telemetry.reader.get_metrics_data().resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }
    method = "faultwire.testing.v1.Scripted/UnaryUnary"
    attributes, count = points["rpc.client.call.duration"]
    assert count == 1
    assert attributes["rpc.method"] == method
    assert attributes["rpc.response.status_code"] == "OK"
    assert "error.type" not in attributes
    assert points["grpc.client.call.retries"] == ({"grpc.method": method, "grpc.target": "lab"}, 1)
    assert "grpc.client.call.retry_delay" in points
    assert "grpc.client.attempt.duration" in points
    assert not telemetry.spans.ended


def test_futures_and_dropped_streams() -> None:
    """`.future()` does not block and counts once; a stream whose caller drops it is CANCELLED, and its span ends."""
    telemetry = Telemetry()
    released = threading.Event()

    def held(context: Any) -> None:
        while context.is_active() and not released.wait(0.01):
            pass

    with (
        serve([ScriptedServicer({"held": held})], [sync.ServerInterceptor()]) as server,
        sync.wrap_channel(grpc.insecure_channel(server.address), observers=telemetry.observers) as channel,
    ):
        stub = scripted_pb2_grpc.ScriptedStub(channel)
        future = stub.UnaryUnary.future(pb.Request(step="held"), timeout=5)
        assert not future.done()
        released.set()
        future.result()
        released.clear()
        stream = stub.UnaryStream(pb.Request(step="held", count=1), timeout=5)
        next(stream)
        del stream
        gc.collect()
        first, second = telemetry.spans.wait(2)
        released.set()
    assert told(first) == ("CLIENT", 0, "UNSET", None)
    assert told(second) == ("CLIENT", 1, "ERROR", "cancelled")
    assert telemetry.total("grpc_client_handled_total", grpc_code="OK") == 1
    assert telemetry.total("grpc_client_handled_total", grpc_code="Canceled") == 1
    assert telemetry.total("grpc_client_in_flight") == 0


class Stuck(SpanExporter):
    """An exporter that never comes back, until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def export(self, spans: Any) -> SpanExportResult:
        self.let_go.wait(30)
        return SpanExportResult.FAILURE


def test_full_queues_slow_nobody(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """With an exporter that is stuck and full queues of spans and of log lines, calls go on at once."""
    exporter = Stuck()
    provider = TracerProvider(shutdown_on_exit=False)
    processor = BatchSpanProcessor(exporter, max_queue_size=2, max_export_batch_size=1)
    provider.add_span_processor(processor)
    lines: queue.Queue[Any] = queue.Queue(maxsize=1)
    handler = Dropping(lines)
    logger = logging.getLogger("test.full_queue")
    logger.addHandler(handler)
    observers = [OpenTelemetryObserver(provider), LoggingObserver(logger)]
    started = time.monotonic()
    codes = run(Flaky(99), observers, ClientPolicy(retry=None, breaker=None), times=50)
    assert codes == [Code.UNAVAILABLE] * 50
    assert time.monotonic() - started < 10
    assert handler.dropped == 49
    exporter.let_go.set()
    logger.removeHandler(handler)
    processor.shutdown()


class Dropping(logging.handlers.QueueHandler):
    """A handler whose queue is full."""

    dropped = 0

    def handleError(self, record: logging.LogRecord) -> None:
        self.dropped += 1

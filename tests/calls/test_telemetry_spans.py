"""Spans: who is whose parent, what they say of an error, and what they never say."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from telemetry_lab import ARRANGEMENTS, Telemetry, environment
from worlds import World, call

from faultwire.testing.v1 import scripted_pb2 as pb
from faultwire.testing.v1 import scripted_pb2_grpc
from grpc_faultwire import Internal, NotFound, Translator, sync
from grpc_faultwire.audience import Audience
from grpc_faultwire.observers import LoggingObserver, OpenTelemetryObserver, PrometheusObserver
from grpc_faultwire.records import CallInfo, Kind, Outcome, Side


def leaking(_context: Any) -> None:
    secret = "password=hunter2"  # a local: never to be seen
    raise ValueError(secret)


def server_stub(world: World, telemetry: Telemetry, steps: Any, arrangement: str = "alone", **settings: Any) -> Any:
    ours = world.interceptor(settings.pop("translator", None), observers=[*telemetry.observers, world.recorder])
    return world.stub(steps, *telemetry.server_interceptors(arrangement, aio=world.aio, ours=ours))


def ignore(*codes: grpc.StatusCode) -> contextlib.AbstractContextManager[None]:
    @contextlib.contextmanager
    def ignoring() -> Iterator[None]:
        with pytest.raises(grpc.RpcError) as raised:
            yield
        assert not codes or raised.value.code() in codes

    return ignoring()


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_one_trace(world: World, arrangement: str) -> None:
    """The caller's span, one CLIENT and one SERVER span are parent and child, and the handler is within the last."""
    telemetry = Telemetry()
    seen: list[Any] = []
    steps = {"ok": lambda _context: seen.append(trace.get_current_span().get_span_context())}
    ours = world.interceptor(observers=[*telemetry.observers, world.recorder])
    address = world.serve(steps, *telemetry.server_interceptors(arrangement, aio=world.aio, ours=ours))
    tracer = telemetry.provider.get_tracer("test")
    with (
        sync.wrap_channel(world.channel(address), observers=telemetry.observers) as channel,
        tracer.start_as_current_span("caller"),
    ):
        call(scripted_pb2_grpc.ScriptedStub(channel), "UnaryUnary", "ok")
    spans = {span.kind.name: span for span in telemetry.spans.wait(3)}
    assert len(telemetry.spans.ended) == 3
    caller, client, server = spans["INTERNAL"], spans["CLIENT"], spans["SERVER"]
    assert client.parent.span_id == caller.context.span_id
    assert server.parent.span_id == client.context.span_id
    assert seen == [server.context]


@pytest.mark.parametrize("arrangement", ["alone", "inside"])
def test_exception_once_and_redacted(world: World, arrangement: str) -> None:
    """A masked exception is one event with type and stack; neither its text nor a local variable is in any span."""
    telemetry = Telemetry()
    stub = server_stub(world, telemetry, {"leak": leaking}, arrangement)
    with ignore(grpc.StatusCode.INTERNAL):
        call(stub, "UnaryUnary", "leak")
    [span] = telemetry.spans.wait(1)
    ours = [event for event in span.events if event.attributes.get("exception.type") == "ValueError"]
    assert len(ours) == 1
    assert "leaking" in ours[0].attributes["exception.stacktrace"]
    assert "exception.message" not in ours[0].attributes
    assert "hunter2" not in span.to_json()


@pytest.mark.parametrize("arrangement", ["alone", "inside"])
@pytest.mark.parametrize(("asked", "in_span", "in_log"), [("", 1, 0), ("logs", 0, 1), ("logs/dup", 1, 1)])
def test_exceptions_as_logs(
    world: World, arrangement: str, asked: str, in_span: int, in_log: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On request the exception is a log record, instead or as well, with the span's ids, and as redacted."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    with environment(monkeypatch, OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN=asked):
        telemetry = Telemetry(logger_provider=provider)
    with ignore(grpc.StatusCode.INTERNAL):
        call(server_stub(world, telemetry, {"leak": leaking}, arrangement), "UnaryUnary", "leak")
    [span] = telemetry.spans.wait(1)
    world.recorder.wait()
    records = [record.log_record for record in exporter.get_finished_logs()]
    assert len(records) == in_log
    assert sum(event.attributes.get("exception.type") == "ValueError" for event in span.events) == in_span
    for record in records:
        assert (record.event_name, record.severity_number.name) == ("rpc.server.call.exception", "ERROR")
        assert (record.trace_id, record.span_id) == (span.context.trace_id, span.context.span_id)
        assert set(record.attributes) == {"exception.type", "exception.stacktrace"}
        assert "leaking" in record.attributes["exception.stacktrace"]
        assert "hunter2" not in repr(record)


def test_exceptions_as_logs_without_a_span(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log record does not need a span, and mistakes of callers are none."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    with environment(monkeypatch, OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN="logs"):
        telemetry = Telemetry(tracing="off", logger_provider=provider)

    def missing(_context: Any) -> None:
        raise NotFound("x")

    stub = server_stub(world, telemetry, {"leak": leaking, "missing": missing})
    for name in ("leak", "missing"):
        with ignore():
            call(stub, "UnaryUnary", name)
    world.recorder.wait(2)
    [record] = exporter.get_finished_logs()
    assert record.log_record.attributes["exception.type"] == "ValueError"
    assert not telemetry.spans.ended


def test_exception_messages_on_request() -> None:
    """On request the event has the text, without what looks like a secret."""
    telemetry = Telemetry(tracing="own", exception_messages=True)
    info = CallInfo(service="a.B", method="C", kind=Kind.UNARY, side=Side.SERVER)
    exception = ValueError("order 7, password=hunter2")
    token = telemetry.opentelemetry.on_start(info)
    telemetry.opentelemetry.extract(token, ())
    error = Internal("Internal error.")
    ended = Outcome(code=grpc.StatusCode.INTERNAL, error=error, seconds=1, how="done", exception=exception)
    telemetry.opentelemetry.on_end(token, ended)
    [span] = telemetry.spans.wait(1)
    assert span.events[0].attributes["exception.message"] == "ValueError: order 7, password=[redacted]"


def test_attributes_of_an_error(world: World) -> None:
    """Category, fault, reason, domain, whether it may be retried, id and fingerprint; metadata by allow list alone."""
    telemetry = Telemetry(metadata_keys=["isbn", "token"])
    error = NotFound(
        "No book.", reason="NO_BOOK", domain="shop.example.com", metadata={"isbn": "1", "token": "t", "x": "2"}
    )

    def missing(_context: Any) -> None:
        raise error

    stub = server_stub(world, telemetry, {"missing": missing})
    with ignore(grpc.StatusCode.NOT_FOUND):
        call(stub, "UnaryUnary", "missing")
    [span] = telemetry.spans.wait(1)
    found = {
        key.removeprefix("faultwire."): value for key, value in span.attributes.items() if key.startswith("faultwire.")
    }
    assert len(found.pop("fingerprint")) == 16
    assert found == {
        "category": "not_found",
        "fault": "client",
        "reason": "NO_BOOK",
        "domain": "shop.example.com",
        "retryable": False,
        "error_id": error.error_id,
        "metadata.isbn": "1",
        "metadata.token": "[redacted]",
    }
    assert "error.type" not in span.attributes
    assert not span.events


def test_new_names(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the opt-in the span has the new names alone."""
    with environment(monkeypatch, OTEL_SEMCONV_STABILITY_OPT_IN="rpc"):
        telemetry = Telemetry()
    stub = server_stub(world, telemetry, {"ok": lambda _context: None})
    call(stub, "UnaryUnary", "ok")
    [span] = telemetry.spans.wait(1)
    assert dict(span.attributes) == {
        "rpc.system.name": "grpc",
        "rpc.method": "faultwire.testing.v1.Scripted/UnaryUnary",
        "rpc.response.status_code": "OK",
    }
    assert span.name == "faultwire.testing.v1.Scripted/UnaryUnary"


def test_sampled_out(world: World) -> None:
    """Where a caller's trace is not sampled, no span is exported on the server, and the trace goes on unsampled."""
    telemetry = Telemetry()
    telemetry.provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF), shutdown_on_exit=False)
    telemetry.provider.add_span_processor(SimpleSpanProcessor(telemetry.spans))
    telemetry.opentelemetry = OpenTelemetryObserver(telemetry.provider)
    seen: list[Any] = []
    steps = {"ok": lambda _context: seen.append(trace.get_current_span().get_span_context())}
    call(server_stub(world, telemetry, steps, "inside"), "UnaryUnary", "ok")
    world.recorder.wait()
    assert not telemetry.spans.ended
    assert seen[0].is_valid
    assert not seen[0].trace_flags.sampled


def test_off_and_enrich_make_no_span(world: World) -> None:
    """Without another instrumentation "off" and "enrich" leave no span."""
    for tracing in ("off", "enrich"):
        telemetry = Telemetry(tracing=tracing)
        call(server_stub(world, telemetry, {"ok": lambda _context: None}), "UnaryUnary", "ok")
        assert not telemetry.spans.ended
    world.recorder.wait(2)
    assert not telemetry.spans.ended


def test_tracing_is_checked() -> None:
    """Another word for tracing is refused."""
    with pytest.raises(ValueError, match="tracing is 'all'"):
        OpenTelemetryObserver(tracing="all")  # type: ignore[arg-type]  # the point of the test


def test_recovered_errors_are_marked(world: World) -> None:
    """An answer in place of an error is OK, and the span and the metrics say what was recovered."""
    translator = Translator()
    translator.recovery(NotFound)(lambda _error, _call: pb.Response())
    telemetry = Telemetry()

    def missing(_context: Any) -> None:
        raise NotFound("x")

    call(server_stub(world, telemetry, {"missing": missing}, translator=translator), "UnaryUnary", "missing")
    [span] = telemetry.spans.wait(1)
    world.recorder.wait()
    assert span.attributes["faultwire.recovered_from"] == "NOT_FOUND"
    assert span.attributes["rpc.response.status_code"] == "OK"
    assert [event.name for event in span.events] == ["faultwire.recovered"]
    assert telemetry.total("grpc_server_recovered_total", category="not_found") == 1
    assert telemetry.total("grpc_server_errors_total") == 0


def test_log_and_exemplar_find_the_span(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The line in the log and the exemplar of an error have the ids of the span that was made for the call."""
    from prometheus_client.openmetrics.exposition import generate_latest

    telemetry = Telemetry()
    stub = server_stub(world, telemetry, {"leak": leaking})
    with ignore(grpc.StatusCode.INTERNAL):
        call(stub, "UnaryUnary", "leak")
    [span] = telemetry.spans.wait(1)
    world.recorder.wait()
    ids = trace.format_trace_id(span.context.trace_id), trace.format_span_id(span.context.span_id)
    [record] = [record for record in caplog.records if record.name == "grpc_faultwire.errors"]
    assert (record.rpc_trace_id, record.rpc_span_id) == ids
    shown = generate_latest(telemetry.registry).decode()
    assert f'trace_id="{ids[0]}"' in shown
    assert f'span_id="{ids[1]}"' in shown


class Faulty:
    """An observer whose every method raises."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("on_") or name in ("extract", "inject", "activate", "intercepting"):
            return self._raise
        raise AttributeError(name)

    def _raise(self, *_arguments: Any) -> Any:
        raise RuntimeError("broken telemetry")


class Broken(PrometheusObserver):
    """One whose registry has gone."""

    def __init__(self, telemetry: Telemetry) -> None:
        super().__init__(telemetry.registry)
        self._instruments = None  # type: ignore[assignment]  # the fault


@pytest.mark.parametrize("shape", ["UnaryUnary", "StreamStream"])
def test_faulty_observers(world: World, shape: str, caplog: pytest.LogCaptureFixture) -> None:
    """Observers that raise in every method fail no call, on either side, and the others still see each call."""
    telemetry = Telemetry()
    faulty = [Faulty(), Broken(telemetry)]
    ours = world.interceptor(observers=[*faulty, *telemetry.observers, world.recorder])
    address = world.serve({"ok": lambda _context: None, "leak": leaking}, ours)
    with sync.wrap_channel(world.channel(address), observers=[*faulty, *telemetry.observers]) as channel:
        stub = scripted_pb2_grpc.ScriptedStub(channel)
        assert call(stub, shape, "ok", count=1)
        with ignore(grpc.StatusCode.INTERNAL):
            call(stub, shape, "leak")
        world.recorder.wait(2)
    assert telemetry.total("grpc_server_handled_total") == telemetry.total("grpc_client_handled_total") == 2
    assert len(telemetry.spans.wait(4)) == 4
    faults = [
        record for record in caplog.records if "observer" in record.getMessage() and "failed in" in record.getMessage()
    ]
    assert len({record.getMessage() for record in faults}) * 2 >= len(faults), "a fault is logged once on each side"


@pytest.mark.parametrize(
    ("shape", "requests", "responses"),
    [("UnaryUnary", 1, 1), ("UnaryStream", 1, 3), ("StreamUnary", 1, 1), ("StreamStream", 1, 3)],
)
def test_an_observer_for_each_side_may_be_one(world: World, shape: str, requests: int, responses: int) -> None:
    """The same observers watch a server and a channel, and keep the two sides apart; messages are counted on both."""
    telemetry = Telemetry()
    ours = world.interceptor(observers=[*telemetry.observers, LoggingObserver(), world.recorder])
    address = world.serve({"ok": lambda _context: None}, ours)
    with sync.wrap_channel(world.channel(address), observers=telemetry.observers) as channel:
        call(scripted_pb2_grpc.ScriptedStub(channel), shape, "ok", count=3)
    world.recorder.wait()
    for side, sent, received in (("server", responses, requests), ("client", requests, responses)):
        assert telemetry.total(f"grpc_{side}_handled_total") == 1
        assert telemetry.total(f"grpc_{side}_msg_sent_total") == sent
        assert telemetry.total(f"grpc_{side}_msg_received_total") == received


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({"tracing": "auto"}, {"active", "asked", "events", "attempts"}, id="auto"),
        pytest.param({"attempt_spans": True}, {"active", "asked", "events", "attempts", "begin"}, id="own attempts"),
        pytest.param({"tracing": "enrich"}, {"events", "attempts"}, id="enrich"),
        pytest.param({"tracing": "off"}, set(), id="off"),
        pytest.param({"tracing": "off", "attempt_spans": True}, set(), id="off, and spans of attempts"),
        pytest.param(
            {"tracing": "off", "meter_provider": MeterProvider(shutdown_on_exit=False)},
            {"events", "attempts"},
            id="meters",
        ),
    ],
)
def test_nobody_tells_in_vain(settings: dict[str, Any], expected: set[str]) -> None:
    """What the settings have no use for is not there: such calls take no longer for it."""
    audience = Audience([OpenTelemetryObserver(**settings)])
    found = {
        "active": audience.activates and audience.intercepts,
        "asked": audience.injects and audience.extracts,
        "events": audience.on_event,
        "attempts": audience.on_attempt_end,
        "begin": audience.on_attempt_start,
    }
    assert {name for name, wanted in found.items() if wanted} == expected

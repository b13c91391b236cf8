"""PrometheusObserver on its own: labels stay few, series exist from the start, registries and processes are shared."""

from __future__ import annotations

import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.openmetrics.exposition import generate_latest

from faultwire.testing.v1 import scripted_pb2
from grpc_faultwire import Internal, NotFound, StatusError, Unavailable
from grpc_faultwire.observers import PrometheusObserver, names
from grpc_faultwire.records import OK, Attempt, CallInfo, Event, Judgement, Kind, Outcome, Side

SERVICE = scripted_pb2.DESCRIPTOR.services_by_name["Scripted"]


def call(method: str = "GetBook", side: Side = Side.SERVER, **more: Any) -> CallInfo:
    return CallInfo(service="shop.v1.Shop", method=method, kind=Kind.UNARY, side=side, **more)


def outcome(error: StatusError | None = None, exception: BaseException | None = None, seconds: float = 0.01) -> Outcome:
    code = OK if error is None else error.code()
    return Outcome(code=code, error=error, seconds=seconds, how="done", exception=exception)


def run(observer: PrometheusObserver, info: CallInfo, ended: Outcome) -> None:
    observer.on_end(observer.on_start(info), ended)


def value(registry: CollectorRegistry, name: str, **labels: str) -> float:
    return sum(
        sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def series(registry: CollectorRegistry) -> int:
    return sum(len(metric.samples) for metric in registry.collect())


def test_label_styles() -> None:
    """The labels are spelled as go-grpc-middleware has them, or on request as py-grpc-prometheus does."""
    for style, expected in (("go", ("unary", "NotFound")), ("python", ("UNARY", "NOT_FOUND"))):
        registry = CollectorRegistry()
        run(PrometheusObserver(registry, label_style=style), call(), outcome(NotFound()))
        kind, code = expected
        assert value(registry, "grpc_server_handled_total", grpc_type=kind, grpc_code=code) == 1
    with pytest.raises(ValueError, match="label_style is 'rust'"):
        PrometheusObserver(CollectorRegistry(), label_style="rust")  # type: ignore[arg-type]  # the point of the test


def test_declared_services_start_at_zero() -> None:
    """Of a declared service, OK and the server's own faults exist before the first call, so that rates see them."""
    registry = CollectorRegistry()
    PrometheusObserver(registry, services=[SERVICE])
    found = {
        (sample.labels["grpc_type"], sample.labels["grpc_code"])
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "grpc_server_handled_total"
    }
    kinds = {"unary", "client_stream", "server_stream", "bidi_stream"}
    codes = {"OK", "Unknown", "DeadlineExceeded", "Internal", "Unavailable", "DataLoss"}
    assert found == {(kind, code) for kind in kinds for code in codes}
    assert value(registry, "grpc_server_errors_total") == 0
    assert 'category="internal"' in generate_latest(registry).decode()


def test_unknown_methods_are_one() -> None:
    """Methods that a server does not have share one series, and are counted as replaced."""
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry)
    for number in range(50):
        run(observer, call(f"Probe{number}", known=False), outcome(Internal()))
    assert value(registry, "grpc_server_handled_total", grpc_method="_OTHER", grpc_service="_OTHER") == 50
    assert value(registry, "grpc_telemetry_overflow_total", label="grpc_method") == 50


def test_methods_are_capped_and_declared_ones_are_not() -> None:
    """Beyond the limit methods are folded; those of a declared service never are."""
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry, max_methods=3, services=[SERVICE])
    for number in range(10):
        run(observer, call(f"Method{number}"), outcome())
    run(
        observer,
        CallInfo(service=SERVICE.full_name, method="UnaryUnary", kind=Kind.UNARY, side=Side.SERVER),
        outcome(),
    )
    assert value(registry, "grpc_server_handled_total", grpc_method="_OTHER") == 7
    assert value(registry, "grpc_server_handled_total", grpc_method="UnaryUnary") == 1


def test_reasons() -> None:
    """A reason that nobody declared is folded; one given, our own, and the code's name are kept."""
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry, reasons=["NO_BOOK"])
    for reason in ("NO_BOOK", "MADE_UP", "METHOD_NOT_FOUND", None):
        run(observer, call(), outcome(NotFound(reason=reason)))
    for expected in ("NO_BOOK", "_OTHER", "METHOD_NOT_FOUND", "NOT_FOUND"):
        assert value(registry, "grpc_server_errors_total", reason=expected) == 1


@pytest.mark.parametrize(("error", "unhandled"), [(Internal(), 1), (NotFound(), 0)], ids=["masked", "mapped"])
def test_unhandled_exceptions(error: StatusError, unhandled: int) -> None:
    """An exception behind a severe error is counted by its type; one that was mapped to a caller's mistake is not."""
    registry = CollectorRegistry()
    run(PrometheusObserver(registry), call(), outcome(error, KeyError("x")))
    assert value(registry, "grpc_server_unhandled_exceptions_total", exception_type="KeyError") == unhandled


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_cardinality_attack() -> None:
    """10⁵ methods, reasons and exception types: no more series than the first thousands made, and no more memory."""
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry)

    def attack(count: int, offset: int) -> None:
        for number in range(offset, offset + count):
            kind = type(f"Error{number}", (Exception,), {})
            error = Internal(reason=f"REASON_{number}")
            run(observer, call(f"Method{number}"), outcome(error, kind()))
            run(observer, call(f"Method{number}", side=Side.CLIENT), outcome(error))
            run(observer, call(f"Probe{number}", known=False), outcome(error))

    attack(5_000, 0)
    before = series(registry)
    attack(90_000, 5_000)
    tracemalloc.start()
    attack(5_000, 95_000)
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    # The folded methods may still meet the 64 exception types that are known.
    assert series(registry) <= before + 2 * 64
    assert series(registry) < 100 * 500
    assert grown < 1_000_000


def exemplars(registry: CollectorRegistry) -> int:
    return generate_latest(registry).decode().count("trace_id=")


def test_exemplars_of_sampled_spans() -> None:
    """Errors and slow calls under a sampled span carry its ids; fast ones, and those of other spans, do not."""
    sampled = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    dropped = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False).get_tracer("test")
    for tracer, ended, expected in (
        (sampled, outcome(NotFound()), 3),  # handled, handling_seconds and errors
        (sampled, outcome(seconds=2.0), 2),
        (sampled, outcome(), 0),
        (dropped, outcome(NotFound()), 0),
        (None, outcome(NotFound()), 0),
    ):
        registry = CollectorRegistry()
        observer = PrometheusObserver(registry)
        with tracer.start_as_current_span("x") if tracer else trace.use_span(trace.INVALID_SPAN):
            run(observer, call(), ended)
        assert exemplars(registry) == expected


def test_exemplars_of_a_storm() -> None:
    """Each series takes an exemplar a second, since each costs; the first error of a category is found at once."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry)
    ids = []
    for error in (NotFound(), NotFound(), Unavailable()):
        with tracer.start_as_current_span("x") as span:
            run(observer, call(), outcome(error))
        ids.append(trace.format_trace_id(span.get_span_context().trace_id))
    shown = generate_latest(registry).decode()
    assert [shown.count(one) for one in ids] == [3, 0, 1]


def test_shared_registry() -> None:
    """Two observers on one registry count together."""
    registry = CollectorRegistry()
    for observer in (PrometheusObserver(registry), PrometheusObserver(registry)):
        run(observer, call(), outcome())
    assert value(registry, "grpc_server_handled_total", grpc_code="OK") == 2
    with pytest.raises(ValueError, match="this registry has these metrics with"):
        PrometheusObserver(registry, buckets=(1.0,))


def test_registry_of_another_library() -> None:
    """A registry where a name is taken is refused with a sentence that says which."""
    registry = CollectorRegistry()
    Counter("grpc_server_handled_total", "theirs", registry=registry)
    with pytest.raises(ValueError, match="grpc_server_handled_total is in this registry already"):
        PrometheusObserver(registry)


def test_limits_are_checked() -> None:
    """A limit below 0 is refused by name."""
    with pytest.raises(ValueError, match="max_methods is -1"):
        PrometheusObserver(CollectorRegistry(), max_methods=-1)


def test_threads_count_exactly() -> None:
    """Counts of many threads are exact, and in flight returns to 0."""
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry)
    info = call()

    def work() -> None:
        for _ in range(500):
            run(observer, info, outcome())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value(registry, "grpc_server_handled_total") == value(registry, "grpc_server_started_total") == 4000
    assert value(registry, "grpc_server_in_flight") == 0


def test_events_of_policies() -> None:
    """Each event of the policies has its metric; unknown events are left alone."""
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry)
    token = observer.on_start(call(side=Side.CLIENT))
    told: list[tuple[Any, dict[str, Any]]] = [
        (names.RETRY, {"attempt": 1, "delay": 0.2, "decision": "retried"}),
        (names.RETRY_STOPPED, {"attempt": 2, "decision": "budget"}),
        (names.BUDGET, {"target": "shop:443", "tokens": 7.0}),
        (names.CIRCUIT_REJECTED, {"breaker": "shop", "state": "open", "retry_after": 1.0}),
        (names.CIRCUIT_TRANSITION, {"breaker": "shop", "from_state": "closed", "to_state": "open"}),
        (names.HEDGE, {"attempt": 2, "result": "sent"}),
        (names.FALLBACK, {"category": "transport", "result": "answered"}),
    ]
    for name, attributes in told:
        observer.on_event(token, Event(name=name.name, attributes=attributes))
    observer.on_event(token, Event(name="of_somebody_else"))
    observer.on_event(None, Event(name=names.RETRY.name, attributes={"delay": 1.0}))
    assert value(registry, "grpc_client_retry_decisions_total", decision="retried") == 1
    assert value(registry, "grpc_client_retry_decisions_total", decision="budget") == 1
    assert value(registry, "grpc_client_retry_delay_seconds_sum") == 0.2
    assert value(registry, "grpc_client_retry_budget_tokens", target="shop:443") == 7
    assert value(registry, "grpc_client_circuit_rejections_total", breaker="shop") == 1
    assert value(registry, "grpc_client_circuit_state", state="open") == 1
    assert value(registry, "grpc_client_hedges_total", result="sent") == 1
    assert value(registry, "grpc_client_fallbacks_total", category="transport", result="answered") == 1


def test_attempts() -> None:
    """Attempts are counted as first ones, retries or hedges, and never with a negative time."""
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry)
    token = observer.on_start(call(side=Side.CLIENT))
    for attempt in (
        Attempt(number=1, started=5.0, ended=4.0),
        Attempt(number=2, started=5.0, ended=6.0),
        Attempt(number=3, started=5.0, ended=6.0, hedge=True),
    ):
        observer.on_end(token, Outcome(OK, 1.0, "done", attempts=[attempt]))
    for kind in ("first", "retry", "hedge"):
        assert value(registry, "grpc_client_attempts_total", attempt=kind, grpc_code="OK") == 1
    assert value(registry, "grpc_client_attempt_seconds_sum") == 2


@pytest.mark.parametrize("many", [False, True], ids=["one breaker", "more than labels or calls are kept for"])
def test_judgements_of_breakers(many: bool) -> None:
    """What breakers made of attempts is counted, along with usual calls or alone."""
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry, max_breakers=6)
    breakers = [f"shop{number}" for number in range(9 if many else 1)]
    for _ in range(3):
        for breaker in breakers:
            for error, kind in ((None, "success"), (NotFound(), "success"), (Unavailable(), "failure")):
                attempt = Attempt(1, 5.0, ended=6.0, error=error, judged=Judgement(breaker, kind))
                code = OK if error is None else error.code()
                run(observer, call(side=Side.CLIENT), Outcome(code, 0.5, "done", error, [attempt]))
    for kind, times in (("success", 6), ("failure", 3)):
        for breaker in breakers[:6]:
            assert value(registry, "grpc_client_circuit_calls_total", breaker=breaker, kind=kind) == times
        expected = 3 * times if many else None
        assert (
            registry.get_sample_value("grpc_client_circuit_calls_total", {"breaker": "_OTHER", "kind": kind})
            == expected
        )
    assert value(registry, "grpc_client_handled_total", grpc_code="OK") == 3 * len(breakers)
    assert value(registry, "grpc_client_attempt_seconds_count") == 9 * len(breakers)
    assert value(registry, "grpc_client_in_flight") == 0


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("side", list(Side))
def test_the_one_message_of_a_side_that_does_not_stream(kind: Kind, side: Side) -> None:
    """A request belongs to every call that begins, a response to every OK; those of streams are told one by one."""
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry, slow=0.5)
    attempts = [Attempt(1, 0.0, ended=0.1)] if side is Side.CLIENT else []
    info = CallInfo(service="shop.v1.Shop", method="GetBook", kind=kind, side=side)
    for ended in (
        Outcome(OK, 0.1, "done", attempts=attempts),
        Outcome(OK, 0.9, "done", attempts=attempts),
        Outcome(OK, 0.1, "done", attempts=attempts, recovered=Unavailable()),
        Outcome(NotFound().code(), 0.1, "done", NotFound(), attempts),
    ):
        run(observer, info, ended)
    # What a caller's fallback answers is no message.
    answers = 2 if side is Side.CLIENT else 3
    names_of = ("sent", "received") if side is Side.CLIENT else ("received", "sent")
    expected = (0 if kind.request_streaming else 4, 0 if kind.response_streaming else answers)
    for name, count in zip(names_of, expected, strict=True):
        assert value(registry, f"grpc_{side.value}_msg_{name}_total") == count


WORKER = """
import sys
from prometheus_client import CollectorRegistry
from grpc_faultwire import NotFound
from grpc_faultwire.observers import PrometheusObserver
from grpc_faultwire.records import OK, Attempt, CallInfo, Event, Judgement, Kind, Outcome, Side
observer = PrometheusObserver(CollectorRegistry())
info = CallInfo(service="shop.v1.Shop", method="GetBook", kind=Kind.UNARY, side=Side.SERVER)
for _ in range(int(sys.argv[1])):
    observer.on_end(observer.on_start(info), Outcome(code=OK, seconds=0.1, how="done"))
observer.on_start(info)
info = CallInfo(service="shop.v1.Shop", method="GetBook", kind=Kind.UNARY, side=Side.CLIENT)
attempts = [Attempt(1, 0.0, ended=0.1, judged=Judgement("b", "success"))]
observer.on_end(observer.on_start(info), Outcome(code=OK, seconds=0.1, how="done", attempts=attempts))
state = {"breaker": "b", "from_state": "closed", "to_state": sys.argv[2]}
observer.on_event(None, Event(name="circuit_transition", attributes=state))
"""


def test_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In multiprocess mode counts add up, in flight is the sum, and an open circuit in one process shows."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    for count, state in ((3, "open"), (4, "half_open")):
        subprocess.run([sys.executable, "-c", WORKER, str(count), state], check=True)
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    assert value(registry, "grpc_server_handled_total", grpc_code="OK") == 7
    assert value(registry, "grpc_server_handling_seconds_count") == 7
    assert value(registry, "grpc_server_in_flight") == 2
    assert value(registry, "grpc_client_attempt_seconds_count") == 2
    assert value(registry, "grpc_client_handling_seconds_sum") == pytest.approx(0.2)
    assert value(registry, "grpc_client_msg_received_total") == 2
    assert value(registry, "grpc_client_circuit_calls_total", kind="success") == 2
    assert value(registry, "grpc_client_circuit_state", state="open") == 1
    assert value(registry, "grpc_client_circuit_state", state="closed") == 0


def test_every_code_has_a_label() -> None:
    """Whatever code a call ends with, it is counted under Go's name for it."""
    from grpc_faultwire.errors import error_class

    registry = CollectorRegistry()
    observer = PrometheusObserver(registry)
    for code in grpc.StatusCode:
        run(observer, call(), outcome(None if code is OK else error_class(code)()))
    for name in names.GO_CODES.values():
        assert value(registry, "grpc_server_handled_total", grpc_code=name) == 1

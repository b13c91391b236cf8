"""What the tests of telemetry share: a real registry, a real tracer provider, and what both have recorded."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry.instrumentation.grpc import aio_server_interceptor, server_interceptor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from prometheus_client import CollectorRegistry

from grpc_faultwire.observers import OpenTelemetryObserver, PrometheusObserver
from grpc_faultwire.observers.names import GO_CODES

SERVICE = "faultwire.testing.v1.Scripted"
ARRANGEMENTS = ("alone", "inside", "outside")
"""Ours without OpenTelemetry's instrumentation, inside it, and outside it."""


class Spans(SpanExporter):
    """Keeps the spans that ended, and waits for them."""

    def __init__(self) -> None:
        self.ended: list[ReadableSpan] = []
        self._changed = threading.Condition()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with self._changed:
            self.ended.extend(spans)
            self._changed.notify_all()
        return SpanExportResult.SUCCESS

    def wait(self, count: int, timeout: float = 5) -> list[ReadableSpan]:
        """Return the spans once there are so many: a server's ends after its caller has the answer."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.ended) >= count, timeout)
            return list(self.ended)


class Telemetry:
    """Both observers, and what they have recorded."""

    def __init__(self, **settings: Any) -> None:
        self.registry = CollectorRegistry()
        self.prometheus = PrometheusObserver(self.registry)
        self.spans = Spans()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.spans))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.opentelemetry = OpenTelemetryObserver(self.provider, **settings)

    @property
    def observers(self) -> list[Any]:
        return [self.prometheus, self.opentelemetry]

    def values(self) -> dict[tuple[Any, ...], float]:
        """Return every series that is not 0, without buckets and times."""
        return {
            (sample.name, *(f"{key}={value}" for key, value in sorted(sample.labels.items()))): sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.value and not sample.name.endswith(("_created", "_bucket", "_seconds_sum"))
        }

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's series with these labels."""
        return sum(
            sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def settled(self, side: str, shape: str) -> dict[str, float]:
        """Return, by code and by category, how many RPCs of a method have ended."""
        found: dict[str, float] = {}
        for name, label in ((f"grpc_{side}_handled_total", "grpc_code"), (f"grpc_{side}_errors_total", "category")):
            for metric in self.registry.collect():
                for sample in metric.samples:
                    if sample.name == name and sample.value and sample.labels["grpc_method"] in (shape, "_OTHER"):
                        key = f"{label}={sample.labels[label]}"
                        found[key] = found.get(key, 0) + sample.value
        return found

    def server_interceptors(self, arrangement: str, *, aio: bool, ours: Any) -> list[Any]:
        theirs = (aio_server_interceptor if aio else server_interceptor)(tracer_provider=self.provider)
        return {"alone": [ours], "inside": [theirs, ours], "outside": [ours, theirs]}[arrangement]


def difference(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Return what was counted in between."""
    return {key: value - before.get(key, 0) for key, value in after.items() if value != before.get(key, 0)}


def counted(code: grpc.StatusCode, category: str | None) -> dict[str, float]:
    """Return what one RPC that ends so is counted as."""
    found = {f"grpc_code={GO_CODES[code.name]}": 1.0}
    return found | ({f"category={category}": 1.0} if category else {})


def told(span: ReadableSpan) -> tuple[str, Any, str, str | None]:
    """Return a span's kind, code and status, and the category of its error."""
    attributes = dict(span.attributes or {})
    category = attributes.get("faultwire.category")
    code: Any = attributes.get("rpc.grpc.status_code")
    name = attributes.get("rpc.response.status_code")
    if name != {one.value[0]: one.name for one in grpc.StatusCode}[code]:
        code = f"{code} but {name}"
    return span.kind.name, code, span.status.status_code.name, category


@contextmanager
def environment(monkeypatch: Any, **variables: str) -> Iterator[None]:
    """Set environment variables for a while."""
    with monkeypatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield

"""The short cut past the SDK's handling of attributes leaves the span that the SDK would have made."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ConcurrentMultiSpanProcessor, SpanLimits, SpanProcessor, TracerProvider, sampling
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from grpc_faultwire.observers import attributes as module
from grpc_faultwire.observers.attributes import Beginning, write

TOLD = {"rpc.system": "grpc", "rpc.grpc.status_code": 0, "server.port": 443, "retryable": False}
MORE = {"rpc.grpc.status_code": 5, "reason": "NO_BOOK", "retryable": True}


class Looking(SpanProcessor):
    """Keeps the attributes that spans start with."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.seen.append(dict(span.attributes))


class Choosing(sampling.StaticSampler):
    """Keeps the attributes that it is asked with, and adds one."""

    seen: Any = None

    def should_sample(
        self,
        parent_context: Any,
        trace_id: int,
        name: str,
        kind: Any = None,
        attributes: Any = None,
        links: Any = None,
        trace_state: Any = None,
    ) -> sampling.SamplingResult:
        self.seen = dict(attributes)
        told = {**attributes, "chosen": "by rate"}
        return super().should_sample(parent_context, trace_id, name, kind, told, links, trace_state)


SETTINGS: dict[str, tuple[dict[str, Any], bool]] = {
    "default": ({}, True),
    "always": ({"sampler": sampling.ALWAYS_ON}, True),
    "ratio": ({"sampler": sampling.TraceIdRatioBased(1.0)}, True),
    "parent or ratio": ({"sampler": sampling.ParentBasedTraceIdRatio(1.0)}, True),
    "parent or own": ({"sampler": sampling.ParentBased(Choosing(sampling.Decision.RECORD_AND_SAMPLE))}, False),
    "own": ({"sampler": Choosing(sampling.Decision.RECORD_AND_SAMPLE)}, False),
    "few attributes": ({"span_limits": SpanLimits(max_span_attributes=3)}, True),
    "as many as there are": ({"span_limits": SpanLimits(max_span_attributes=5)}, True),
    "short values": ({"span_limits": SpanLimits(max_span_attribute_length=2)}, True),
    "concurrent": ({"active_span_processor": ConcurrentMultiSpanProcessor(2)}, True),
}


def provider(settings: dict[str, Any]) -> tuple[TracerProvider, InMemorySpanExporter]:
    made, spans = TracerProvider(**settings, shutdown_on_exit=False), InMemorySpanExporter()
    made.add_span_processor(SimpleSpanProcessor(spans))
    return made, spans


@pytest.mark.parametrize("short", [True, False], ids=["short cut", "no short cut"])
@pytest.mark.parametrize("name", SETTINGS)
def test_spans_are_alike(name: str, short: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attributes, and how many were dropped, are those that a span has that was told as the API says."""
    monkeypatch.setattr(module, "SHORT", short)
    settings, taken = SETTINGS[name]
    made, spans = provider(settings)
    tracer = made.get_tracer("test")
    beginning = Beginning(tracer)
    started = beginning.start("a/B", Context(), SpanKind.SERVER, TOLD)
    write(started, MORE)
    started.end()
    assert beginning._met[2] is (taken and short)
    expected = tracer.start_span("a/B", Context(), SpanKind.SERVER, TOLD)
    expected.set_attributes(MORE)
    expected.end()
    ours, theirs = spans.get_finished_spans()
    assert dict(ours.attributes or {}) == dict(theirs.attributes or {})
    assert ours.dropped_attributes == theirs.dropped_attributes
    assert (ours.name, ours.kind, ours.parent) == (theirs.name, theirs.kind, theirs.parent)
    assert TOLD["retryable"] is False, "what all spans of a method have in common is not changed"


def test_who_may_look_sees_them() -> None:
    """A sampler or a processor of somebody's own gets what the API promises; also one that is added later."""
    sampler, looking = Choosing(sampling.Decision.RECORD_AND_SAMPLE), Looking()
    made, spans = provider({"sampler": sampler})
    Beginning(made.get_tracer("test")).start("a/B", Context(), SpanKind.SERVER, TOLD).end()
    assert sampler.seen == TOLD
    assert (spans.get_finished_spans()[0].attributes or {})["chosen"] == "by rate"
    made, _ = provider({})
    beginning = Beginning(made.get_tracer("test"))
    beginning.start("a/B", Context(), SpanKind.SERVER, TOLD).end()
    made.add_span_processor(looking)
    beginning.start("a/B", Context(), SpanKind.SERVER, TOLD).end()
    assert looking.seen == [TOLD]


def test_spans_that_are_not_the_sdks() -> None:
    """They are told as the API says, and those that nobody records are told nothing."""
    for tracer in (trace.NoOpTracer(), TracerProvider(sampler=sampling.ALWAYS_OFF).get_tracer("test")):
        span = Beginning(tracer).start("a/B", Context(), SpanKind.CLIENT, TOLD)
        write(span, MORE)
        assert not span.is_recording()

    class Own(trace.NonRecordingSpan):
        told: Any = None

        def set_attributes(self, attributes: Any) -> None:
            self.told = attributes

    own = Own(trace.INVALID_SPAN_CONTEXT)
    write(own, MORE)
    assert own.told == MORE


def test_the_short_cut_is_taken() -> None:
    """With the SDK that is installed: else all of this would be in vain."""
    assert module.SHORT
    batch = BatchSpanProcessor(InMemorySpanExporter())
    assert module._nobody_looks(sampling.DEFAULT_ON, (batch,))
    batch.shutdown()
    assert not module._nobody_looks(sampling.DEFAULT_ON, None)

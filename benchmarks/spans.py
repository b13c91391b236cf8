"""Where spans go in the benchmarks: through the SDK's batch processor, and nowhere."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON


class Nowhere(SpanExporter):
    """An exporter that costs nothing: how spans travel is not what is measured."""

    def export(self, spans: Any) -> SpanExportResult:  # noqa: ARG002  # the SDK's signature
        return SpanExportResult.SUCCESS


def provider(*, sampled: bool = True) -> TracerProvider:
    made = TracerProvider(sampler=ALWAYS_ON if sampled else ALWAYS_OFF)
    made.add_span_processor(BatchSpanProcessor(Nowhere()))
    return made

"""Attributes of spans, written in one step: OpenTelemetry's SDK takes two functions for each, and a call has a dozen.

The SDK looks whether values are fit for attributes and within its limits. Ours are strings, numbers and booleans, so
where a span has no limit that they would meet, they are put where the SDK would put them. Other spans, and SDKs that
keep attributes in another way, are told as the API says.
"""

from __future__ import annotations

import sys
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Tracer

from grpc_faultwire.observers.semconv import Attributes


def write(span: Span, told: Attributes) -> None:
    """Set attributes of a span of our own that has not ended.

    Args:
        span: the span.
        told: strings, numbers and booleans.
    """
    kept = getattr(span, "_attributes", None)
    if SHORT and type(kept) is BoundedAttributes and kept.max_value_len is None:
        inner = kept._dict
        if kept.maxlen is None or len(inner) + len(told) <= kept.maxlen:
            inner.update(told)
            return
    span.set_attributes(told)


class Beginning:
    """Starts spans. One serves an observer.

    Args:
        tracer: makes them.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer: Any = tracer
        # Whom the SDK shows the attributes of a span that starts, and whether any of them might look: in one step.
        self._met: tuple[Any, Any, bool] = (None, None, False)

    def start(self, name: str, context: Context, kind: SpanKind, attributes: Attributes) -> Span:
        """Start a span; see `Tracer.start_span`."""
        tracer = self._tracer
        sampler = getattr(tracer, "sampler", None)
        processors = getattr(getattr(tracer, "span_processor", None), "_span_processors", None)
        met = self._met
        if sampler is not met[0] or processors is not met[1]:
            met = self._meet(sampler, processors)
        if met[2]:
            span: Span = tracer.start_span(name, context, kind)
            write(span, attributes)
            return span
        return tracer.start_span(name, context, kind, attributes)  # type: ignore[no-any-return]  # it is a Tracer

    def _meet(self, sampler: Any, processors: Any) -> tuple[Any, Any, bool]:
        self._met = sampler, processors, SHORT and _nobody_looks(sampler, processors)
        return self._met


def _nobody_looks(sampler: Any, processors: Any) -> bool:
    """Tell whether a sampler decides without attributes, and processors do nothing when a span starts."""
    # Of the SDK, which is no dependency, by name; whatever else somebody made may look.
    sampling, export = (sys.modules.get(f"opentelemetry.sdk.trace.{name}") for name in ("sampling", "export"))
    if sampling is None or export is None or not isinstance(processors, tuple):
        return False
    fixed = (sampling.ALWAYS_ON, sampling.ALWAYS_OFF, sampling.DEFAULT_ON, sampling.DEFAULT_OFF)
    ratios = (sampling.TraceIdRatioBased, sampling.ParentBasedTraceIdRatio)
    exporting = (export.BatchSpanProcessor, export.SimpleSpanProcessor)
    blind = type(sampler) in ratios or any(sampler is one for one in fixed)
    return blind and all(type(one) in exporting for one in processors)


def _agrees() -> bool:
    """Tell whether the short cut leaves what the SDK would, whatever its version."""
    told: Any = {"text": "a", "number": 1, "share": 0.5, "flag": True}
    theirs, ours = BoundedAttributes(9, told, immutable=False), BoundedAttributes(9, immutable=False)
    inner = getattr(ours, "_dict", None)
    if type(inner) is not dict:
        return False
    inner.update(told)
    return vars(theirs)["_dict"] == told == dict(ours) and ours.dropped == theirs.dropped == 0


SHORT = _agrees()
"""Whether the short cut is taken where it can be."""

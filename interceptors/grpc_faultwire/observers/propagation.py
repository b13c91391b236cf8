"""The metadata that tie the spans of a trace together: those of OpenTelemetry's global propagator, with one short cut.

Of the default propagators one writes and reads the W3C trace context, the other baggage. Where there is no baggage and
no state of the trace, all that is left is one header of a fixed form; it is written and read here, as the propagators
take some twenty functions for each. Whatever else comes goes through them, and everything does if others were set.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from grpc_faultwire.observers.contexts import EMPTY, SPAN, current

HEADER = "traceparent"
"""The header of the short cut."""
OTHERS = ("tracestate", "baggage")
"""The default propagators' other headers."""

_DEFAULT = (TraceContextTextMapPropagator, W3CBaggagePropagator)
_SAMPLE = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
_read = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})").fullmatch
_NO_STATE = trace.INVALID_SPAN_CONTEXT.trace_state


class Propagation:
    """Writes and reads metadata. One serves an observer."""

    def __init__(self) -> None:
        # The propagator that was met last, and whether the short cut does what it does: read and written in one step.
        self._met: tuple[Any, bool] = (None, False)

    def injected(self, span: Span, context: Context) -> list[tuple[str, str]]:
        """Return the metadata that make a server's span a child of a caller's.

        Args:
            span: the caller's.
            context: what it is current in, together with the suppression of other instrumentation.
        """
        textmap = propagate.get_global_textmap()
        met, short = self._met
        if textmap is not met:
            short = self._meet(textmap)
        if short and len(context) == 2:  # these two: no baggage
            where = span.get_span_context()
            if type(where) is SpanContext:
                trace_id, span_id, _, flags, state, valid = where
                if valid and state is _NO_STATE:
                    return [(HEADER, f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}")]
        carrier: dict[str, str] = {}
        propagate.inject(carrier, context)
        return [(key.lower(), value) for key, value in carrier.items()]

    def extracted(self, metadata: Iterable[tuple[str, str | bytes]]) -> Context:
        """Return the context that a call came with."""
        textmap = propagate.get_global_textmap()
        met, short = self._met
        if textmap is not met:
            short = self._meet(textmap)
        if short:
            header: str | bytes = ""
            for key, value in metadata:
                if key == HEADER:
                    header = value
                elif key in OTHERS:
                    break
            else:
                parent = _parent(header) if header else None
                if parent is not None or not header:
                    return EMPTY if parent is None else Context({SPAN: parent})
        found = propagate.extract({key: value for key, value in metadata if isinstance(value, str)})
        return current() if found is None else found  # with OTEL_PROPAGATORS=none there is none

    def _meet(self, textmap: Any) -> bool:
        parts = tuple(map(type, getattr(textmap, "_propagators", ()))) if type(textmap) is CompositePropagator else ()
        short = parts in (_DEFAULT, _DEFAULT[:1]) and _agrees(textmap)
        self._met = textmap, short
        return short


def _parent(header: Any) -> Span | None:
    """Return the span that a header names; None: it is of another form, or names none."""
    found = _read(header) if isinstance(header, str) else None
    if found is None:
        return None
    trace_id, span_id, flags = found.groups()
    where = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
    return NonRecordingSpan(where) if where.is_valid else None


def _agrees(textmap: Any) -> bool:
    """Tell whether a propagator reads and writes a header as the short cut does, whatever the version of the API."""
    parent = _parent(_SAMPLE)
    theirs = trace.get_current_span(textmap.extract({HEADER: _SAMPLE})).get_span_context()
    carrier: dict[str, str] = {}
    textmap.inject(carrier, Context({SPAN: parent}))
    fields = (theirs.trace_id, theirs.span_id, True, theirs.trace_flags, _NO_STATE, True)
    return parent is not None and (*parent.get_span_context(),) == (*theirs,) == fields and carrier == {HEADER: _SAMPLE}

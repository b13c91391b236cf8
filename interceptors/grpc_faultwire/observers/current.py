"""The span of OpenTelemetry that is current, for log lines and exemplars; its API is not imported for this."""

from __future__ import annotations

import sys
from typing import NamedTuple


class CurrentSpan(NamedTuple):
    """Where a line or a measurement belongs.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits.
        sampled: whether it will be found there.
    """

    trace_id: str
    span_id: str
    sampled: bool


def current_span() -> CurrentSpan | None:
    """Return the current span; None if there is none."""
    # Where nobody has imported the API there can be no span.
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    where = trace.get_current_span().get_span_context()
    if type(where) is trace.SpanContext:  # a tuple, whose properties are functions
        trace_id, span_id, _, flags, _, valid = where
        return CurrentSpan(f"{trace_id:032x}", f"{span_id:016x}", flags & 1 == 1) if valid else None
    if not where.is_valid:
        return None
    return CurrentSpan(f"{where.trace_id:032x}", f"{where.span_id:016x}", where.trace_flags.sampled)

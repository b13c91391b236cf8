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
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return CurrentSpan(f"{context.trace_id:032x}", f"{context.span_id:016x}", context.trace_flags.sampled)

"""The short cut past OpenTelemetry's propagators gives what they give, and is left where it would not."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import baggage, propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, TraceFlags, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from grpc_faultwire.observers.contexts import SPAN, SUPPRESSED
from grpc_faultwire.observers.propagation import Propagation

TRACE, ID = 0x0AF7651916CD43DD8448EB211C80319C, 0x00F067AA0BA902B7
HEADER = f"00-{TRACE:032x}-{ID:016x}-01"


def where(**fields: Any) -> SpanContext:
    return SpanContext(**{"trace_id": TRACE, "span_id": ID, "is_remote": False, **fields})


class Tenant(TraceContextTextMapPropagator):
    """A propagator of somebody's own, which is no less a W3C propagator."""

    def extract(self, carrier: Any, *arguments: Any, **more: Any) -> Context:
        return baggage.set_baggage("tenant", carrier.get("tenant"), super().extract(carrier, *arguments, **more))

    def inject(self, carrier: Any, *arguments: Any, **more: Any) -> None:
        super().inject(carrier, *arguments, **more)
        carrier["Tenant"] = "7"


@pytest.fixture(params=["default", "trace context", "baggage", "reversed", "own", "own in a composite", "none"])
def textmap(request: pytest.FixtureRequest) -> Iterator[Any]:
    ours, theirs = TraceContextTextMapPropagator(), W3CBaggagePropagator()
    made = {
        "default": CompositePropagator([ours, theirs]),
        "trace context": CompositePropagator([ours]),
        "baggage": theirs,
        "reversed": CompositePropagator([theirs, ours]),
        "own": Tenant(),
        "own in a composite": CompositePropagator([Tenant(), theirs]),
        "none": CompositePropagator([]),
    }[request.param]
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(made)
    yield made
    propagate.set_global_textmap(before)


@pytest.mark.parametrize(
    "span",
    [
        pytest.param(where(), id="not sampled"),
        pytest.param(where(trace_flags=TraceFlags(3)), id="flags"),
        pytest.param(where(trace_id=1, span_id=1), id="short ids"),
        pytest.param(where(trace_state=TraceState([("a", "b")])), id="state"),
        pytest.param(trace.INVALID_SPAN_CONTEXT, id="invalid"),
    ],
)
@pytest.mark.parametrize("carried", [{}, {"tenant": "7"}], ids=["alone", "with baggage"])
def test_what_is_sent(textmap: Any, span: SpanContext, carried: dict[str, str]) -> None:
    """The metadata are the propagator's."""
    made = NonRecordingSpan(span)
    context = Context({SPAN: made, SUPPRESSED: True})
    for key, value in carried.items():
        context = baggage.set_baggage(key, value, context)
    expected: dict[str, str] = {}
    textmap.inject(expected, context)
    assert dict(Propagation().injected(made, context)) == {key.lower(): value for key, value in expected.items()}


HEADERS = [
    None,
    "",
    HEADER,
    HEADER[:-2] + "00",
    HEADER[:-2] + "ff",
    HEADER.upper(),
    f" {HEADER} ",
    f"{HEADER}-more",
    f"cc{HEADER[2:]}-more",
    f"ff{HEADER[2:]}",
    f"00-{0:032x}-{ID:016x}-01",
    f"00-{TRACE:032x}-{0:016x}-01",
    HEADER[:-1],
    f"{HEADER}\n",
    "é" * 55,
]


@pytest.mark.parametrize("more", [(), (("tracestate", "a=b"),), (("baggage", "tenant=7"),), (("key-bin", b"\0"),)])
def test_what_is_read(textmap: Any, more: tuple[tuple[str, Any], ...]) -> None:
    """The context is the propagator's, whatever the header and whatever comes with it."""
    for header, first in itertools.product(HEADERS, (True, False)):
        given = () if header is None else (("traceparent", header),)
        metadata = (*given, *more) if first else (*more, *given)
        expected = textmap.extract({key: value for key, value in metadata if isinstance(value, str)}) or Context()
        found = Propagation().extracted(metadata)
        assert parent(found) == parent(expected), header
        assert {**found, SPAN: None} == {**expected, SPAN: None}, header


def test_of_two_headers_the_last_counts() -> None:
    """As it does where metadata become a dictionary."""
    other = HEADER.replace("0af", "1af")
    found = Propagation().extracted((("traceparent", HEADER), ("traceparent", other)))
    assert parent(found).trace_id == TRACE | 1 << 124


def test_the_short_cut_is_taken() -> None:
    """With the default propagators of the API that is installed: else all of this would be in vain."""
    propagation = Propagation()
    default = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
    assert propagation._meet(default)
    assert not propagation._meet(CompositePropagator([Tenant()]))
    assert not propagation._meet(Tenant())


def test_bytes_are_not_read() -> None:
    """A header must be text."""
    found = Propagation().extracted((("traceparent", HEADER.encode()),))
    assert not parent(found).is_valid


def parent(context: Context) -> SpanContext:
    span: Span = trace.get_current_span(context)
    return span.get_span_context()

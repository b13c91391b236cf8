"""Spans for OpenTelemetry: one for each call, with the code and category of its error, whoever started it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

from opentelemetry import trace
from opentelemetry._logs import LoggerProvider
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TracerProvider

from grpc_faultwire.category import Category, Fault, Severity
from grpc_faultwire.errors import StatusError
from grpc_faultwire.observers import names
from grpc_faultwire.observers.attributes import Beginning
from grpc_faultwire.observers.circuits import transition_event
from grpc_faultwire.observers.contexts import SPAN, SUPPRESSED, SUPPRESSING, Attached, current
from grpc_faultwire.observers.exceptions import Exceptions
from grpc_faultwire.observers.fingerprint import fingerprint
from grpc_faultwire.observers.meters import Meters
from grpc_faultwire.observers.propagation import Propagation
from grpc_faultwire.observers.semconv import STATUS_CODE, Attributes, Conventions
from grpc_faultwire.observers.span_end import SpanEnd
from grpc_faultwire.records import Attempt, CallInfo, Event, Judgement, Outcome, Side, unguarded
from grpc_faultwire.redaction import Redactor

if TYPE_CHECKING:
    from grpc_faultwire.policies import Transition

Tracing = Literal["auto", "enrich", "own", "off"]
"""Whose spans: "auto" completes the span of another instrumentation where one is recording this call, and makes its own
where none is; "enrich" and "own" do only the one or the other; "off" leaves spans alone."""

SCOPE = "grpc_faultwire"
"""Name of the instrumentation scope."""
VERSION = "1"
"""Version of what it records."""

MAX_CALLS = 2000
"""How many `CallInfo`s are remembered by identity; there is one for each method, unless an interceptor makes more."""
MAX_BREAKERS = 1000
"""How many breakers' opening spans are remembered."""

_NOTHING: AbstractContextManager[None] = nullcontext()


class OpenTelemetryObserver:
    """Makes or completes the span of each call, and optionally measures calls.

    With "auto", a trace has the same shape with opentelemetry-instrumentation-grpc and without it, inside or outside,
    in sync and aio: one SERVER span, one CLIENT span over all attempts. Where this observer makes the span, that
    instrumentation is told to keep out of the same call.

    Args:
        tracer_provider: makes the spans. None: OpenTelemetry's global one.
        meter_provider: makes the metrics. None: no metrics.
        logger_provider: makes the log records of exceptions, if OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN asks for them.
            None: OpenTelemetry's global one.
        tracing: see `Tracing`.
        attempt_spans: whether attempts are spans of their own (gRFC A72: children of kind CLIENT, linked to the one
            before; the call's own span is INTERNAL then). Default: they are events of the call's span, if there are
            several.
        metadata_keys: keys of an error's metadata that become attributes.
        exception_messages: whether records of exceptions have the exception's redacted text. Default: its type and
            stack only; the text is in the server's log under the same error id.
        redactor: decides what of a text may be recorded. Default: the default redactor.
        max_methods: methods on each side that metrics tell apart; others are "_OTHER". 500.

    Raises:
        ValueError: `tracing` is none of its values.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
        *,
        tracing: Tracing = "auto",
        attempt_spans: bool = False,
        metadata_keys: Iterable[str] = (),
        exception_messages: bool = False,
        redactor: Redactor | None = None,
        max_methods: int = 500,
    ) -> None:
        if tracing not in ("auto", "enrich", "own", "off"):
            raise ValueError(f'tracing is {tracing!r}; it must be "auto", "enrich", "own" or "off"')
        self._tracer = trace.get_tracer(SCOPE, VERSION, tracer_provider)
        self._begin = Beginning(self._tracer).start
        self._conventions = Conventions.chosen()
        self._makes = tracing in ("auto", "own")
        self._looks = tracing in ("auto", "enrich")
        self._attempt_spans = attempt_spans
        self._client_kind = SpanKind.INTERNAL if attempt_spans else SpanKind.CLIENT
        self._end = SpanEnd(self._conventions, redactor or Redactor(), frozenset(metadata_keys))
        text = self._end.text if exception_messages else None
        self._exceptions = Exceptions(logger_provider, scope=SCOPE, version=VERSION, text=text)
        self._meters = (
            Meters(meter_provider, scope=SCOPE, version=VERSION, max_methods=max_methods) if meter_provider else None
        )
        self._propagation = Propagation()
        self._methods: dict[int, _Method] = {}
        self._opened: dict[str, Event] = {}
        self._openers: dict[str, SpanContext] = {}
        # Metrics of OpenTelemetry have exemplars of their own.
        self.active_from = float("inf") if self._meters is None else 0.0
        for name in self._unused(off=tracing == "off"):
            setattr(self, name, None)  # as if it were not there: nobody tells or asks it in vain

    def _unused(self, *, off: bool) -> list[str]:
        """Return the methods that have nothing to do with these settings."""
        makes = ["intercepting", "extract", "inject", "activate"]
        tells = ["on_event", "on_attempt_end"]
        unused = [] if self._makes else makes
        unused += [] if self._attempt_spans and not off else ["on_attempt_start"]
        return unused + (tells if off and self._meters is None else [])

    # Whose span.

    @unguarded
    def intercepting(self) -> AbstractContextManager[Any]:
        """Keep instrumentation further in from making a span for the same call."""
        now = current()
        entered = Attached()
        entered.context = Context({**now, SUPPRESSED: True}) if now else SUPPRESSING
        return entered

    def on_start(self, call: CallInfo) -> _Call:
        """Find the span of a call that begins, or make it; `extract` makes a server's, whose parent it learns."""
        started = _Call()
        started.method = method = self._methods.get(id(call)) or self._remember(call)
        if self._looks:
            now = current()
            if SPAN in now:
                span = trace.get_current_span(now)
                if _is_of(span, call):
                    # Said now: grpc.aio's callers may end the span before they let anybody know of the end.
                    span.set_attribute(STATUS_CODE, "OK")
                    started.span = span
                    return started
        if self._makes:
            started.own = True
            if method.is_client:
                now = current()
                started.span = span = self._begin(method.name, now, self._client_kind, method.attributes)
                # For this call alone; but what a request iterator of grpc.aio does in its task is not traced either.
                started.context = Context({**now, SPAN: span, SUPPRESSED: True})
        return started

    def extract(self, call: _Call, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Make the span of a call on a server, unless another instrumentation has."""
        if call.own:
            method = call.method
            parent = self._propagation.extracted(metadata)
            call.span = span = self._begin(method.name, parent, SpanKind.SERVER, method.attributes)
            call.context = Context({**parent, SPAN: span})

    @unguarded
    def activate(self, call: _Call) -> AbstractContextManager[Any]:
        """Make the span current, if it was made here."""
        context = call.context
        if context is None:
            return _NOTHING
        entered = Attached()
        entered.context = context
        return entered

    # Attempts.

    def inject(self, call: _Call, _attempt: Attempt) -> Iterable[tuple[str, str]]:
        """Return the metadata that make the server's span a child of this call's."""
        context, span = call.context, call.span
        if context is None or span is None:
            # Whoever made the span has sent its own, and a second one would contradict it.
            return ()
        if call.attempt is not None:
            span, context = call.attempt, trace.set_span_in_context(call.attempt, context)
        return self._propagation.injected(span, context)

    def on_attempt_start(self, call: _Call, attempt: Attempt) -> None:
        """Make the span of an attempt, if they have any."""
        if self._attempt_spans and call.span is not None:
            before = [Link(call.attempt.get_span_context())] if call.attempt is not None else []
            span = self._tracer.start_span(
                f"Attempt.{call.method.name}",
                trace.set_span_in_context(call.span),
                SpanKind.CLIENT,
                call.method.attributes | {names.PREVIOUS_ATTEMPTS: attempt.number - 1},
                before,
            )
            if call.spans is None:
                call.spans = {}
            call.attempt = call.spans[attempt.number] = span

    def on_attempt_end(self, call: _Call, attempt: Attempt) -> None:
        """End the attempt's span; without one, tell of it if there are several."""
        if self._meters is not None:
            self._meters.attempt(call.method.call, attempt)
        span = call.spans.pop(attempt.number, None) if call.spans else None
        if span is not None:
            if span.is_recording() and attempt.error is not None:
                self._end.of_error(span, attempt.error)
            span.end()
        elif call.span is not None and (attempt.number > 1 or attempt.delay is not None):
            _add_event(call.span, names.ATTEMPT.name, _of_attempt(attempt))
        if self._opened and call.span is not None and attempt.judged is not None:
            self._find_opener(call.span, attempt.judged)

    # Events and the end.

    def on_event(self, call: _Call | None, event: Event) -> None:
        """Add a decision to the call's span; a refused call is linked to the one that opened its circuit."""
        if self._meters is not None:
            self._meters.event(call.method.call if call is not None else None, event)
        if call is None or call.span is None:
            return
        name, told = event.name, event.attributes
        if name in _FIELDS and not (told.get("decision") == "not_retryable" and told["category"] in _CALLERS_FAULTS):
            error = told.get("error")
            _add_event(call.span, name, {**told, **_of_error(error)} if isinstance(error, StatusError) else told)
            if name == names.CIRCUIT_REJECTED.name:
                opener = self._openers.get(told["breaker"])
                if opener is not None:
                    call.span.add_link(opener)

    def on_transition(self, transition: Transition) -> None:
        """Learn of a change of a breaker's state: give this to ``PolicyState.listen``.

        The call whose failure opened a circuit hears of that failure next; its span is the one that is linked to.
        """
        event = transition_event(transition)
        if self._meters is not None:
            self._meters.event(None, event)
        if event.attributes["to_state"] == "open":
            if len(self._opened) >= MAX_BREAKERS:
                self._opened.clear()
            self._opened[event.attributes["breaker"]] = event

    def _find_opener(self, span: Span, judged: Judgement) -> None:
        event = self._opened.pop(judged.breaker, None) if judged.kind == "failure" else None
        if event is not None:
            _add_event(span, event.name, dict(event.attributes))
            if len(self._openers) >= MAX_BREAKERS:
                self._openers.clear()
            self._openers[judged.breaker] = span.get_span_context()

    def on_end(self, call: _Call, outcome: Outcome) -> None:
        """Complete the span, and end it if it was made here."""
        method, span, error = call.method, call.span, outcome.error
        if self._meters is not None:
            self._meters.end(method.call, method.attributes, outcome)
        # Of a call that is simply OK, all was said when it began.
        if error is not None or outcome.recovered is not None or len(outcome.attempts) > 1:
            self._complete(call, outcome)
        if span is not None and (call.own or _is_orphan(method.call, outcome)):
            span.end()

    def _complete(self, call: _Call, outcome: Outcome) -> None:
        span, error, exception = call.span, outcome.error, outcome.exception
        side = call.method.call.side
        recording = span is not None and span.is_recording()
        mark = fingerprint(error, exception) if error is not None and (recording or exception is not None) else ""
        if span is not None and recording:
            self._end.of_call(span, side, outcome, own=call.own, fingerprint=mark)
        if error is not None and exception is not None and error.severity >= Severity.ERROR:
            self._exceptions.record(span, side, exception, mark)

    def _remember(self, call: CallInfo) -> _Method:
        method = _Method(call, self._conventions)
        if len(self._methods) >= MAX_CALLS:
            self._methods.clear()
        # It holds the CallInfo, so no other gets the same id as long as it is found here.
        self._methods[id(call)] = method
        return method


class _Method:
    """What all spans of a method begin with."""

    __slots__ = ("attributes", "call", "is_client", "name")

    def __init__(self, call: CallInfo, conventions: Conventions) -> None:
        self.call = call
        self.is_client = call.side is Side.CLIENT
        self.name = call.full_method if call.known and call.full_method else "grpc"
        self.attributes: Attributes = conventions.of_call(call)


class _Call:
    """The token: whose span, and what is current while the call takes a step."""

    # Without an __init__, as every call has one of these.
    method: _Method
    own = False
    span: Span | None = None
    context: Context | None = None
    attempt: Span | None = None
    spans: dict[int, Span] | None = None


def _is_of(span: Span, call: CallInfo) -> bool:
    """Tell whether another instrumentation made this span, which is current, for this call."""
    where = span.get_span_context()
    if not where.is_valid or where.is_remote:
        return False
    if not span.is_recording():
        # A handler starts without a span: one that is not recording was sampled out, and so must ours be. A client's
        # caller may well have one of its own; ours will be sampled as that one was.
        return call.side is Side.SERVER and isinstance(span, NonRecordingSpan)
    scope = getattr(getattr(span, "instrumentation_scope", None), "name", "")
    if call.side is Side.SERVER:
        return scope != SCOPE and getattr(span, "kind", SpanKind.SERVER) is SpanKind.SERVER
    attributes = getattr(span, "attributes", None) or {}
    is_rpc = "grpc" in (attributes.get(names.RPC_SYSTEM), attributes.get(names.RPC_SYSTEM_NAME))
    same = attributes.get(names.RPC_METHOD) in (call.method, call.full_method)
    return scope != SCOPE and is_rpc and same and getattr(span, "kind", None) is SpanKind.CLIENT


def _is_orphan(call: CallInfo, outcome: Outcome) -> bool:
    """Tell whether nobody is left to end another instrumentation's span: the task that it ran in was cancelled."""
    return outcome.how == "abandoned" and call.side is Side.CLIENT and not call.kind.response_streaming


_SIMPLE: dict[str, Callable[[Any], Any]] = {"int": int, "double": float, "string": str, "boolean": bool}
_CALLERS_FAULTS = frozenset(category.word for category in Category if category.fault is Fault.CLIENT)
"""Nobody asks why these were not retried, and the span says what they are: an event would be its dearest part."""

_NOT_ON_SPANS = (names.BUDGET.name, names.ITEM_ERROR.name)
_FIELDS = {
    event.name: [(field.name, names.NAMESPACE + field.name, _SIMPLE[field.type]) for field in event.fields]
    for event in names.EVENTS
    if event.name not in _NOT_ON_SPANS
}
"""Of each event on spans: a field's name, its attribute's, and what makes it fit for one."""


def _add_event(span: Span, name: str, told: Mapping[str, Any]) -> None:
    if span.is_recording():
        attributes = {
            attribute: simple(told[field]) for field, attribute, simple in _FIELDS[name] if told.get(field) is not None
        }
        span.add_event(names.NAMESPACE + name, attributes)


def _of_attempt(attempt: Attempt) -> Attributes:
    told: Attributes = {"attempt": attempt.number, "hedge": attempt.hedge, "code": "OK"}
    if attempt.ended is not None:
        told["seconds"] = attempt.ended - attempt.started
    return told | (_of_error(attempt.error) if attempt.error is not None else {})


def _of_error(error: StatusError) -> Attributes:
    return {
        "code": error.code()._name_,
        "category": error.category._name_.lower(),
        "reason": error.reason,
        "error_id": error.error_id,
    }

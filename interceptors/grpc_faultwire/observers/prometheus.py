"""Metrics for Prometheus: go-grpc-middleware's, so that its dashboards work unchanged; errors by category; policies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from prometheus_client import REGISTRY, CollectorRegistry

from grpc_faultwire.category import Fault, Severity, meaning
from grpc_faultwire.errors import StatusError
from grpc_faultwire.observers import names, naming
from grpc_faultwire.observers.circuits import transition_event
from grpc_faultwire.observers.current import current_span
from grpc_faultwire.observers.instruments import instruments
from grpc_faultwire.observers.labels import Labels
from grpc_faultwire.observers.series import Add, adding, observing
from grpc_faultwire.records import OK, Attempt, CallInfo, Event, Kind, Outcome, Side

if TYPE_CHECKING:
    from grpc_faultwire.policies import Transition

LabelStyle = Literal["go", "python"]
"""How grpc_type and grpc_code are spelled: "unary" and "NotFound", or "UNARY" and "NOT_FOUND" (py-grpc-prometheus)."""

MAX_CALLS = 2000
"""How many `CallInfo`s are remembered by identity; there is one for each method, unless an interceptor makes more."""


class PrometheusObserver:
    """Counts calls, messages, errors and decisions; the names are in `names`, and in docs/telemetry.md.

    One may watch servers and channels alike, and several may share a registry.

    Args:
        registry: where the metrics are registered. Default: prometheus_client's own.
        label_style: see `LabelStyle`. Default: "go", as go-grpc-middleware.
        buckets: upper bounds of the buckets of durations, in seconds. Default: OpenTelemetry's, 5 ms to 10 s.
        services: descriptors of the services served: their series exist from the start, at 0 for OK and for faults of
            the server, so that the first error shows in a rate. See `declare` for a client's.
        max_methods: methods on each side beyond those declared that get labels of their own; others are "_OTHER". 500.
        reasons: reasons that get labels of their own beside those that catalogues declare.
        max_reasons: declared reasons that get labels of their own. 500.
        max_exception_types: types of exceptions that do. 64.
        max_breakers: breakers, and targets, that do. 100.
        exemplars: whether errors and slow calls carry the ids of a sampled span: those counted by category all, other
            series once a second. Only OpenMetrics shows them, and prometheus_client's multiprocess mode does not.
        slow: seconds from which a call that succeeded is slow. 1.

    Raises:
        ValueError: a label style that is none; a limit below 0; a registry where another library has metrics of these
            names, or with other buckets.
    """

    def __init__(
        self,
        registry: CollectorRegistry = REGISTRY,
        *,
        label_style: LabelStyle = "go",
        buckets: Iterable[float] = naming.SECONDS,
        services: Iterable[ServiceDescriptor] = (),
        max_methods: int = 500,
        reasons: Iterable[str] = (),
        max_reasons: int = 500,
        max_exception_types: int = 64,
        max_breakers: int = 100,
        exemplars: bool = True,
        slow: float = 1.0,
    ) -> None:
        if label_style not in ("go", "python"):
            raise ValueError(f'label_style is {label_style!r}; it must be "go" or "python"')
        self._instruments = instruments(registry, tuple(buckets))
        self._labels = Labels(
            self._overflowed,
            max_methods=max_methods,
            reasons=reasons,
            max_reasons=max_reasons,
            max_exception_types=max_exception_types,
            max_breakers=max_breakers,
        )
        self._overflows: dict[str, Any] = {}
        self._circuit_calls: dict[tuple[str, str], Add] = {}
        self._go = label_style == "go"
        self._exemplars = exemplars
        self._slow = slow if exemplars else float("inf")
        self.active_from = self._slow
        self._calls: dict[int, tuple[CallInfo, _Method]] = {}
        self._methods: dict[tuple[Side, Kind, str, str], _Method] = {}
        self._on_events: dict[str, Callable[[_Method | None, Any], None]] = {
            names.RETRY.name: self._on_retry,
            names.RETRY_STOPPED.name: self._on_retry_stopped,
            names.BUDGET.name: self._on_budget,
            names.CIRCUIT_REJECTED.name: self._on_circuit_rejected,
            names.CIRCUIT_TRANSITION.name: self._on_circuit_transition,
            names.CIRCUIT_CALL.name: self._on_circuit_call,
            names.HEDGE.name: self._on_hedge,
            names.FALLBACK.name: self._on_fallback,
            names.ITEM_ERROR.name: self._on_item_error,
            names.BATCH.name: self._on_batch,
        }
        self.declare(*services)

    def declare(self, *services: ServiceDescriptor, side: Side = Side.SERVER) -> None:
        """Make the series of these services' methods, at 0; their labels do not count towards `max_methods`.

        Args:
            services: such as ``shop_pb2.DESCRIPTOR.services_by_name["Shop"]``.
            side: which side's.
        """
        for service in services:
            self._labels.declare(f"{service.full_name}/{method.name}" for method in service.methods)
            for method in service.methods:
                kind = Kind.of(request_streaming=method.client_streaming, response_streaming=method.server_streaming)
                self._of(CallInfo(service=service.full_name, method=method.name, kind=kind, side=side)).initialise()

    # What the observer is told.

    def on_start(self, call: CallInfo) -> _Method:
        """Count a call that begins. The token is the method's: no call has anything of its own here."""
        known = self._calls.get(id(call))
        method = known[1] if known is not None else self._remember(call)
        method.started(1)
        return method

    def on_message(self, method: _Method, direction: Literal["sent", "received"]) -> None:
        """Count a message."""
        (method.sent if direction == "sent" else method.received)(1)

    def on_attempt_end(self, method: _Method, attempt: Attempt) -> None:
        """Count an attempt."""
        kind = "first" if attempt.number == 1 else "hedge" if attempt.hedge else "retry"
        key = kind if attempt.error is None else (kind, attempt.error.code())
        took = method.attempts.get(key) or method.attempt(key)
        took(max((attempt.ended or attempt.started) - attempt.started, 0.0))

    def on_event(self, method: _Method | None, event: Event) -> None:
        """Count a decision. Without a call (the token is None) only breakers and budgets are of interest."""
        count = self._on_events.get(event.name)
        if count is not None:
            count(method, event.attributes)

    def on_transition(self, transition: Transition) -> None:
        """Count a change of a breaker's state: give this to ``PolicyState.listen``."""
        self.on_event(None, transition_event(transition))

    def on_end(self, method: _Method, outcome: Outcome) -> None:
        """Count a call that ended."""
        if outcome.error is None and outcome.seconds < self._slow:
            method.succeeded(outcome.seconds)
        else:
            method.in_flight(-1)
            exemplar = self._exemplar()
            # A scrape sees the last one of a series, and each costs more than all counting.
            often = exemplar if exemplar is None or method.is_due(time.monotonic()) else None
            handled = method.handled(outcome.code)
            if often is None:
                adding(handled)(1)
                method.took(outcome.seconds)
            else:
                handled.inc(1, often)
                method.seconds.observe(outcome.seconds, often)
            if outcome.error is not None:
                errors = method.error(outcome.error)
                adding(errors)(1) if exemplar is None else errors.inc(1, exemplar)
        if outcome.exception is not None or outcome.recovered is not None:
            self._behind(method, outcome)
        if len(outcome.attempts) > 1:
            retries = sum(1 for attempt in outcome.attempts if attempt.number > 1 and not attempt.hedge)
            if retries:
                method.child("retries").observe(retries)

    # How it is counted.

    def _remember(self, call: CallInfo) -> _Method:
        method = self._of(call)
        if len(self._calls) >= MAX_CALLS:
            self._calls.clear()
        self._calls[id(call)] = call, method
        return method

    def _of(self, call: CallInfo) -> _Method:
        key = (call.side, call.kind, *self._labels.method(call))
        method = self._methods.get(key)
        if method is None:
            method = _Method(self._instruments.sides[call.side], self._labels, key, go=self._go)
            # Two threads may come here at once; the children that they find are the same.
            method = self._methods.setdefault(key, method)
        return method

    def _overflowed(self, label: str) -> None:
        found = self._overflows.get(label)
        if found is None:
            found = self._overflows[label] = self._instruments.common["overflow"].labels(label)
        found.inc()

    def _exemplar(self) -> dict[str, str] | None:
        span = current_span() if self._exemplars else None
        return {"trace_id": span.trace_id, "span_id": span.span_id} if span is not None and span.sampled else None

    def _behind(self, method: _Method, outcome: Outcome) -> None:
        """Count what the outcome's code does not show."""
        error = outcome.error or outcome.recovered
        if outcome.recovered is not None and method.side is Side.SERVER:  # a client's fallbacks are events
            method.child("recovered", outcome.recovered.category.name.lower()).inc()
        self._unhandled(method, error, outcome.exception)

    def _unhandled(self, method: _Method, error: StatusError | None, exception: BaseException | None) -> None:
        if exception is not None and error is not None and error.severity >= Severity.ERROR:
            method.child("unhandled", self._labels.exception_type(type(exception).__qualname__)).inc()

    def _on_retry(self, method: _Method | None, event: Any) -> None:
        if method is not None:
            method.child("decisions", "retried").inc()
            method.child("retry_delay").observe(event["delay"])

    def _on_retry_stopped(self, method: _Method | None, event: Any) -> None:
        if method is not None:
            method.child("decisions", self._labels.word(event["decision"])).inc()

    def _on_hedge(self, method: _Method | None, event: Any) -> None:
        if method is not None:
            method.child("hedges", self._labels.word(event["result"])).inc()

    def _on_fallback(self, method: _Method | None, event: Any) -> None:
        if method is not None:
            method.child("fallbacks", self._labels.word(event["category"]), self._labels.word(event["result"])).inc()

    def _on_item_error(self, method: _Method | None, event: Any) -> None:
        if method is not None and method.side is Side.SERVER:
            self._unhandled(method, event["error"], event["exception"])

    def _on_batch(self, method: _Method | None, event: Any) -> None:
        if method is None or method.side is not Side.SERVER:
            return
        for category, count in event["failures"].items():
            method.child("batch_items", "failed", self._labels.word(category)).inc(count)
        for result in ("ok", "interrupted", "not_attempted", "rolled_back"):
            if event[result]:
                method.child("batch_items", result, "none").inc(event[result])

    def _on_budget(self, _method: _Method | None, event: Any) -> None:
        self._client("budget_tokens", self._labels.target(str(event["target"]))).set(event["tokens"])

    def _on_circuit_rejected(self, method: _Method | None, event: Any) -> None:
        if method is not None:
            breaker = self._labels.breaker(str(event["breaker"]))
            count = method.rejections.get(breaker)
            if count is None:
                series = self._client("circuit_rejections", breaker, method.service, method.method)
                count = method.rejections[breaker] = adding(series)
            count(1)

    def _on_circuit_transition(self, _method: _Method | None, event: Any) -> None:
        breaker = self._labels.breaker(str(event["breaker"]))
        before, after = self._labels.word(event["from_state"]), self._labels.word(event["to_state"])
        self._client("circuit_transitions", breaker, before, after).inc()
        self._client("circuit_state", breaker, before).set(0)
        self._client("circuit_state", breaker, after).set(1)

    def _on_circuit_call(self, _method: _Method | None, event: Any) -> None:
        key = event["breaker"], event["kind"]
        count = self._circuit_calls.get(key)
        if count is None:
            labels = self._labels.breaker(str(key[0])), self._labels.word(key[1])
            count = adding(self._client("circuit_calls", *labels))
            if labels == key:  # what stands for values that are too many is counted each time
                self._circuit_calls[key] = count
        count(1)

    def _client(self, key: str, *labels: str) -> Any:
        return self._instruments.sides[Side.CLIENT][key].labels(*labels)


class _Method:
    """The series of one method on one side, each resolved when it is first needed."""

    __slots__ = (
        "_children",
        "_errors",
        "_exemplar_at",
        "_go",
        "_handled",
        "_instruments",
        "_labels",
        "_type",
        "attempts",
        "in_flight",
        "method",
        "received",
        "rejections",
        "seconds",
        "sent",
        "service",
        "side",
        "started",
        "succeeded",
        "took",
    )

    def __init__(
        self, instruments: dict[str, Any], labels: Labels, key: tuple[Side, Kind, str, str], *, go: bool
    ) -> None:
        self.side, kind, self.service, self.method = key
        self._instruments = instruments
        self._labels = labels
        self._go = go
        self._type = kind.value if go else kind.name
        typed = self._type, self.service, self.method
        in_flight = instruments["in_flight"].labels(self.service, self.method)
        self.in_flight = adding(in_flight)
        self.started = adding(instruments["started"].labels(*typed), in_flight)
        self.seconds = instruments["seconds"].labels(*typed)
        self.took = observing(self.seconds)
        self.received = adding(instruments["received"].labels(*typed))
        self.sent = adding(instruments["sent"].labels(*typed))
        self.attempts: dict[Any, Add] = {}
        self.rejections: dict[str, Add] = {}
        self._handled: dict[grpc.StatusCode, Any] = {}
        self._errors: dict[tuple[Any, ...], Any] = {}
        self._exemplar_at = float("-inf")
        self._children: dict[tuple[str, ...], Any] = {}
        self.succeeded = observing(self.seconds, (self.handled(OK), 1), (in_flight, -1))

    def is_due(self, now: float) -> bool:
        """Tell whether the last exemplar is a second old.

        Args:
            now: seconds that never go back.
        """
        if now - self._exemplar_at < 1.0:
            return False
        self._exemplar_at = now
        return True

    def initialise(self) -> None:
        """Make the series of what may go wrong here, at 0: a rate does not see a series begin."""
        for code in grpc.StatusCode:
            means = meaning(code.value[0])
            if code is not OK and means.category.fault is Fault.SERVER:
                self.handled(code)
                self._error(code, means.category.name.lower(), "server", code.name, "raised")

    def handled(self, code: grpc.StatusCode) -> Any:
        """Return the counter of calls that ended with this code."""
        found = self._handled.get(code)
        if found is None:
            labels = self._type, self.service, self.method, self._code(code)
            found = self._handled[code] = self._instruments["handled"].labels(*labels)
        return found

    def error(self, error: StatusError) -> Any:
        """Return the counter of errors like this one."""
        category, reason = error.category, self._labels.reason(error)
        # By identity: an enum's hash is a function in Python.
        key = id(error.code()), id(category), reason, id(error.origin)
        found = self._errors.get(key)
        if found is None:
            words = category.name.lower(), category.fault.name.lower(), reason, error.origin.value
            found = self._errors[key] = self._error(error.code(), *words)
        return found

    def attempt(self, key: Any) -> Add:
        """Return what takes the seconds of attempts like one, and counts them.

        Args:
            key: "first", "retry" or "hedge" for one that ended with OK; a pair of that and the code for another.
        """
        kind, code = key if isinstance(key, tuple) else (key, OK)
        count = self._instruments["attempts"].labels(self.service, self.method, self._code(code), kind)
        took = self.attempts[key] = observing(self.child("attempt_seconds"), (count, 1))
        return took

    def child(self, key: str, *labels: str) -> Any:
        """Return a series of this method by the name of its metric and its further labels."""
        found = self._children.get((key, *labels))
        if found is None:
            found = self._instruments[key].labels(self.service, self.method, *labels)
            self._children[(key, *labels)] = found
        return found

    def _error(self, code: grpc.StatusCode, *labels: str) -> Any:
        given = labels if self.side is Side.CLIENT else labels[:-1]
        return self._instruments["errors"].labels(self.service, self.method, self._code(code), *given)

    def _code(self, code: grpc.StatusCode) -> str:
        return names.GO_CODES[code.name] if self._go else str(code.name)

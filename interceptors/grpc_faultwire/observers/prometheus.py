"""Metrics for Prometheus: go-grpc-middleware's, so that its dashboards work unchanged; errors by category; policies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

from google.protobuf.descriptor import ServiceDescriptor
from prometheus_client import REGISTRY, CollectorRegistry

from grpc_faultwire.category import Severity
from grpc_faultwire.errors import StatusError
from grpc_faultwire.observers import names, naming
from grpc_faultwire.observers.circuits import transition_event
from grpc_faultwire.observers.current import current_span
from grpc_faultwire.observers.instruments import instruments
from grpc_faultwire.observers.labels import Labels
from grpc_faultwire.observers.method_series import MAX_JUDGEMENTS, MethodSeries
from grpc_faultwire.observers.series import Add, adding
from grpc_faultwire.records import CallInfo, Event, Judgement, Kind, Outcome, Side

if TYPE_CHECKING:
    from grpc_faultwire.policies import Transition

LabelStyle = Literal["go", "python"]
"""How grpc_type and grpc_code are spelled: "unary" and "NotFound", or "UNARY" and "NOT_FOUND" (py-grpc-prometheus)."""

EXEMPLAR_SECONDS = 1.0
"""How old a series' exemplar is at least when it is replaced: a scrape sees the last one."""

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
        exemplars: whether errors and slow calls carry the ids of a sampled span: each series takes one a second at
            most. Only OpenMetrics shows them, and prometheus_client's multiprocess mode does not.
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
        self._overflows: dict[str, Add] = {}
        self._budgets: dict[str, Any] = {}
        self._judgements: dict[Judgement, Add] = {}
        self._go = label_style == "go"
        self._exemplars = exemplars
        self._slow = slow if exemplars else float("inf")
        self.active_from = self._slow
        self._calls: dict[int, tuple[CallInfo, MethodSeries]] = {}
        self._methods: dict[tuple[Side, Kind, str, str], MethodSeries] = {}
        self._on_events: dict[str, Callable[[MethodSeries | None, Any], None]] = {
            names.RETRY.name: self._on_retry,
            names.RETRY_STOPPED.name: self._on_retry_stopped,
            names.BUDGET.name: self._on_budget,
            names.CIRCUIT_REJECTED.name: self._on_circuit_rejected,
            names.CIRCUIT_TRANSITION.name: self._on_circuit_transition,
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

    def on_start(self, call: CallInfo) -> MethodSeries:
        """Count a call that begins. The token is the method's: no call has anything of its own here."""
        known = self._calls.get(id(call))
        method = known[1] if known is not None else self._remember(call)
        method.started(1)
        return method

    def on_message(self, method: MethodSeries, direction: Literal["sent", "received"]) -> None:
        """Count a message of a stream."""
        (method.sent if direction == "sent" else method.received)(1)

    def on_event(self, method: MethodSeries | None, event: Event) -> None:
        """Count a decision. Without a call (the token is None) only breakers and budgets are of interest."""
        count = self._on_events.get(event.name)
        if count is not None:
            count(method, event.attributes)

    def on_transition(self, transition: Transition) -> None:
        """Count a change of a breaker's state: give this to ``PolicyState.listen``."""
        self.on_event(None, transition_event(transition))

    def on_end(self, method: MethodSeries, outcome: Outcome) -> None:
        """Count a call that ended, and its attempts."""
        attempts = outcome.attempts
        if (
            outcome.error is None
            and outcome.recovered is None
            and outcome.seconds < self._slow
            and len(attempts) == method.attempts
        ):
            judged = attempts[0].judged if attempts else None
            (method.usual.get(judged) or self._usually(method, judged))(outcome.seconds)
        else:
            self._unusually(method, outcome)

    # How it is counted.

    def _usually(self, method: MethodSeries, judged: Judgement | None) -> Add:
        """Return what counts a call that ended with OK at once, and was quick."""
        if judged is None:
            return method.usually(None)
        if len(method.usual) < MAX_JUDGEMENTS:
            breaker = self._labels.breaker(judged.breaker)
            calls = self._client("circuit_calls", breaker, judged.kind)
            if breaker == judged.breaker:
                return method.usually(judged, (calls, 1))
            calls.inc()  # what stands for values that are too many is counted each time
        else:
            self._judged(judged)
        return method.usual.get(None) or method.usually(None)

    def _unusually(self, method: MethodSeries, outcome: Outcome) -> None:
        errors = None if outcome.error is None else method.error(outcome.error)
        answered = errors is None and (outcome.recovered is None or method.side is Side.SERVER)
        # A scrape sees the last exemplar of a series, and each costs more than all counting.
        before = time.monotonic() - EXEMPLAR_SECONDS
        due = method.exemplar_at <= before or (errors is not None and errors.exemplar_at <= before)
        exemplar = self._exemplar() if due else None
        if exemplar is None or method.exemplar_at > before:
            method.ending(outcome.code, answered=answered)(outcome.seconds)
        else:
            method.exemplar_at = before + EXEMPLAR_SECONDS
            method.ended(outcome, exemplar, answered=answered)
        if errors is not None:
            if exemplar is None or errors.exemplar_at > before:
                errors.add(1)
            else:
                errors.exemplar_at = before + EXEMPLAR_SECONDS
                errors.series.inc(1, exemplar)
        if outcome.exception is not None or outcome.recovered is not None:
            self._behind(method, outcome)
        retries = 0
        for attempt in outcome.attempts:
            method.attempt(attempt)
            if attempt.judged is not None:
                self._judged(attempt.judged)
            retries += attempt.number > 1 and not attempt.hedge
        if retries:
            method.child("retries").observe(retries)

    def _remember(self, call: CallInfo) -> MethodSeries:
        method = self._of(call)
        if len(self._calls) >= MAX_CALLS:
            self._calls.clear()
        self._calls[id(call)] = call, method
        return method

    def _of(self, call: CallInfo) -> MethodSeries:
        key = (call.side, call.kind, *self._labels.method(call))
        method = self._methods.get(key)
        if method is None:
            method = MethodSeries(self._instruments.sides[call.side], self._labels, key, go=self._go)
            # Two threads may come here at once; the children that they find are the same.
            method = self._methods.setdefault(key, method)
        return method

    def _overflowed(self, label: str) -> None:
        count = self._overflows.get(label)
        if count is None:
            count = self._overflows[label] = adding(self._instruments.common["overflow"].labels(label))
        count(1)

    def _exemplar(self) -> dict[str, str] | None:
        span = current_span() if self._exemplars else None
        return {"trace_id": span.trace_id, "span_id": span.span_id} if span is not None and span.sampled else None

    def _behind(self, method: MethodSeries, outcome: Outcome) -> None:
        """Count what the outcome's code does not show."""
        error = outcome.error or outcome.recovered
        if outcome.recovered is not None and method.side is Side.SERVER:  # a client's fallbacks are events
            method.child("recovered", outcome.recovered.category.word).inc()
        self._unhandled(method, error, outcome.exception)

    def _unhandled(self, method: MethodSeries, error: StatusError | None, exception: BaseException | None) -> None:
        if exception is not None and error is not None and error.severity >= Severity.ERROR:
            method.child("unhandled", self._labels.exception_type(type(exception).__qualname__)).inc()

    def _on_retry(self, method: MethodSeries | None, event: Any) -> None:
        if method is not None:
            method.child("decisions", "retried").inc()
            method.child("retry_delay").observe(event["delay"])

    def _on_retry_stopped(self, method: MethodSeries | None, event: Any) -> None:
        if method is not None:
            method.counter("decisions", self._labels.word(event["decision"]))(1)

    def _on_hedge(self, method: MethodSeries | None, event: Any) -> None:
        if method is not None:
            method.child("hedges", self._labels.word(event["result"])).inc()

    def _on_fallback(self, method: MethodSeries | None, event: Any) -> None:
        if method is not None:
            method.child("fallbacks", self._labels.word(event["category"]), self._labels.word(event["result"])).inc()

    def _on_item_error(self, method: MethodSeries | None, event: Any) -> None:
        if method is not None and method.side is Side.SERVER:
            self._unhandled(method, event["error"], event["exception"])

    def _on_batch(self, method: MethodSeries | None, event: Any) -> None:
        if method is None or method.side is not Side.SERVER:
            return
        for category, count in event["failures"].items():
            method.child("batch_items", "failed", self._labels.word(category)).inc(count)
        for result in ("ok", "interrupted", "not_attempted", "rolled_back"):
            if event[result]:
                method.child("batch_items", result, "none").inc(event[result])

    def _on_budget(self, _method: MethodSeries | None, event: Any) -> None:
        target = self._labels.target(str(event["target"]))
        tokens = self._budgets.get(target)
        if tokens is None:
            tokens = self._budgets[target] = self._client("budget_tokens", target)
        tokens.set(event["tokens"])

    def _on_circuit_rejected(self, method: MethodSeries | None, event: Any) -> None:
        if method is not None:
            given = str(event["breaker"])
            count = method.rejections.get(given)
            if count is None:
                breaker = self._labels.breaker(given)
                count = adding(self._client("circuit_rejections", breaker, method.service, method.method))
                if breaker == given:  # what stands for values that are too many is counted each time
                    method.rejections[given] = count
            count(1)

    def _on_circuit_transition(self, _method: MethodSeries | None, event: Any) -> None:
        breaker = self._labels.breaker(str(event["breaker"]))
        before, after = self._labels.word(event["from_state"]), self._labels.word(event["to_state"])
        self._client("circuit_transitions", breaker, before, after).inc()
        self._client("circuit_state", breaker, before).set(0)
        self._client("circuit_state", breaker, after).set(1)

    def _judged(self, judged: Judgement) -> None:
        """Count what a breaker made of an attempt."""
        count = self._judgements.get(judged)
        if count is None:
            breaker = self._labels.breaker(judged.breaker)
            count = adding(self._client("circuit_calls", breaker, judged.kind))
            if breaker == judged.breaker:  # as above
                self._judgements[judged] = count
        count(1)

    def _client(self, key: str, *labels: str) -> Any:
        return self._instruments.sides[Side.CLIENT][key].labels(*labels)

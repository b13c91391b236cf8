"""OpenTelemetry's metrics of calls: rpc.*.call.duration, and gRFC A66's and A96's of attempts and retries."""

from __future__ import annotations

import sys
from typing import Any

from opentelemetry.metrics import MeterProvider

from grpc_faultwire.observers import names
from grpc_faultwire.observers.labels import Labels
from grpc_faultwire.observers.naming import Metric
from grpc_faultwire.observers.semconv import STATUS_CODE, Attributes, is_error
from grpc_faultwire.records import OK, Attempt, CallInfo, Event, Outcome, Side

UNITS = {names.CALL_RETRIES.name: "{retry}", names.CIRCUIT_TRANSITIONS.name: "{transition}"}


class Meters:
    """The instruments of one observer.

    Args:
        provider: makes them.
        scope: name of the instrumentation scope.
        version: its version.
        max_methods: methods on each side that get attribute values of their own; others are "_OTHER".
    """

    def __init__(self, provider: MeterProvider, *, scope: str, version: str, max_methods: int) -> None:
        meter = provider.get_meter(scope, version)
        self._labels = Labels(lambda _label: None, max_methods=max_methods)

        def histogram(metric: Metric) -> Any:
            unit = UNITS.get(metric.name, "s")
            return meter.create_histogram(
                metric.name, unit, metric.help, explicit_bucket_boundaries_advisory=metric.buckets
            )

        def counter(metric: Metric) -> Any:
            return meter.create_counter(metric.name, UNITS.get(metric.name, "{call}"), metric.help)

        self._durations = {
            Side.SERVER: histogram(names.SERVER_CALL_DURATION),
            Side.CLIENT: histogram(names.CLIENT_CALL_DURATION),
        }
        # grpcio-observability makes gRPC's own metrics in the core; two sources of one name would add up.
        taken = "grpc_observability" in sys.modules
        self._attempts = None if taken else histogram(names.ATTEMPT_DURATION)
        self._retries = None if taken else histogram(names.CALL_RETRIES)
        self._retry_delay = None if taken else histogram(names.CALL_RETRY_DELAY)
        self._transitions = counter(names.CIRCUIT_TRANSITIONS)
        self._rejections = counter(names.CIRCUIT_REJECTIONS)

    def method(self, call: CallInfo) -> str:
        """Return the name of a method as attributes have it."""
        service, method = self._labels.method(call)
        return method if service == names.OTHER or not service else f"{service}/{method}"

    def end(self, call: CallInfo, started: Attributes, outcome: Outcome) -> None:
        """Record a call that ended.

        Args:
            call: what was called.
            started: what the call's span began with.
            outcome: how it ended.
        """
        method = self.method(call)
        attributes: Attributes = {names.RPC_SYSTEM_NAME: "grpc", names.RPC_METHOD: method}
        attributes[STATUS_CODE] = outcome.code.name
        for key in (names.SERVER_ADDRESS, names.SERVER_PORT):
            if key in started:
                attributes[key] = started[key]
        if outcome.error is not None:
            attributes[names.CATEGORY] = outcome.error.category.name.lower()
            if is_error(call.side, outcome.code):
                attributes[names.ERROR_TYPE] = (
                    self._labels.reason(outcome.error) if refused(outcome) else outcome.code.name
                )
        self._durations[call.side].record(outcome.seconds, attributes)
        if len(outcome.attempts) > 1 and self._retries is not None and self._retry_delay is not None:
            attributes = {"grpc.method": method, "grpc.target": call.target}
            retries = sum(1 for attempt in outcome.attempts if attempt.number > 1 and not attempt.hedge)
            if retries:
                self._retries.record(retries, attributes)
                delays = sum(attempt.delay or 0.0 for attempt in outcome.attempts[:-1])
                self._retry_delay.record(delays, attributes)

    def attempt(self, call: CallInfo, attempt: Attempt) -> None:
        """Record an attempt that ended."""
        if self._attempts is not None and attempt.ended is not None:
            code = OK if attempt.error is None else attempt.error.code()
            attributes = {"grpc.method": self.method(call), "grpc.target": call.target, "grpc.status": code.name}
            self._attempts.record(max(attempt.ended - attempt.started, 0.0), attributes)

    def event(self, call: CallInfo | None, event: Event) -> None:
        """Count what a breaker did."""
        told = event.attributes
        if event.name == names.CIRCUIT_TRANSITION.name:
            attributes = {key: str(told[key]) for key in ("from_state", "to_state")}
            self._transitions.add(1, attributes | {"breaker": self._labels.breaker(str(told["breaker"]))})
        elif event.name == names.CIRCUIT_REJECTED.name and call is not None:
            breaker = self._labels.breaker(str(told["breaker"]))
            self._rejections.add(1, {"breaker": breaker, names.RPC_METHOD: self.method(call)})


def refused(outcome: Outcome) -> bool:
    """Tell whether a call ended before any status could come: its error's type is then what kept it from one."""
    return outcome.how == "refused"

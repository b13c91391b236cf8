"""Exceptions behind errors, as OpenTelemetry has them: an event of the span, a log record, or both.

``OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN`` chooses: "logs" for log records alone, "logs/dup" for both; without either of
them they are events of spans. A log record is written whether or not the span is sampled.
"""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

from opentelemetry import trace
from opentelemetry._logs import Logger, LoggerProvider, SeverityNumber, get_logger
from opentelemetry.trace import Span

from grpc_faultwire import stack
from grpc_faultwire.observers import names
from grpc_faultwire.observers.semconv import Attributes
from grpc_faultwire.records import Side

MAX_STACK = 8192
"""Characters that a stack may have."""
MAX_STACKS = 256
"""How many formatted stacks are kept by fingerprint."""

OPT_IN = "OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN"

_SEVERITIES = {Side.SERVER: SeverityNumber.ERROR, Side.CLIENT: SeverityNumber.WARN}
_LOGGER = logging.getLogger(__name__)


class Signals(NamedTuple):
    """Where exceptions are recorded.

    Attributes:
        spans: as events of spans.
        logs: as log records.
    """

    spans: bool
    logs: bool

    @classmethod
    def chosen(cls, environ: Mapping[str, str] = os.environ, *, capable: bool = True) -> Signals:
        """Return what the environment asks for.

        Args:
            environ: the variables.
            capable: whether the API can write log records that are events; if not, spans have them, and a line says so.
        """
        asked = {word.strip() for word in environ.get(OPT_IN, "").split(",")} & {"logs", "logs/dup"}
        if asked and not capable:
            _LOGGER.warning("%s is set, but this opentelemetry-api is too old for it (1.38 is not)", OPT_IN)
            return cls(spans=True, logs=False)
        return cls(spans=not asked or "logs/dup" in asked, logs=bool(asked))


class Exceptions:
    """Records exceptions. One serves an observer.

    Args:
        provider: makes the logger. None: OpenTelemetry's global one.
        scope: name of the instrumentation scope.
        version: its version.
        text: makes a text fit to be recorded. None: texts of exceptions are not.
    """

    def __init__(
        self, provider: LoggerProvider | None, *, scope: str, version: str, text: Callable[[str], str] | None
    ) -> None:
        capable = "event_name" in inspect.signature(Logger.emit).parameters
        self._signals = Signals.chosen(capable=capable)
        self._logger = get_logger(scope, version, logger_provider=provider) if self._signals.logs else None
        self._text = text
        self._stacks: dict[str, str] = {}

    def record(self, span: Span | None, side: Side, exception: BaseException, fingerprint: str) -> None:
        """Record an exception.

        Args:
            span: the call's; None: it has none.
            side: which end this is.
            exception: what was raised.
            fingerprint: the same for exceptions whose stacks are the same.
        """
        recording = span is not None and span.is_recording() and self._signals.spans
        if not recording and self._logger is None:
            return
        attributes: Attributes = {
            names.EXCEPTION_TYPE: name(exception),
            names.EXCEPTION_STACKTRACE: self._stack(exception, fingerprint),
        }
        if self._text is not None:
            attributes[names.EXCEPTION_MESSAGE] = self._text(stack.describe(exception))
        if span is not None and recording:
            span.add_event(names.EXCEPTION, attributes)
        if self._logger is not None:
            # Without `exception=`: of that, the SDK would write the text and the whole stack.
            self._logger.emit(
                context=None if span is None else trace.set_span_in_context(span),
                severity_number=_SEVERITIES[side],
                attributes=attributes,
                event_name=names.EXCEPTION_LOGS[side.value],
            )

    def _stack(self, exception: BaseException, fingerprint: str) -> str:
        text = self._stacks.get(fingerprint)
        if text is None:
            parts = [[name(one), *(f"  {frame}" for frame in stack.frames(one))] for one in stack.chain(exception)]
            text = "\ncaused by ".join("\n".join(part) for part in parts)[:MAX_STACK]
            if len(self._stacks) >= MAX_STACKS:
                self._stacks.clear()
            self._stacks[fingerprint] = text
        return text


def name(exception: BaseException) -> str:
    """Return the full name of an exception's class."""
    module = type(exception).__module__
    qualified = type(exception).__qualname__
    return qualified if module == "builtins" else f"{module}.{qualified}"

"""One line for each error that left a server: level by severity, escaped, redacted, with the id that its caller got."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from grpc_faultwire import stack
from grpc_faultwire.category import Severity
from grpc_faultwire.errors import StatusError
from grpc_faultwire.observers import names
from grpc_faultwire.observers.current import current_span
from grpc_faultwire.observers.fingerprint import fingerprint
from grpc_faultwire.observers.repeats import Repeats
from grpc_faultwire.records import CallInfo, Event, Outcome, errors_only
from grpc_faultwire.redaction import Redactor, escaped

_LEVELS = {
    Severity.DEBUG: logging.DEBUG,
    Severity.INFO: logging.INFO,
    Severity.WARNING: logging.WARNING,
    Severity.ERROR: logging.ERROR,
    Severity.CRITICAL: logging.CRITICAL,
}


class LoggingObserver:
    """Logs every call that failed, and every error in whose place an answer was given.

    The text and stack of an exception that its error does not show go here and nowhere else, and only into lines at
    ERROR and above. The fields of a line are also there as `extra`, for structured logs: see `names.LOG_FIELDS`.

    Of errors with the same fingerprint, the first five show their text and stack, then the 8th, 16th, 32nd, …, and one
    a minute; `suppressed` says how many did not. A text that differs from the last one shown is always there. So is
    every line whose error id a caller was given; errors without one (a server that cannot be reached) are suppressed
    whole.

    Args:
        logger: where lines go. Default: the logger "grpc_faultwire.errors".
        redactor: decides what of a text may be logged. Default: the default redactor.
        repeats: seconds after which a repeated error is shown in full again. 60. None: every line is in full.
        clock: returns seconds that never go back.

    Raises:
        ValueError: `repeats` is not above 0.
    """

    def __init__(
        self,
        logger: logging.Logger | None = None,
        *,
        redactor: Redactor | None = None,
        repeats: float | None = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger or logging.getLogger("grpc_faultwire.errors")
        self._redactor = redactor or Redactor()
        self._repeats = Repeats(repeats) if repeats is not None else None
        self._clock = clock
        self._shown: dict[str, str] = {}

    @errors_only
    def on_end(self, call: CallInfo, outcome: Outcome) -> None:
        """Log an error."""
        error = outcome.error or outcome.recovered
        if error is None:
            return
        level = _LEVELS[error.severity]
        if self._logger.isEnabledFor(level):
            fields = self._fields(call, outcome, error)
            if self._complete(fields, outcome.exception if level >= logging.ERROR else None):
                self._write(level, fields)
            self.flush(now=self._clock())

    def on_event(self, call: CallInfo, event: Event) -> None:
        """Log how many items of a partial success failed, at the highest of their severities; repeats as of errors."""
        told = event.attributes
        if event.name != names.BATCH.name or not told["failures"] or not told["partial"]:
            return
        level = _LEVELS[told["severity"]]
        kind = ",".join((call.full_method, *sorted(told["failures"])))
        if not self._logger.isEnabledFor(level):
            return
        say, suppressed = (True, 0) if self._repeats is None else self._repeats.turn(kind, self._clock())
        if say:
            fields = {"event": event.name, "method": call.full_method, "fingerprint": kind}
            fields |= {name: told[name] for name in ("items", "failed", "categories")}
            self._write(level, fields | _of_span() | ({"suppressed": suppressed} if suppressed else {}))

    def flush(self, *, now: float = float("inf")) -> None:
        """Log how many repeats were suppressed of errors that have not come up again since.

        Done by itself when another error comes; call it before the program ends.

        Args:
            now: a reading of the clock; errors shown less than a period before it are left alone. Default: none are.
        """
        for kind, suppressed in self._repeats.overdue(now) if self._repeats is not None else ():
            self._write(logging.WARNING, {"event": "suppressed", "fingerprint": kind, "suppressed": suppressed})

    def _fields(self, call: CallInfo, outcome: Outcome, error: StatusError) -> dict[str, Any]:
        # Not .name and .value, which are two functions of Python each before 3.12.
        fields: dict[str, Any] = {
            "event": "recovered" if outcome.recovered is not None else f"{call.side._value_}_error",
            "method": call.full_method,
            "code": error._code._name_,
            "category": error.category._name_,
            "reason": error.reason,
            "error_id": error.error_id,
            "fingerprint": fingerprint(error, outcome.exception),
            "message": error.message,
            "seconds": round(outcome.seconds, 6),
        }
        if len(outcome.attempts) > 1:
            fields["attempts"] = len(outcome.attempts)
        return fields | _of_span()

    def _complete(self, fields: dict[str, Any], exception: BaseException | None) -> bool:
        """Add text and stack of an exception unless they repeat; False if all does, and nobody was given its id."""
        say, suppressed = True, 0
        if self._repeats is not None and (exception is not None or not fields["error_id"]):
            say, suppressed = self._repeats.turn(fields["fingerprint"], self._clock())
        if not say and not fields["error_id"]:
            return False
        fields["message"] = self._text(fields["message"])
        if exception is not None:
            self._show(fields, exception, stacked=say)
        if suppressed:
            fields["suppressed"] = suppressed
        return True

    def _show(self, fields: dict[str, Any], exception: BaseException, *, stacked: bool) -> None:
        kind, chained = fields["fingerprint"], stack.chain(exception)
        text = " <- ".join(map(stack.describe, chained))
        if stacked or self._shown.get(kind) != text:
            fields["exception"] = self._text(text)
            self._remember(kind, text)
        if stacked:
            # Where it began, then where what came of it was raised.
            stacks = (stack.frames(one) for one in reversed(chained))
            fields["stack"] = " << ".join(" < ".join(frames) for frames in stacks if frames)

    def _remember(self, kind: str, text: str) -> None:
        if len(self._shown) >= MAX_TEXTS:
            self._shown.clear()
        self._shown[kind] = text

    def _write(self, level: int, fields: dict[str, Any]) -> None:
        parts, extra = [], {}
        for name, value in fields.items():
            extra[names.LOG_PREFIX + name] = value
            if value != "":
                text = str(value)
                shown = _quoted(text) if not text or " " in text or '"' in text else text
                parts.append(f"{name}={shown}")
        self._logger.log(level, "%s", " ".join(parts), extra=extra)

    def _text(self, text: str) -> str:
        return escaped(self._redactor.text(text))


MAX_TEXTS = 256
"""How many texts are remembered to tell repeats by; then all are forgotten, and the next of each is shown."""


def _of_span() -> dict[str, Any]:
    span = current_span()
    return {"trace_id": span.trace_id, "span_id": span.span_id} if span is not None else {}


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'

"""One line for each error that left a server: level by severity, escaped, redacted, with the id that its caller got."""

from __future__ import annotations

import logging
from typing import Any

from grpc_faultwire import stack
from grpc_faultwire.category import Severity
from grpc_faultwire.errors import StatusError
from grpc_faultwire.records import CallInfo, Outcome
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
    ERROR and above. The fields of a line are also there as `extra`, for structured logs.

    Args:
        logger: where lines go. Default: the logger "grpc_faultwire.errors".
        redactor: decides what of a text may be logged. Default: the default redactor.
    """

    def __init__(self, logger: logging.Logger | None = None, *, redactor: Redactor | None = None) -> None:
        self._logger = logger or logging.getLogger("grpc_faultwire.errors")
        self._redactor = redactor or Redactor()

    def on_start(self, call: CallInfo) -> CallInfo:
        """Keep what is called."""
        return call

    def on_end(self, call: CallInfo, outcome: Outcome) -> None:
        """Log an error."""
        error = outcome.error or outcome.recovered
        if error is None:
            return
        level = _LEVELS[error.severity]
        if self._logger.isEnabledFor(level):
            fields = self._fields(call, outcome, error, show=level >= logging.ERROR)
            line = " ".join(f"{name}={_quoted(value)}" for name, value in fields.items() if value != "")
            self._logger.log(level, "%s", line, extra={f"rpc_{name}": value for name, value in fields.items()})

    def _fields(self, call: CallInfo, outcome: Outcome, error: StatusError, *, show: bool) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "event": "recovered" if outcome.recovered is not None else f"{call.side.value}_error",
            "method": call.full_method,
            "code": error.code().name,
            "category": error.category.name,
            "reason": error.reason,
            "error_id": error.error_id,
            "message": self._text(error.message),
            "seconds": round(outcome.seconds, 6),
        }
        if show and outcome.exception is not None:
            chained = stack.chain(outcome.exception)
            fields["exception"] = self._text(" <- ".join(stack.describe(one) for one in chained))
            fields["stack"] = " < ".join(stack.frames(chained[-1]))
        return fields

    def _text(self, text: str) -> str:
        return escaped(self._redactor.text(text))


def _quoted(value: Any) -> str:
    text = str(value)
    return '"' + text.replace('"', '\\"') + '"' if not text or " " in text or '"' in text else text

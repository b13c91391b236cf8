"""What a span says of how its call ended."""

from __future__ import annotations

from opentelemetry.trace import Span, Status, StatusCode

from grpc_faultwire import stack
from grpc_faultwire.category import RetryScope, Severity
from grpc_faultwire.errors import StatusError
from grpc_faultwire.observers import names
from grpc_faultwire.observers.fingerprint import fingerprint
from grpc_faultwire.observers.semconv import Attributes, Conventions, is_error
from grpc_faultwire.records import Outcome, Side
from grpc_faultwire.redaction import Redactor, escaped

MAX_TEXT = 1024
"""Characters that a status description, a reason or a value of metadata may have."""
MAX_STACK = 8192
"""Characters that a stack may have."""
MAX_TEXTS = 256
"""How many redacted texts are kept."""
MAX_STACKS = 256
"""How many formatted stacks are kept by fingerprint."""


class SpanEnd:
    """Completes spans. One serves an observer.

    Args:
        conventions: which names are used.
        redactor: decides what of a text may be recorded.
        metadata_keys: keys of errors' metadata that become attributes.
        exception_messages: whether the event "exception" has the exception's text.
    """

    def __init__(
        self,
        conventions: Conventions,
        redactor: Redactor,
        metadata_keys: frozenset[str],
        *,
        exception_messages: bool,
    ) -> None:
        self._conventions = conventions
        self._both = Conventions(old=True, new=True)
        self._redactor = redactor
        self._metadata_keys = metadata_keys
        self._exception_messages = exception_messages
        self._stacks: dict[str, str] = {}
        self._texts: dict[str, str] = {}

    def of_call(self, span: Span, side: Side, outcome: Outcome, *, own: bool) -> None:
        """Say how a call ended: it has said OK from the start. Another's span may have a wrong code under any name."""
        error, attributes = outcome.error, Attributes()
        if len(outcome.attempts) > 1:
            attributes[names.ATTEMPTS] = len(outcome.attempts)
        if outcome.recovered is not None:
            attributes[names.RECOVERED_FROM] = outcome.recovered.code().name
        if error is not None:
            self._describe(span, side, outcome, error, attributes, own=own)
        if attributes:
            span.set_attributes(attributes)

    def of_error(self, span: Span, error: StatusError) -> None:
        """Say what an attempt ended with."""
        attributes = self._conventions.of_code(error.code()) | self._meaning(error)
        attributes[names.ERROR_TYPE] = error.code().name
        span.set_attributes(attributes)
        span.set_status(Status(StatusCode.ERROR, self._text(error.message)))

    def _describe(
        self, span: Span, side: Side, outcome: Outcome, error: StatusError, attributes: Attributes, *, own: bool
    ) -> None:
        code, exception = outcome.code, outcome.exception
        attributes |= (self._conventions if own else self._both).of_code(code)
        attributes |= self._meaning(error)
        found = attributes[names.FINGERPRINT] = fingerprint(error, exception)
        if is_error(side, code):
            attributes[names.ERROR_TYPE] = _error_type(outcome, error)
            span.set_status(Status(StatusCode.ERROR, self._text(error.message)))
        if exception is not None and error.severity >= Severity.ERROR:
            self._add_exception(span, exception, found)

    def _meaning(self, error: StatusError) -> Attributes:
        category = error.category
        attributes: Attributes = {
            names.CATEGORY: category.name.lower(),
            names.FAULT: category.fault.name.lower(),
            names.REASON: error.reason[:MAX_TEXT],
            names.RETRYABLE: error.retry_scope is RetryScope.REQUEST,
        }
        if error.domain:
            attributes[names.DOMAIN] = error.domain[:MAX_TEXT]
        if error.error_id:
            attributes[names.ERROR_ID] = error.error_id
        for key in self._metadata_keys.intersection(error.metadata) if self._metadata_keys else ():
            value = escaped(self._redactor.value(key, error.metadata[key]))
            attributes[names.METADATA + key] = value[:MAX_TEXT]
        return attributes

    def _add_exception(self, span: Span, exception: BaseException, found: str) -> None:
        attributes: Attributes = {
            names.EXCEPTION_TYPE: _name(exception),
            names.EXCEPTION_STACKTRACE: self._stack(exception, found),
        }
        if self._exception_messages:
            attributes[names.EXCEPTION_MESSAGE] = self._text(stack.describe(exception))
        span.add_event(names.EXCEPTION, attributes)

    def _stack(self, exception: BaseException, found: str) -> str:
        text = self._stacks.get(found)
        if text is None:
            parts = [[_name(one), *(f"  {frame}" for frame in stack.frames(one))] for one in stack.chain(exception)]
            text = "\ncaused by ".join("\n".join(part) for part in parts)[:MAX_STACK]
            if len(self._stacks) >= MAX_STACKS:
                self._stacks.clear()
            self._stacks[found] = text
        return text

    def _text(self, text: str) -> str:
        # Most messages are constants, and the detectors cost more than all else here.
        known = self._texts.get(text)
        if known is None:
            known = escaped(self._redactor.text(text[: 2 * MAX_TEXT]))[:MAX_TEXT]
            if len(self._texts) >= MAX_TEXTS:
                self._texts.clear()
            self._texts[text] = known
        return known


def _name(exception: BaseException) -> str:
    module = type(exception).__module__
    name = type(exception).__qualname__
    return name if module == "builtins" else f"{module}.{name}"


def _error_type(outcome: Outcome, error: StatusError) -> str:
    if outcome.how == "refused":
        return error.reason[:MAX_TEXT]
    if outcome.how == "failed" and error.__cause__ is not None:
        return _name(error.__cause__)
    return str(outcome.code.name)

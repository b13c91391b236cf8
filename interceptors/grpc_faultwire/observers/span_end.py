"""What a span says of how its call ended."""

from __future__ import annotations

import grpc
from opentelemetry.trace import Span, StatusCode

from grpc_faultwire.category import Category, RetryScope
from grpc_faultwire.errors import StatusError
from grpc_faultwire.observers import names
from grpc_faultwire.observers.attributes import write
from grpc_faultwire.observers.exceptions import name
from grpc_faultwire.observers.semconv import SERVER_ERRORS, Attributes, Conventions
from grpc_faultwire.records import Outcome, Side
from grpc_faultwire.redaction import Redactor, escaped

MAX_TEXT = 1024
"""Characters that a status description, a reason or a value of metadata may have."""
MAX_TEXTS = 256
"""How many redacted texts are kept."""

# By the names of enums, which are strings: to hash a member of an enum is a call of a Python function.
_MEANINGS: dict[str, Attributes] = {
    category.name: {names.CATEGORY: category.name.lower(), names.FAULT: category.fault.name.lower()}
    for category in Category
}


class SpanEnd:
    """Completes spans. One serves an observer.

    Args:
        conventions: which names are used.
        redactor: decides what of a text may be recorded.
        metadata_keys: keys of errors' metadata that become attributes.
    """

    def __init__(
        self,
        conventions: Conventions,
        redactor: Redactor,
        metadata_keys: frozenset[str],
    ) -> None:
        self._codes = {code.name: conventions.of_code(code) for code in grpc.StatusCode}
        both = Conventions(old=True, new=True)
        self._others_codes = {code.name: both.of_code(code) for code in grpc.StatusCode}
        self._redactor = redactor
        self._metadata_keys = metadata_keys
        self._texts: dict[str, str] = {}

    def of_call(self, span: Span, side: Side, outcome: Outcome, *, own: bool, fingerprint: str) -> None:
        """Say how a call ended: it has said OK from the start. Another's span may have a wrong code under any name.

        Args:
            span: the call's.
            side: which end this is.
            outcome: how it ended.
            own: whether the span was made here.
            fingerprint: of the error, if there is one.
        """
        error, attributes = outcome.error, Attributes()
        if len(outcome.attempts) > 1:
            attributes[names.ATTEMPTS] = len(outcome.attempts)
        if outcome.recovered is not None:
            attributes[names.RECOVERED_FROM] = outcome.recovered.code().name
        if error is not None:
            code = outcome.code._name_
            attributes[names.FINGERPRINT] = fingerprint
            attributes |= (self._codes if own else self._others_codes)[code]
            attributes |= self._meaning(error)
            if code in SERVER_ERRORS if side is Side.SERVER else code != "OK":
                attributes[names.ERROR_TYPE] = code if outcome.how == "done" else _error_type(outcome, error)
                span.set_status(StatusCode.ERROR, self.text(error.message))
        if attributes:
            # Another's may end at any moment, of which only its own method knows.
            write(span, attributes) if own else span.set_attributes(attributes)

    def of_error(self, span: Span, error: StatusError) -> None:
        """Say what an attempt ended with."""
        code = error.code().name
        write(span, {**self._codes[code], **self._meaning(error), names.ERROR_TYPE: code})
        span.set_status(StatusCode.ERROR, self.text(error.message))

    def _meaning(self, error: StatusError) -> Attributes:
        attributes = {
            **_MEANINGS[error.category._name_],
            names.REASON: error.reason[:MAX_TEXT],
            names.RETRYABLE: error.retry_scope is RetryScope.REQUEST,
        }
        domain, error_id = error.domain, error.error_id
        if domain:
            attributes[names.DOMAIN] = domain[:MAX_TEXT]
        if error_id:
            attributes[names.ERROR_ID] = error_id
        for key in self._metadata_keys.intersection(error.metadata) if self._metadata_keys else ():
            value = escaped(self._redactor.value(key, error.metadata[key]))
            attributes[names.METADATA + key] = value[:MAX_TEXT]
        return attributes

    def text(self, text: str) -> str:
        """Return what of a text may be recorded."""
        # Most messages are constants, and the detectors cost more than all else here.
        known = self._texts.get(text)
        if known is None:
            known = escaped(self._redactor.text(text[: 2 * MAX_TEXT]))[:MAX_TEXT]
            if len(self._texts) >= MAX_TEXTS:
                self._texts.clear()
            self._texts[text] = known
        return known


def _error_type(outcome: Outcome, error: StatusError) -> str:
    if outcome.how == "refused":
        return error.reason[:MAX_TEXT]
    if outcome.how == "failed" and error.__cause__ is not None:
        return name(error.__cause__)
    return str(outcome.code.name)

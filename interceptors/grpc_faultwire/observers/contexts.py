"""What is current in OpenTelemetry, in few steps: every call asks for it, and changes it, several times."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token

from opentelemetry import context as api
from opentelemetry import trace
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext

SUPPRESSED = "suppress_instrumentation"
"""The key that opentelemetry-instrumentation and google-api-core share."""
(SPAN,) = trace.set_span_in_context(trace.INVALID_SPAN, api.Context())
"""The key that the current span is found under."""
EMPTY = api.Context()
"""A context with nothing in it."""
SUPPRESSING = api.Context({SUPPRESSED: True})
"""A context that only keeps other instrumentation from making spans."""

_Functions = tuple[Callable[[], api.Context], Callable[[api.Context], Token[api.Context]], Callable[..., None]]


def _functions() -> _Functions:
    """Return the API's get_current, attach and detach; where a context variable is all that they use, its own methods.

    The API's are two functions deep each.
    """
    runtime = getattr(api, "_RUNTIME_CONTEXT", None)
    variable = getattr(runtime, "_current_context", None)
    if type(runtime) is ContextVarsRuntimeContext and isinstance(variable, ContextVar):
        return variable.get, variable.set, variable.reset
    return api.get_current, api.attach, api.detach


current, attach, detach = _functions()


class Attached:
    """Makes a context current for a while, and raises nothing. One is entered once.

    Attributes:
        context: to be set before: without an ``__init__`` the making of one is no call of a Python function.
    """

    __slots__ = ("_token", "context")

    context: api.Context

    def __enter__(self) -> None:
        self._token = attach(self.context)

    def __exit__(self, _kind: object, _error: object, _trace: object) -> None:
        try:
            detach(self._token)
        except ValueError:
            api.detach(self._token)  # which logs that it was attached elsewhere

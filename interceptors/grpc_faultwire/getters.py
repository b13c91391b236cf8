"""What errors and call objects of either world can be asked without waiting for anything."""

from __future__ import annotations

from collections.abc import Coroutine
from types import CoroutineType
from typing import Any

import grpc

from grpc_faultwire.status_error import StatusError


class Waiting(Exception):
    """The coroutine has something to wait for."""


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return what a coroutine returns that has nothing to wait for, as grpc.aio's getters once a call is done.

    Raises:
        Waiting: it has.
    """
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise Waiting


def ask(error: Any, name: str) -> Any:
    """Return what a getter returns; None if it raises, has to wait, or is not there.

    Args:
        error: an error or a call object, of anybody's making.
        name: of the getter, a plain method or a coroutine.
    """
    try:
        answer = getattr(error, name)()
        return at_once(answer) if type(answer) is CoroutineType else answer
    except Exception:  # noqa: BLE001  # whatever a foreign error does, its caller gets an error to look at
        return None


def debug_error_string(error: Any) -> str | None:
    """Return grpc's notes for debugging; None of a sync call, which would never answer if it was cancelled here."""
    pending = type(error).__name__ != "_InactiveRpcError" and isinstance(error, grpc.Future)
    return None if pending else ask(error, "debug_error_string")


def error_within(call: Any) -> StatusError | None:
    """Return what a call on a wrapped channel has failed with; None: it has not, or it is no such call."""
    error = getattr(getattr(getattr(call, "_running", None), "flow", None), "error", None)
    return error if isinstance(error, StatusError) else None

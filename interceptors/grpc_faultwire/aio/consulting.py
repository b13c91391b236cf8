"""Asking users' functions that may be coroutine functions: hooks that refresh credentials, and fallbacks."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

_LOGGER = logging.getLogger(__name__)
_logged: dict[int, Any] = {}
MAX_LOGGED = 1000
"""Functions whose faults are remembered (by id: not all are hashable); each is logged once."""

Then = Callable[[Any, BaseException | None], None]
"""Told what a function has returned, or what it has raised."""


def consult(
    ask: Callable[[], Any], then: Then, *, loop: asyncio.AbstractEventLoop, context: contextvars.Context
) -> asyncio.Task[Any] | None:
    """Ask, and tell what came of it: at once, or once the task that is returned has ended.

    Args:
        ask: may return something to wait for.
        then: called in the event loop's thread; nothing may be left to raise in it.
        loop: where to wait.
        context: the caller's. Asked in a copy: this may run inside of it already.
    """
    try:
        answer = context.copy().run(ask)
    except Exception as raised:  # noqa: BLE001  # whatever a user's function raises is looked at by `then`
        then(None, raised)
        return None
    if not inspect.isawaitable(answer):
        then(answer, None)
        return None
    # A coroutine itself, not one around it: cancelled before its first step, the one inside would never be awaited.
    work: Coroutine[Any, Any, Any] = answer if inspect.iscoroutine(answer) else _result(answer)
    task = loop.create_task(work, context=context)
    task.add_done_callback(lambda done: then(*_came(done)))
    return task


async def _result(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _came(task: asyncio.Task[Any]) -> tuple[Any, BaseException | None]:
    if task.cancelled():
        return None, asyncio.CancelledError()
    raised = task.exception()
    return (None, raised) if raised is not None else (task.result(), None)


def warn(function: Any, raised: BaseException, what: str) -> None:
    """Log what a user's function raised, once for each function: an outage would fill the log otherwise."""
    if id(function) in _logged:
        return
    if len(_logged) >= MAX_LOGGED:
        _logged.clear()
    _logged[id(function)] = function
    _LOGGER.warning("%s; further faults of %r are not logged", what, function, exc_info=raised)

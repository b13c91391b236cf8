"""Asking users' functions that may be coroutine functions: hooks that refresh credentials, and fallbacks."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

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

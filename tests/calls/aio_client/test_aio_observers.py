"""Observers of a wrapped channel hear of everything once, and harm nothing."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import grpc
import grpc.aio
import pytest
from aio_lab import KINDS, SU, US, UU, consume, lab

kinds = pytest.mark.parametrize("kind", KINDS)
doors = pytest.mark.parametrize("how", ["wrapped", "official"])


def broken(message: Any) -> Any:
    raise ValueError("cannot")


# Observers.


@doors
@kinds
def test_observers_hear_everything(kind: str, how: str) -> None:
    """Messages of streams are counted each way, and each call has one attempt and one end."""

    async def run() -> None:
        async with lab(how) as made:
            await consume(kind, made.call(kind))
            await made.settled()
            sent = 0 if kind in (UU, US) else 2
            received = 0 if kind in (UU, SU) else 3
            assert (made.ends.messages["sent"], made.ends.messages["received"]) == (sent, received)
            assert made.ends.attempts == [("start", 1), ("end", 1)]
            assert made.ends.hows == ["done"]

    asyncio.run(run())


@kinds
def test_observers_faults_are_harmless(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """An observer that raises everywhere changes nothing."""

    class Broken:
        def __getattr__(self, name: str) -> Any:
            if name.startswith("on_") or name in ("inject", "activate"):
                return broken
            raise AttributeError(name)

    async def run() -> None:
        async with lab(observers=[Broken()]) as made:
            await consume(kind, made.call(kind))
            await made.settled()

    asyncio.run(run())


def test_observers_are_active_while_an_attempt_begins() -> None:
    """Interceptors of the bare channel run inside what activate() entered; the caller's context is left alone."""
    import contextvars

    active: contextvars.ContextVar[bool] = contextvars.ContextVar("active", default=False)
    seen = []

    class Activates:
        @contextlib.contextmanager
        def activate(self, token: Any) -> Any:
            reset = active.set(True)
            yield
            active.reset(reset)

    class Looks(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
            seen.append(active.get())
            return await continuation(client_call_details, request)

    async def run() -> None:
        async with lab(interceptors=[Looks()], observers=[Activates()]) as made:
            await made.call(UU)
            seen.append(active.get())

    asyncio.run(run())
    assert seen == [True, False]

"""Those who wait for a call: tasks between attempts, and the callbacks of its caller."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grpc_faultwire.aio.calls import Call

MOMENT = 0.02
"""Seconds that a server's status is waited for that should be here any moment."""


class Listeners:
    """Part of `Running`, which sets the attributes; made of nothing until somebody waits, as few ever do.

    Attributes:
        loop: the channel's.
    """

    __slots__ = ("_callbacks", "_face", "_handle", "_waiters", "loop")

    loop: asyncio.AbstractEventLoop
    _waiters: list[asyncio.Future[None]] | None
    _callbacks: list[Callable[[Any], None]] | None
    _face: Callable[[Any], Call] | None
    _handle: weakref.ref[Call] | None

    def tell(self) -> None:
        """Wake those who wait, and call back: the call has ended."""
        self.wake()
        callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            callback(self._handle_or_another())

    def wake(self) -> None:
        """Wake those who wait: another attempt is on the wire, or the call has ended."""
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def _handle_or_another(self) -> Any:
        handle = self._handle() if self._handle is not None else None
        return handle if handle is not None or self._face is None else self._face(self)

    def call_back(self, callback: Callable[[Any], None], handle: Call) -> None:
        """Call back with the handle, or another if that was dropped, once the call has ended."""
        if self._callbacks is None:
            self._callbacks = []
        self._callbacks.append(callback)
        self._face, self._handle = type(handle), weakref.ref(handle)

    async def turn(self) -> None:
        """Wait until the next attempt is on the wire or the call has ended."""
        await self._waiter()

    async def linger(self) -> None:
        """Wait a moment: a call that failed without initial metadata has empty ones just before its status."""
        await asyncio.wait([self._waiter()], timeout=MOMENT)

    def _waiter(self) -> asyncio.Future[None]:
        waiter: asyncio.Future[None] = self.loop.create_future()
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(waiter)
        return waiter

"""The requests of a call that may be sent again: kept until that is certain not to happen."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any

import grpc.aio

from grpc_faultwire.aio.native import ALREADY_FINISHED, HALF_CLOSED
from grpc_faultwire.aio.serializers import OWNER, Kept

if TYPE_CHECKING:
    from grpc_faultwire.aio.running import Running

_LOGGER = logging.getLogger(__name__)


class Over:
    """The requests of a call that has ended: it no longer keeps them, nor they it."""

    __slots__ = ("from_iterator",)

    def __init__(self, requests: Requests) -> None:
        self.from_iterator = requests.from_iterator

    async def write(self, _request: Any) -> None:
        """Send nothing.

        Raises:
            asyncio.InvalidStateError: the call has ended.
        """
        raise asyncio.InvalidStateError(ALREADY_FINISHED)

    async def done_writing(self) -> None:
        """Do nothing: the server has heard the last of it."""

    def sent(self, data: Any) -> None:
        """Do nothing, as nothing is sent again."""


class Requests:
    """What a caller writes, for as many attempts as there will be. One pump writes ``written[sent:]``.

    Args:
        running: the call; it is committed when the requests become too many to keep.
        source: the caller's iterator; None: the caller writes.
        context: the caller's, for the iterator.
        limit: bytes to keep; with more, the call is not retried.
    """

    def __init__(self, running: Running, source: Any, context: contextvars.Context | None, limit: int) -> None:
        self.from_iterator = source is not None
        self.half_closed = False
        self._running = running
        self._limit = limit
        self._size = 0
        self._written: list[Any] = []
        self._sent = 0
        self._close_sent = False
        self._refused = False
        self._pumping = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._context = context
        if source is not None:
            self._spawn(self._consume(source))

    async def write(self, request: Any) -> None:
        """Send a request, in this attempt or the next.

        Raises:
            asyncio.InvalidStateError: the call has ended, or the caller has ended the requests; or the call ended while
                this was waiting, and the channel inside has interceptors, with which grpc.aio raises this.
            StatusError: the call ended while this was waiting.
        """
        if self._running.ended:
            raise asyncio.InvalidStateError(ALREADY_FINISHED)
        if self.half_closed:
            raise asyncio.InvalidStateError(HALF_CLOSED)
        self._written.append(request)
        await self._pump()
        if self._running.ended and self._pending():
            if self._refused:
                raise asyncio.InvalidStateError(ALREADY_FINISHED)
            self._running.raise_end(None)

    async def done_writing(self) -> None:
        """Tell the server that there are no more requests."""
        if not self._running.ended:
            self.half_closed = True
            await self._pump()

    def restart(self) -> None:
        """Send everything again: another attempt has begun."""
        self._sent, self._size, self._close_sent, self._refused = 0, 0, False, False
        if self._pending() and not self._pumping.locked():
            self._spawn(self._pump())

    def sent(self, data: Any) -> None:
        """Take note of the bytes of the request that is being sent."""
        if self._running.flow.committed or self._sent >= len(self._written):
            return
        self._written[self._sent] = Kept(data)
        self._size += len(data)
        if self._size > self._limit:
            self._running.flow.commit()

    def stop(self) -> None:
        """Keep nothing, send nothing: the call has ended."""
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Any) -> None:
        task = self._running.loop.create_task(work, context=self._context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _pending(self) -> bool:
        return self._sent < len(self._written) or (self.half_closed and not self._close_sent)

    async def _pump(self) -> None:
        try:
            async with self._pumping:
                while self._pending() and not self._running.ended:
                    await self._step()
        except asyncio.CancelledError:
            self._running.cancel()
            raise

    async def _step(self) -> None:
        running = self._running
        call = running.call
        if call is None:
            await running.turn()
            return
        owner = running.own()
        try:
            if self._sent < len(self._written):
                await call.write(self._written[self._sent])
            else:
                await call.done_writing()
        except (grpc.aio.AioRpcError, grpc.aio.InternalError, asyncio.InvalidStateError) as raised:
            # This attempt is over; its callback says what follows.
            self._refused = isinstance(raised, asyncio.InvalidStateError)
            while running.call is call and not running.ended:
                await running.turn()
            return
        finally:
            OWNER.reset(owner)
        if running.call is call:
            self._advance()

    def _advance(self) -> None:
        if self._sent == len(self._written):
            self._close_sent = True
        elif self._running.flow.committed:
            del self._written[: self._sent + 1]
            self._sent = 0
        else:
            self._sent += 1

    async def _consume(self, source: Any) -> None:
        try:
            if isinstance(source, AsyncIterable):
                async for request in source:
                    await self.write(request)
            else:
                for request in source:
                    await self.write(request)
            await self.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as over:
            _LOGGER.debug("The call ended before its requests: %s", over)
        except BaseException:  # as grpc does: an iterator that raises cancels the call
            _LOGGER.debug("The iterator of requests raised", exc_info=True)
            self._running.cancel()

"""The call objects that callers hold: subclasses of grpc.aio's, over whichever attempt is in flight."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, cast

import grpc
import grpc.aio

from grpc_faultwire.aio.native import ALREADY_FINISHED
from grpc_faultwire.aio.running import Running
from grpc_faultwire.aio.serializers import OWNER


class Call(grpc.aio.Call):
    """A call on a wrapped channel.

    It is what grpc.aio returns there and waits where grpc.aio waits. The errors that it raises are `StatusError`s,
    whose ``__cause__`` is grpc's own.
    """

    def __init__(self, running: Running) -> None:
        self._running = running

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            # What a newer grpcio adds, or a library reaches for, is the attempt's.
            running = self.__dict__.get("_running")
            if running is None or running.call is None:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            return getattr(running.call, name)

    def __repr__(self) -> str:
        running = self._running
        if running.call is not None and running.error is None:
            return repr(running.call)
        if running.error is None:
            return f"<{type(self).__name__} object>"
        return f"<{type(self).__name__} of RPC that terminated with: {running.error}>"

    __str__ = __repr__

    # grpc.aio.RpcContext.

    def cancel(self) -> bool:
        """Cancel the RPC.

        Returns:
            True if it had not ended.
        """
        return self._running.cancel()

    def cancelled(self) -> bool:
        """Whether the RPC has ended with CANCELLED, on whichever side, as grpc has it."""
        error = self._running.error
        return error is not None and error.code() is grpc.StatusCode.CANCELLED

    def done(self) -> bool:
        """Whether the RPC has ended."""
        return self._running.ended

    def time_remaining(self) -> float | None:
        """Return the seconds left of the timeout that was given, at least 0; None if none was."""
        return self._running.flow.time_remaining()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call back with this object once the RPC has ended, or now if it has.

        Args:
            callback: called in the event loop's thread. It does not keep this object alive.
        """
        if self._running.ended:
            callback(self)
        else:
            self._running.call_back(callback, self)

    # grpc.aio.Call.

    async def initial_metadata(self) -> grpc.aio.Metadata:
        """Return what the server sent first; waits for it. The RPC is not tried again afterwards."""
        running = self._running
        while running.error is None:
            call = running.call
            if call is None:
                await running.turn()
                continue
            metadata: grpc.aio.Metadata = await call.initial_metadata()
            if not metadata and running.flow.retriable and not call.done():
                await running.linger()
            if running.call is call and not running.ended and call.done():
                await running.turn()
            elif running.call is call and running.error is None and running.flow.commit():
                running.flow.deliver()
                return metadata
        return cast("grpc.aio.Metadata", running.error.initial_metadata())

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        """Return what the server sent last; waits for the end."""
        return await self._ask("trailing_metadata")  # type: ignore[no-any-return]  # each getter has its type

    async def code(self) -> grpc.StatusCode:
        """Return the status code; waits for the end."""
        return await self._ask("code")  # type: ignore[no-any-return]  # as above

    async def details(self) -> str:
        """Return the status message; waits for the end."""
        return await self._ask("details")  # type: ignore[no-any-return]  # as above

    async def debug_error_string(self) -> str:
        """Return grpc's notes for debugging; waits for the end."""
        return await self._ask("debug_error_string")  # type: ignore[no-any-return]  # as above

    async def wait_for_connection(self) -> None:
        """Wait until the RPC is connected to its server.

        Raises:
            StatusError: it failed before.
        """
        running = self._running
        while True:
            call = await running.next_call()
            try:
                await call.wait_for_connection()
            except (Exception, asyncio.CancelledError) as raised:
                if await running.after(call, raised):
                    raise
            else:
                running.raise_end(None)
                return

    async def _ask(self, name: str) -> Any:
        running = self._running
        while running.error is None:
            call = running.call
            if call is None:
                await running.turn()
                continue
            answer = await getattr(call, name)()
            if running.ended and running.error is None:
                # A write that fails after the end changes the status that grpc remembers.
                return grpc.StatusCode.OK if name == "code" else answer
            if running.call is call and not running.ended:
                await running.turn()
        return getattr(running.error, name)()


class _UnaryResponse(Call):
    def __await__(self) -> Generator[Any, None, Any]:
        running = self._running
        while True:
            call = running.call
            if call is None:
                if running.ended:
                    running.raise_end(None)
                call = yield from running.next_call().__await__()
            try:
                response = yield from call.__await__()
            except (Exception, asyncio.CancelledError) as raised:
                if (yield from running.after(call, raised).__await__()):
                    raise
            else:
                if running.error is not None:
                    running.raise_end(None)
                return response


class _StreamResponse(Call):
    _iterator: weakref.ref[Responses] | None = None

    def __del__(self) -> None:
        running = self.__dict__.get("_running")
        if running is not None and not running.ended:
            running.drop()

    def __aiter__(self) -> AsyncIterator[Any]:
        iterator = self._iterator() if self._iterator is not None else None
        if iterator is None:
            iterator = Responses(self)
            self._iterator = weakref.ref(iterator)
        return iterator

    async def read(self) -> Any:
        """Return the next response, or grpc.aio.EOF after the last.

        Raises:
            StatusError: the RPC has failed.
            grpc.aio.UsageError: the responses are iterated already.
        """
        return await _next(self._running, None)


class _StreamRequest(Call):
    async def write(self, request: Any) -> None:
        """Send a request.

        Raises:
            StatusError: the RPC failed meanwhile.
            asyncio.InvalidStateError: it had ended, or ``done_writing`` was called.
            grpc.aio.UsageError: the requests come from an iterator.
        """
        running = self._running
        if running.requests is not None:
            await running.requests.write(self._by_hand(request))
            return
        call = running.call
        if call is None:
            raise asyncio.InvalidStateError(ALREADY_FINISHED)
        owner = running.own()
        try:
            await call.write(request)
        except (Exception, asyncio.CancelledError) as raised:
            if await running.after(call, raised):
                raise
        finally:
            OWNER.reset(owner)

    async def done_writing(self) -> None:
        """Tell the server that there are no more requests. Calling it again does nothing.

        Raises:
            grpc.aio.UsageError: the requests come from an iterator.
        """
        running = self._running
        if running.requests is not None:
            self._by_hand(None)
            await running.requests.done_writing()
        elif running.call is not None:
            await running.call.done_writing()

    def _by_hand(self, request: Any) -> Any:
        requests = self._running.requests
        if requests is not None and requests.from_iterator:
            raise grpc.aio.UsageError("The iterator and read/write APIs may not be mixed on a single RPC.")
        return request


class UnaryUnaryCall(_UnaryResponse, grpc.aio.UnaryUnaryCall[Any, Any]):
    """A call with one request and one response: await it. Dropped, it runs on, as grpc's own."""


class UnaryStreamCall(_StreamResponse, grpc.aio.UnaryStreamCall[Any, Any]):
    """A call with one request and a stream of responses. Dropped, it is cancelled."""


class StreamUnaryCall(_StreamRequest, _UnaryResponse, grpc.aio.StreamUnaryCall[Any, Any]):
    """A call with a stream of requests and one response: await it. Dropped, it runs on, as grpc's own."""


class StreamStreamCall(_StreamRequest, _StreamResponse, grpc.aio.StreamStreamCall[Any, Any]):
    """A call with a stream of requests and a stream of responses. Dropped, it is cancelled."""


class Responses(AsyncGenerator[Any, None]):
    """Iterates the responses of a call, and keeps its handle: as long as either is held, the call goes on."""

    def __init__(self, call: Call) -> None:
        self._handle = call
        self._running = call._running
        self._call: Any = None
        self._source: Any = None
        self._exhausted = False
        if self._running.call is not None:
            self._begin(self._running.call)

    def __aiter__(self) -> Responses:
        return self

    def __anext__(self) -> Coroutine[Any, Any, Any]:
        return _next(self._running, self)

    async def asend(self, value: None) -> Any:  # noqa: ARG002  # a generator's signature
        """Return the next response."""
        return await self.__anext__()

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None) -> Any:
        """Raise this; there are no responses afterwards."""
        self._exhausted = True
        raised = val if val is not None else typ
        raise raised if tb is None else raised.with_traceback(tb)

    def _begin(self, call: Any) -> None:
        self._call, self._source = call, call.__aiter__()


async def _next(running: Running, iterator: Responses | None) -> Any:  # noqa: C901  # in parts, each message would cost more
    """Return the next response of whichever attempt is in flight, as ``iterator`` or else ``read()`` gives it."""
    if iterator is not None and iterator._exhausted:
        raise StopAsyncIteration
    try:
        while True:
            call = running.call or await running.next_call()
            owner = OWNER.set(running._reference)  # own(), written out: every message comes here
            try:
                if iterator is None:
                    response = await call.read()
                else:
                    if call is not iterator._call:
                        iterator._begin(call)
                    response = await iterator._source.__anext__()
            except (Exception, asyncio.CancelledError) as raised:
                if await running.after(call, raised):
                    raise
                continue
            finally:
                OWNER.reset(owner)
            if running.error is not None:
                running.raise_end(None)
            if running.received(call, response):
                return response
    except (grpc.aio.AioRpcError, StopAsyncIteration):
        if iterator is not None:
            iterator._exhausted = True
        raise

"""Plain functions and generators of sync servicers on an aio server.

grpc's own bridge loses the status of generators that abort, leaks a thread for each that is cancelled, and gives them a
context without half of its methods. Here each step of a handler runs in the thread pool, one at a time.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import grpc.aio

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_END = object()


def bridged_unary(behavior: Callable[..., Any], pool: ThreadPoolExecutor | None) -> Callable[..., Any]:
    """Return a coroutine function that runs a plain function of one response in the pool."""

    async def respond(request: Any, context: Any) -> Any:
        bridge = _Bridge(context, pool)
        try:
            response = await bridge.run(lambda: behavior(bridge.requests(request), bridge.context))
        finally:
            bridge.close()
        # A plain function may still return a coroutine, as a lambda around one does.
        return await response if asyncio.iscoroutine(response) else response

    return respond


def bridged_stream(behavior: Callable[..., Any], pool: ThreadPoolExecutor | None) -> Callable[..., Any]:
    """Return an async generator function that takes the steps of a plain generator in the pool."""

    async def respond(request: Any, context: Any) -> AsyncIterator[Any]:
        bridge = _Bridge(context, pool)
        steps = _Steps(lambda: behavior(bridge.requests(request), bridge.context))
        try:
            while (response := await bridge.run(steps.next)) is not _END:
                yield response
        finally:
            bridge.close()
            # Not awaited: a step that is still running in its thread has to end first.
            bridge.end(steps.close)

    return respond


class _Steps:
    """The steps of a generator; closing waits for the one that is being taken."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._responses: Iterator[Any] | None = None
        self._lock = threading.Lock()

    def next(self) -> Any:
        with self._lock:
            if self._responses is None:
                self._responses = iter(self._make())
            return next(self._responses, _END)

    def close(self) -> None:
        with self._lock:
            close = getattr(self._responses, "close", None)
            if close is not None:
                close()


class _Bridge:
    """Runs a call's handler in threads, under the call's context variables."""

    def __init__(self, context: Any, pool: ThreadPoolExecutor | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._pool = pool
        self._variables = contextvars.copy_context()
        self.context = SyncContext(context, self._loop)

    async def run(self, step: Callable[[], Any]) -> Any:
        """Run a step in the pool and return what it returns, or raise what it raises."""
        # Taken out of the future: the exception's frames hold that, and would wait for the garbage collector.
        result, raised = (await self.submit(step)).pop()
        if raised is not None:
            try:
                raise raised
            finally:
                del raised  # its traceback holds this frame
        return result

    def submit(self, step: Callable[[], Any]) -> asyncio.Future[_Ended]:
        """Begin a step in the pool."""
        return self._loop.run_in_executor(self._pool, lambda: self._variables.run(_caught, step))

    def end(self, step: Callable[[], Any]) -> None:
        """Begin the last step in the pool: a thread that is still in one before is in the call's context variables."""
        variables = self._variables.copy()
        self._loop.run_in_executor(self._pool, lambda: variables.run(_caught, step))

    def requests(self, request: Any) -> Any:
        """Return a request as it is, and a stream of requests as a plain iterator."""
        return _Requests(request, self._loop, self.context) if hasattr(request, "__anext__") else request

    def close(self) -> None:
        """Tell the handler that its RPC has ended."""
        self.context.ended = True


_Ended = list[tuple[Any, BaseException | None]]
"""What one step returned, and what it raised."""


def _caught(step: Callable[[], Any]) -> _Ended:
    # Futures refuse StopIteration, and the event loop ends at SystemExit: exceptions travel as values.
    try:
        return [(step(), None)]
    except StopIteration as stop:
        return [(None, RuntimeError("the handler raised StopIteration").with_traceback(stop.__traceback__))]
    except BaseException as exception:  # noqa: BLE001  # every exit must end the RPC
        return [(None, exception)]


class _Requests(Iterator[Any]):
    def __init__(self, requests: AsyncIterator[Any], loop: asyncio.AbstractEventLoop, context: SyncContext) -> None:
        self._requests = requests
        self._loop = loop
        self._context = context

    def __next__(self) -> Any:
        if self._context.ended:
            raise grpc.RpcError
        request = asyncio.run_coroutine_threadsafe(self._take(), self._loop).result()
        if request is _END:
            raise StopIteration
        return request

    async def _take(self) -> Any:
        return await anext(self._requests, _END)


@grpc.ServicerContext.register
class SyncContext:
    """What a sync servicer finds in its context, for a handler in a thread of an aio server."""

    def __init__(self, context: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._context = context
        self._loop = loop
        self.ended = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        """End the RPC with this status."""
        self._context.call.abort(code, details)
        raise grpc.aio.AbortError("Locally aborted.")

    def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """End the RPC with this status; trailers that were set before stay."""
        self._context.call.abort(status.code, status.details, status.trailing_metadata or ())
        raise grpc.aio.AbortError("Locally aborted.")

    def is_active(self) -> bool:
        """Return whether the RPC goes on."""
        return not self.ended

    def cancel(self) -> None:
        """End the RPC with CANCELLED once the handler leaves."""
        self.ended = True
        self._context.call.abort(grpc.StatusCode.CANCELLED, "")

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Call this once the RPC has ended; return False if it has."""
        if self.ended:
            return False
        self._context.add_done_callback(lambda _: callback())
        return True

    def details(self) -> bytes:
        """Return the message that was set, as bytes, as in sync."""
        details: str = self._context.details()
        return details.encode()

    def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Send the initial metadata."""
        sending = self._context.grpc_context.send_initial_metadata(initial_metadata)
        asyncio.run_coroutine_threadsafe(sending, self._loop).result()

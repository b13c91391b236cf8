"""The interceptor for grpc.aio's servers: grpc's shapes, and what `server_call` decides carried out."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from grpc_faultwire.aio.bridge import bridged_stream, bridged_unary
from grpc_faultwire.aio.context import Context
from grpc_faultwire.exits import Exit, Recoverable, Reraise, Withdrawal
from grpc_faultwire.interception import Interception
from grpc_faultwire.messages import UNCHECKED, Malformed, UnknownMethodError, check, checked
from grpc_faultwire.server_call import Served, ServerCall
from grpc_faultwire.status import Reply

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

logger = logging.getLogger("grpc_faultwire.server")


class ServerInterceptor(Interception, grpc.aio.ServerInterceptor):
    """As `grpc_faultwire.sync.ServerInterceptor`, for grpc.aio.

    Plain functions and generators of sync servicers work too, with the whole context of a sync server.

    Args:
        arguments: see `grpc_faultwire.interception.Interception`.
        migration_thread_pool: where plain functions and generators run. Give the pool that grpc.aio.server() was given
            under this name; None (the default, there and here) is the event loop's own pool.
    """

    def __init__(
        self, *arguments: Any, migration_thread_pool: ThreadPoolExecutor | None = None, **settings: Any
    ) -> None:
        super().__init__(*arguments, **settings)
        self._pool = migration_thread_pool

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the method's handler, wrapped."""
        path = handler_call_details.method
        audience = self._settings.audience
        try:
            if audience.intercepts:
                with audience.intercepting():
                    handler = await continuation(handler_call_details)
            else:
                handler = await continuation(handler_call_details)
        except Exception as exception:  # noqa: BLE001  # what an interceptor inside raises is answered like a handler's
            return self._failing(path, exception)
        if handler is None:
            return self._failing(path, UnknownMethodError(path))
        known = self._remembered.get(path)  # asked here already: every call comes this way
        return known[1] if known is not None and known[0] is handler else self._wrapped(path, handler)

    def _behavior(self, behavior: Callable[..., Any], served: Served) -> Callable[..., Any]:
        wrapper = self._by_flavour(behavior, served)
        # Attributes of the behavior stay; __wrapped__ would make inspect take the wrapper for what it wraps.
        functools.update_wrapper(wrapper, behavior)
        del wrapper.__dict__["__wrapped__"]
        return wrapper

    def _by_flavour(self, behavior: Callable[..., Any], served: Served) -> Callable[..., Any]:
        if _is(inspect.iscoroutinefunction, behavior):
            return (_writer if served.info.kind.response_streaming else _unary)(behavior, served)
        if _is(inspect.isasyncgenfunction, behavior):
            return _stream(behavior, served)
        if served.info.kind.response_streaming:
            return _stream(bridged_stream(behavior, self._pool), served)
        return _unary(bridged_unary(behavior, self._pool), served)


def _is(test: Callable[[Any], bool], behavior: Any) -> bool:
    return test(behavior) or test(getattr(behavior, "__call__", None))  # noqa: B004  # an instance's own method is meant


def _unary(behavior: Callable[..., Any], served: Served) -> Callable[..., Any]:
    run = _active(behavior) if served.activates else behavior
    serializer = served.serializer

    async def respond(request: Any, grpc_context: Any) -> Any:
        call = ServerCall(served, grpc_context)
        context = Context(call)
        response = None
        try:
            if served.streamed or type(request) is Malformed:
                request = _received(request, call)
            response = await run(request, context)
            task = asyncio.current_task()  # as _cancelled(), without the call
            cancelled = task is not None and task.cancelling() > 0
            leaving = call.returned(response, serializer=serializer, cancelled=cancelled)
        except BaseException as exception:  # noqa: BLE001  # every exit must end the RPC
            leaving = call.raised(exception, cancelled=isinstance(exception, asyncio.CancelledError) and _cancelled())
        if isinstance(leaving, Recoverable):
            response, leaving = await _recover(call, leaving, serializer)
        if leaving is not None or call.details is not None:
            await _leave(context, leaving)
        return response

    return respond


def _active(behavior: Callable[..., Any]) -> Callable[..., Any]:
    async def run(request: Any, context: Any) -> Any:
        with context.call.active():
            return await behavior(request, context)

    return run


def _writer(behavior: Callable[..., Any], served: Served) -> Callable[..., Any]:
    """Wrap a handler that writes its responses to the context."""
    run = _active(behavior) if served.activates else behavior

    async def respond(request: Any, grpc_context: Any) -> None:
        call = ServerCall(served, grpc_context)
        context = Context(call)
        grpc_context.add_done_callback(lambda _: call.gone())
        try:
            await run(_received(request, call), context)
            leaving = call.returned(cancelled=_cancelled())
        except BaseException as exception:  # noqa: BLE001  # every exit must end the RPC
            leaving = call.raised(exception, cancelled=isinstance(exception, asyncio.CancelledError) and _cancelled())
        if isinstance(leaving, Recoverable):
            following, leaving = await _recover(call, leaving)
            if leaving is None:
                leaving = await _write_all(call, context, following)
        await _leave(context, leaving)

    return respond


async def _write_all(call: ServerCall, context: Context, following: Any) -> Exit:
    try:
        async for response in _Responses(lambda: following):
            await context.write(response)
        return call.returned(cancelled=_cancelled())
    except BaseException as exception:  # noqa: BLE001  # every exit must end the RPC
        return call.raised(exception, cancelled=isinstance(exception, asyncio.CancelledError) and _cancelled())


def _stream(behavior: Callable[..., Any], served: Served) -> Callable[..., Any]:
    async def respond(request: Any, grpc_context: Any) -> AsyncIterator[Any]:
        call = ServerCall(served, grpc_context)
        context = Context(call)
        # A caller that goes while a message is written leaves this generator to the garbage collector.
        grpc_context.add_done_callback(lambda _: call.gone())
        responses = _Responses(lambda: behavior(_received(request, call), context))
        try:
            response, leaving = await _take(call, responses)
            while response is not _END:
                yield response
                response, leaving = await _take(call, responses)
        except (GeneratorExit, asyncio.CancelledError):
            call.gone()
            raise
        finally:
            await responses.aclose()
        await _leave(context, leaving)

    return respond


async def _take(call: ServerCall, responses: _Responses) -> tuple[Any, Exit]:
    """Take one response; at the end, `_END` and what to do. A recovery's responses follow the handler's."""
    served = call.served
    try:
        if served.activates:
            with call.active():
                response = await anext(responses, _END)
        else:
            response = await anext(responses if responses.made is None else responses.made, _END)
        if response is not _END and call.aborted is None:
            check(response, served.serializer)
            if served.counts:
                served.message(call.tokens, "sent")
            return response, None
        leaving = call.returned(cancelled=_cancelled())
    except BaseException as exception:  # noqa: BLE001  # every exit must end the RPC
        leaving = call.raised(exception, cancelled=isinstance(exception, asyncio.CancelledError) and _cancelled())
    if isinstance(leaving, Recoverable):
        following, leaving = await _recover(call, leaving)
        if leaving is None:
            await responses.follow(following)
            return await _take(call, responses)
    return _END, leaving


async def _recover(call: ServerCall, leaving: Recoverable, serializer: Any = UNCHECKED) -> tuple[Any, Exit]:
    try:
        for recovery in leaving.recoveries:
            with call.active():
                answer = recovery(leaving.error, call)
                answer = await answer if inspect.isawaitable(answer) else answer
            if answer is not None:
                return answer, call.recovered(leaving.error, answer, serializer)
    except BaseException as failure:  # noqa: BLE001  # whatever a user's recovery raises
        return None, call.unrecovered(leaving.error, failure)
    return None, call.unrecovered(leaving.error)


async def _leave(context: Context, leaving: Exit) -> None:
    """Do what was decided; outside any except block, or the handler's exception would show in the abort's context."""
    call, grpc_context = context.call, context.grpc_context
    if isinstance(leaving, Reply):
        if context._writing:
            await context.written()
        await grpc_context.abort(leaving.code, leaving.message, leaving.trailers)
    elif isinstance(leaving, Withdrawal):
        await _withdraw(context, leaving)
    elif isinstance(leaving, Reraise):
        if call.code is not None:
            grpc_context.set_code(call.code)
        if call.details is not None:
            grpc_context.set_details(call.details)
        raise leaving.exception
    elif call.details is not None:
        grpc_context.set_details(call.details)


async def _withdraw(context: Context, leaving: Withdrawal) -> None:
    # grpc does not tell who cancelled the task; but to a caller that has gone nothing can be sent, and that shows.
    try:
        await context.written()
        # OpenTelemetry's instrumentation wraps the context, and would record a status that is perhaps not sent.
        bare = getattr(context.grpc_context, "__wrapped__", context.grpc_context)
        await bare.abort(leaving.reply.code, leaving.reply.message, leaving.reply.trailers)
    except grpc.aio.AbortError:
        context.call.answered(leaving)
        raise
    except BaseException:  # noqa: BLE001  # grpc's error for this is not public
        context.call.gone()
    raise leaving.exception


def _cancelled() -> bool:
    """Tell whether the RPC's own task was cancelled: by grpc, as the caller has gone, or by the handler itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _received(request: Any, call: ServerCall) -> Any:
    if call.served.streamed:
        return Requests(request, call)
    return checked(request)


_END = object()


class _Responses(AsyncIterator[Any]):
    """A handler's responses; the handler is first called when the first one is taken."""

    __slots__ = ("_make", "made")

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self.made: AsyncIterator[Any] | None = None

    async def __anext__(self) -> Any:
        if self.made is None:
            made = self._make()
            self.made = aiter(made) if hasattr(made, "__aiter__") else _each(made)
        return await anext(self.made)

    async def follow(self, following: Any) -> None:
        """Take the responses from somewhere else from now on."""
        await self.aclose()
        self._make, self.made = lambda: following, None

    async def aclose(self) -> None:
        """Let a generator run its ``finally`` now, not when it is collected."""
        close = getattr(self.made, "aclose", None)
        if close is not None:
            try:
                await close()
            except asyncio.CancelledError:
                raise
            except BaseException:
                logger.exception("a handler's generator raised while it was closed")


async def _each(responses: Any) -> AsyncIterator[Any]:
    for response in responses:
        yield response


class Requests(AsyncIterator[Any]):
    """The requests of a stream, as grpc's own iterator gives them."""

    __slots__ = ("_call", "_requests")

    def __init__(self, requests: AsyncIterator[Any], call: ServerCall) -> None:
        self._requests = requests
        self._call = call

    async def __anext__(self) -> Any:
        try:
            request = checked(await anext(self._requests))
        except StopAsyncIteration:
            # To grpc the stream of a caller that cancels has ended, too; it cancels the task a moment later. A handler
            # must not take half a stream for the whole.
            await asyncio.sleep(0)
            raise
        call = self._call
        if call.served.counts:
            call.served.message(call.tokens, "received")
        return request

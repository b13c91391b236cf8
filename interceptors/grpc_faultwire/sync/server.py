"""The interceptor for grpc's sync servers: grpc's shapes, and what `server_call` decides carried out."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import grpc

from grpc_faultwire.exits import Exit, Recoverable, Reraise
from grpc_faultwire.interception import Interception
from grpc_faultwire.messages import UNCHECKED, Malformed, UnknownMethodError, UnserializableError, check, checked
from grpc_faultwire.server_call import Served, ServerCall
from grpc_faultwire.status import Reply

logger = logging.getLogger("grpc_faultwire.server")


class ServerInterceptor(Interception, grpc.ServerInterceptor):
    """Turns what handlers raise into errors that leave the server whole, and ends every RPC.

    Args:
        arguments: see `grpc_faultwire.interception.Interception`.
    """

    def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Any], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """Return the method's handler, wrapped. grpc calls this under its server's lock: nothing slow happens here."""
        path = handler_call_details.method
        audience = self._settings.audience
        try:
            if audience.intercepts:
                with audience.intercepting():
                    handler = continuation(handler_call_details)
            else:
                handler = continuation(handler_call_details)
        except Exception as exception:  # noqa: BLE001  # what an interceptor inside raises is answered like a handler's
            return self._failing(path, exception)
        if handler is None:
            return self._failing(path, UnknownMethodError(path))
        known = self._remembered.get(path)  # asked here already: every call comes this way
        return known[1] if known is not None and known[0] is handler else self._wrapped(path, handler)

    def _behavior(self, behavior: Callable[..., Any], served: Served) -> Callable[..., Any]:
        if not served.info.kind.response_streaming:
            wrap = _unary
        elif getattr(behavior, "experimental_non_blocking", False):
            wrap = _non_blocking
        else:
            wrap = _stream
        # Attributes such as experimental_thread_pool belong to the behavior, and grpc looks for them.
        return functools.update_wrapper(wrap(behavior, served), behavior)


def _unary(behavior: Callable[..., Any], served: Served) -> Callable[..., Any]:
    run = _active(behavior) if served.activates else behavior
    serializer = served.serializer

    def respond(request: Any, context: Any) -> Any:
        call = ServerCall(served, context)
        response = None
        try:
            if served.streamed or type(request) is Malformed:
                request = _received(request, call)
            response = run(request, Context(call))
            leaving = call.returned(response, serializer=serializer)
        except BaseException as exception:  # noqa: BLE001  # every exit must end the RPC
            leaving = call.raised(exception)
        if isinstance(leaving, Recoverable):
            response, leaving = _recover(call, leaving, serializer)
        if leaving is not None or call.details is not None:
            _leave(call, leaving)
        return response

    return respond


def _active(behavior: Callable[..., Any]) -> Callable[..., Any]:
    def run(request: Any, context: Any, *more: Any) -> Any:
        with context.call.active():
            return behavior(request, context, *more)

    return run


def _stream(behavior: Callable[..., Any], served: Served) -> Callable[..., Any]:
    def respond(request: Any, context: Any) -> Iterator[Any]:
        call = ServerCall(served, context)
        responses = _Responses(lambda: behavior(_received(request, call), Context(call)))
        try:
            response, leaving = _take(call, responses)
            while response is not _END:
                yield response
                response, leaving = _take(call, responses)
        except GeneratorExit:
            call.gone()
            raise
        finally:
            responses.close()
        _leave(call, leaving)

    return respond


def _non_blocking(behavior: Callable[..., Any], served: Served) -> Callable[..., Any]:
    run = _active(behavior) if served.activates else behavior

    def respond(request: Any, context: Any, send_response: Callable[[Any], None]) -> None:
        call = ServerCall(served, context)
        # Whose caller goes may never send again, and so never say that it has ended.
        if not context.add_callback(call.gone):
            call.gone()
        try:
            run(_received(request, call), Context(call), _Sender(call, send_response))
        except BaseException as exception:  # noqa: BLE001  # every exit must end the RPC
            leaving = call.raised(exception)
        else:
            return
        _leave(call, call.unrecovered(leaving.error) if isinstance(leaving, Recoverable) else leaving)

    return respond


class _Sender:
    """What a non-blocking behavior sends its responses with, from any thread; None ends the RPC."""

    def __init__(self, call: ServerCall, send_response: Callable[[Any], None]) -> None:
        self._call = call
        self._send = send_response

    def __call__(self, response: Any) -> None:
        leaving: Exit = None
        try:
            if response is None:
                leaving = self._call.returned()
            else:
                check(response, self._call.served.serializer)
        except UnserializableError as exception:
            response, leaving = None, self._call.raised(exception)
        if isinstance(leaving, Reply):
            # Raising here would reach nobody: set the status, and tell grpc that all is sent.
            context = self._call.context
            context.set_trailing_metadata(leaving.trailers)
            context.set_code(leaving.code)
            context.set_details(leaving.message)
        if response is not None:
            self._call.message("sent")
        self._send(response)


def _take(call: ServerCall, responses: _Responses) -> tuple[Any, Exit]:
    """Take one response; at the end, `_END` and what to do. A recovery's responses follow the handler's."""
    served = call.served
    try:
        if served.activates:
            with call.active():
                response = next(responses, _END)
        else:
            response = next(responses if responses.made is None else responses.made, _END)
        if response is not _END and call.aborted is None:
            check(response, served.serializer)
            if served.counts:
                served.message(call.tokens, "sent")
            return response, None
        leaving = call.returned()
    except BaseException as exception:  # noqa: BLE001  # every exit must end the RPC
        leaving = call.raised(exception)
    if isinstance(leaving, Recoverable):
        following, leaving = _recover(call, leaving)
        if leaving is None:
            responses.follow(following)
            return _take(call, responses)
    return _END, leaving


def _recover(call: ServerCall, leaving: Recoverable, serializer: Any = UNCHECKED) -> tuple[Any, Exit]:
    try:
        for recovery in leaving.recoveries:
            with call.active():
                answer = recovery(leaving.error, call)
            if answer is not None:
                return answer, call.recovered(leaving.error, answer, serializer)
    except BaseException as failure:  # noqa: BLE001  # whatever a user's recovery raises
        return None, call.unrecovered(leaving.error, failure)
    return None, call.unrecovered(leaving.error)


def _leave(call: ServerCall, leaving: Exit) -> None:
    """Do what was decided; outside any except block, or the handler's exception would show in the abort's context."""
    context = call.context
    if isinstance(leaving, Reply):
        context.set_trailing_metadata(leaving.trailers)
        context.abort(leaving.code, leaving.message)
    elif isinstance(leaving, Reraise):
        if call.code is not None:
            context.set_code(call.code)
        if call.details is not None:
            context.set_details(call.details)
        raise leaving.exception
    elif call.details is not None:
        context.set_details(call.details)


def _received(request: Any, call: ServerCall) -> Any:
    if call.served.streamed:
        return Requests(request, call)
    return checked(request)


_END = object()


class _Responses(Iterator[Any]):
    """A handler's responses; the handler is first called when the first one is taken."""

    __slots__ = ("_make", "made")

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self.made: Iterator[Any] | None = None

    def __next__(self) -> Any:
        if self.made is None:
            try:
                self.made = iter(self._make())
            except StopIteration as stop:
                raise RuntimeError("the handler raised StopIteration") from stop
        return next(self.made)

    def follow(self, following: Any) -> None:
        """Take the responses from somewhere else from now on."""
        self.close()
        self._make, self.made = lambda: following, None

    def close(self) -> None:
        """Let a generator run its ``finally`` now, not when it is collected."""
        close = getattr(self.made, "close", None)
        if close is not None:
            try:
                close()
            except BaseException:
                logger.exception("a handler's generator raised while it was closed")


class Requests(Iterator[Any]):
    """The requests of a stream, as grpc's own iterator gives them."""

    __slots__ = ("_call", "_requests")

    def __init__(self, requests: Iterator[Any], call: ServerCall) -> None:
        self._requests = requests
        self._call = call

    def __next__(self) -> Any:
        request = checked(next(self._requests))
        call = self._call
        if call.served.counts:
            call.served.message(call.tokens, "received")
        return request

    def next(self) -> Any:
        """Return the next request; grpc's iterator has this name too."""
        return next(self)


@grpc.ServicerContext.register
class Context:
    """The context that handlers get: what they say of the status is kept until they have left; all else is grpc's."""

    def __init__(self, call: ServerCall) -> None:
        self.call = call
        self._context = call.context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        """End the RPC with this status."""
        self.call.abort(code, details)
        # What grpc's own abort raises, for libraries that know it by its emptiness.
        raise Exception  # noqa: TRY002

    def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """End the RPC with this status; trailers that were set before stay."""
        self.call.abort(status.code, status.details, status.trailing_metadata or ())
        raise Exception  # noqa: TRY002  # as above

    def set_code(self, code: grpc.StatusCode) -> None:
        """Set the code that the RPC ends with if the handler returns."""
        self.call.code = code

    def code(self) -> grpc.StatusCode | None:
        """Return the code that was set; None: none was."""
        aborted = self.call.aborted
        return self.call.code if aborted is None else aborted.code()

    def set_details(self, details: str) -> None:
        """Set the message that the RPC ends with if the handler returns."""
        self.call.details = details

    def details(self) -> bytes | None:
        """Return the message that was set, as bytes, as grpc does; None: none was."""
        aborted = self.call.aborted
        text = self.call.details if aborted is None else aborted.message
        return None if text is None else text.encode()

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """Set the trailers.

        Raises:
            TypeError: they are no pairs.
            ValueError: one cannot travel; gRPC's core would replace the whole status because of it.
        """
        self._context.set_trailing_metadata(self.call.set_trailers(trailing_metadata))

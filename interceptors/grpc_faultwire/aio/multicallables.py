"""The multi-callables of a wrapped channel: grpc.aio's signatures, and our calls."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from grpc_faultwire.aio.calls import StreamStreamCall, StreamUnaryCall, UnaryStreamCall, UnaryUnaryCall
from grpc_faultwire.aio.method import Method
from grpc_faultwire.aio.running import Running

if TYPE_CHECKING:
    _UnaryUnary = grpc.aio.UnaryUnaryMultiCallable[Any, Any]
    _UnaryStream = grpc.aio.UnaryStreamMultiCallable[Any, Any]
    _StreamUnary = grpc.aio.StreamUnaryMultiCallable[Any, Any]
    _StreamStream = grpc.aio.StreamStreamMultiCallable[Any, Any]
else:
    # Not every supported grpcio lets them be subscripted.
    _UnaryUnary = grpc.aio.UnaryUnaryMultiCallable
    _UnaryStream = grpc.aio.UnaryStreamMultiCallable
    _StreamUnary = grpc.aio.StreamUnaryMultiCallable
    _StreamStream = grpc.aio.StreamStreamMultiCallable


class MultiCallable:
    """What the four have in common.

    Args:
        inner: grpc's own.
        method: how calls are made.
    """

    def __init__(self, inner: Any, method: Method) -> None:
        self._inner = inner
        self._method = method

    def _begin(self, request: Any, timeout: float | None, metadata: Any, options: dict[str, Any]) -> Running:
        if options["wait_for_ready"] is None:
            options["wait_for_ready"] = self._method.wait_for_ready
        running = Running(self._method, partial(self._inner, **options), timeout)
        running.start(request, metadata)
        return running


class UnaryUnaryMultiCallable(MultiCallable, _UnaryUnary):
    """Calls a method with one request and one response."""

    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> UnaryUnaryCall:
        """Start a call; arguments as grpc's, ``timeout`` in seconds for all attempts together."""
        method = self._method
        if credentials is None and wait_for_ready is None and compression is None and method.wait_for_ready is None:
            running = Running(method, self._inner, timeout)
            running.start(request, metadata)
            return UnaryUnaryCall(running)
        options = {"credentials": credentials, "wait_for_ready": wait_for_ready, "compression": compression}
        return UnaryUnaryCall(self._begin(request, timeout, metadata, options))


class UnaryStreamMultiCallable(MultiCallable, _UnaryStream):
    """Calls a method with one request and a stream of responses."""

    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> UnaryStreamCall:
        """Start a call; arguments as grpc's, ``timeout`` in seconds for all attempts together."""
        options = {"credentials": credentials, "wait_for_ready": wait_for_ready, "compression": compression}
        return UnaryStreamCall(self._begin(request, timeout, metadata, options))


class StreamUnaryMultiCallable(MultiCallable, _StreamUnary):
    """Calls a method with a stream of requests and one response."""

    def __call__(  # noqa: PLR0917  # grpc's signature
        self,
        request_iterator: Any = None,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,  # noqa: FBT001  # grpc's signature
        compression: grpc.Compression | None = None,
    ) -> StreamUnaryCall:
        """Start a call; arguments as grpc's, ``timeout`` in seconds for all attempts together."""
        options = {"credentials": credentials, "wait_for_ready": wait_for_ready, "compression": compression}
        return StreamUnaryCall(self._begin(request_iterator, timeout, metadata, options))


class StreamStreamMultiCallable(MultiCallable, _StreamStream):
    """Calls a method with a stream of requests and a stream of responses."""

    def __call__(  # noqa: PLR0917  # grpc's signature
        self,
        request_iterator: Any = None,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,  # noqa: FBT001  # grpc's signature
        compression: grpc.Compression | None = None,
    ) -> StreamStreamCall:
        """Start a call; arguments as grpc's, ``timeout`` in seconds for all attempts together."""
        options = {"credentials": credentials, "wait_for_ready": wait_for_ready, "compression": compression}
        return StreamStreamCall(self._begin(request_iterator, timeout, metadata, options))

# ruff: noqa: FBT001, PLR0917  # grpc's signatures: what bare grpc takes by position, these take too
"""The four multi-callables of a wrapped channel: what stubs hold and call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import grpc

from grpc_faultwire.sync.method import Method

if TYPE_CHECKING:
    _UnaryUnary = grpc.UnaryUnaryMultiCallable[Any, Any]
    _UnaryStream = grpc.UnaryStreamMultiCallable[Any, Any]
    _StreamUnary = grpc.StreamUnaryMultiCallable[Any, Any]
    _StreamStream = grpc.StreamStreamMultiCallable[Any, Any]
else:
    _UnaryUnary = grpc.UnaryUnaryMultiCallable
    _UnaryStream = grpc.UnaryStreamMultiCallable
    _StreamUnary = grpc.StreamUnaryMultiCallable
    _StreamStream = grpc.StreamStreamMultiCallable


class UnaryUnaryMultiCallable(_UnaryUnary):
    """One request, one response; see grpc.UnaryUnaryMultiCallable. Failures are `StatusError`s."""

    def __init__(self, inner: _UnaryUnary, method: Method) -> None:
        self._inner = inner
        self._method = method

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Call, and wait for the response."""
        options = credentials, wait_for_ready, compression
        if self._method.hedges:
            return self._method.wait(self._inner.future, request, timeout, metadata, options)[0]
        return self._method.call(self._inner, request, timeout, metadata, options)

    def with_call(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Call, and wait for the response and grpc's own call object."""
        options = credentials, wait_for_ready, compression
        if self._method.hedges:
            return self._method.wait(self._inner.future, request, timeout, metadata, options)
        return self._method.call(self._inner.with_call, request, timeout, metadata, options, with_call=True)

    def future(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Call, and return at once."""
        options = credentials, wait_for_ready, compression
        return self._method.begin(self._inner.future, request, timeout, metadata, options)


class UnaryStreamMultiCallable(_UnaryStream):
    """One request, a stream of responses; see grpc.UnaryStreamMultiCallable. Failures are `StatusError`s."""

    def __init__(self, inner: _UnaryStream, method: Method) -> None:
        self._inner = inner
        self._method = method

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Call, and return an iterator of the responses."""
        options = credentials, wait_for_ready, compression
        return self._method.begin(self._inner, request, timeout, metadata, options)


class StreamUnaryMultiCallable(_StreamUnary):
    """A stream of requests, one response; see grpc.StreamUnaryMultiCallable. Failures are `StatusError`s."""

    def __init__(self, inner: _StreamUnary, method: Method) -> None:
        self._inner = inner
        self._method = method

    def __call__(
        self,
        request_iterator: Iterator[Any],
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Call, and wait for the response."""
        options = credentials, wait_for_ready, compression
        return self._method.call(self._inner, request_iterator, timeout, metadata, options)

    def with_call(
        self,
        request_iterator: Iterator[Any],
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Call, and wait for the response and grpc's own call object."""
        options = credentials, wait_for_ready, compression
        return self._method.call(self._inner.with_call, request_iterator, timeout, metadata, options, with_call=True)

    def future(
        self,
        request_iterator: Iterator[Any],
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Call, and return at once."""
        options = credentials, wait_for_ready, compression
        return self._method.begin(self._inner.future, request_iterator, timeout, metadata, options)


class StreamStreamMultiCallable(_StreamStream):
    """A stream of requests and one of responses; see grpc.StreamStreamMultiCallable. Failures are `StatusError`s."""

    def __init__(self, inner: _StreamStream, method: Method) -> None:
        self._inner = inner
        self._method = method

    def __call__(
        self,
        request_iterator: Iterator[Any],
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Call, and return an iterator of the responses."""
        options = credentials, wait_for_ready, compression
        return self._method.begin(self._inner, request_iterator, timeout, metadata, options)

"""`collects_errors`: `ErrorCollector` as a decorator of a servicer's method, in both worlds and all four shapes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from grpc_faultwire.batch import fields
from grpc_faultwire.batch.collector import ErrorCollector

Method = Callable[..., Any]
"""A servicer's method: ``(self, request, context)``; with an `ErrorCollector` as its last argument before it is
decorated."""


def collects_errors(
    items: str | Callable[[Any], int] | None = None, *, field: str | None = None, **settings: Any
) -> Callable[[Method], Method]:
    """Give a servicer's method an `ErrorCollector` as its last argument, and end the batch when it has returned.

    The outcome is put into what a method of one response returns; a response stream's responses bear their items'
    statuses themselves. Of an atomic batch the error is raised at the end.

    Args:
        items: the request's repeated field, or a function from the request to the number of items. None: as many as
            are seen; so it is for request streams.
        field: where the response keeps the outcome. None: the only field of such a type; one that has none is left
            alone.
        settings: of `ErrorCollector`.
    """

    def decorate(method: Method) -> Method:
        def begin(arguments: tuple[Any, ...]) -> ErrorCollector:
            request, context = arguments[-2:]
            return ErrorCollector(context, total=_count(items, request), **settings)

        def end(errors: ErrorCollector, response: Any) -> Any:
            told = field is not None or (hasattr(response, "DESCRIPTOR") and fields.has(response, fields.is_outcome))
            return errors.fill(response, field) if told else response

        return functools.update_wrapper(_wrapper(method, begin, end), method)

    return decorate


def _wrapper(
    method: Method,
    begin: Callable[[tuple[Any, ...]], ErrorCollector],
    end: Callable[[ErrorCollector, Any], Any],
) -> Method:
    """Return a function of the same flavour: grpc.aio looks at it to know how to call it."""

    def unary(*arguments: Any) -> Any:
        response = None
        with begin(arguments) as errors:
            response = method(*arguments, errors)
        return end(errors, response)

    def stream(*arguments: Any) -> Iterator[Any]:
        with begin(arguments) as errors:
            yield from method(*arguments, errors)

    async def aio_unary(*arguments: Any) -> Any:
        response = None
        with begin(arguments) as errors:
            response = await method(*arguments, errors)
        return end(errors, response)

    async def aio_stream(*arguments: Any) -> AsyncIterator[Any]:
        with begin(arguments) as errors:
            async for response in method(*arguments, errors):
                yield response

    if inspect.iscoroutinefunction(method):
        return aio_unary
    if inspect.isasyncgenfunction(method):
        return aio_stream
    return stream if inspect.isgeneratorfunction(method) else unary


def _count(items: str | Callable[[Any], int] | None, request: Any) -> int | None:
    if items is None:
        return None
    return len(getattr(request, items)) if isinstance(items, str) else items(request)

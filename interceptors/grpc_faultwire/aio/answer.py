"""A fallback's answer, in the place of grpc's call object."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Iterable
from typing import Any

import grpc
import grpc.aio

from grpc_faultwire.aio.native import ALREADY_FINISHED


class Answer:
    """What an attempt looks like that was answered by a fallback: done, and OK.

    Args:
        answer: the response; of a response stream, an iterable or asynchronous iterable of responses.
    """

    def __init__(self, answer: Any) -> None:
        self._answer = answer
        self._responses: AsyncIterator[Any] | None = None

    def __repr__(self) -> str:
        return "<Answer of a fallback>"

    def __await__(self) -> Generator[Any, None, Any]:
        return self._answer
        yield  # makes it a generator, which has nothing to wait for

    def __aiter__(self) -> AsyncIterator[Any]:
        if self._responses is None:
            self._responses = _responses(self._answer)
        return self._responses

    async def read(self) -> Any:
        """Return the next response, or grpc.aio.EOF after the last."""
        return await anext(aiter(self), grpc.aio.EOF)

    async def write(self, request: Any) -> None:  # noqa: ARG002  # grpc's signature
        """Refuse, as grpc's call objects do after the end."""
        raise asyncio.InvalidStateError(ALREADY_FINISHED)

    async def done_writing(self) -> None:
        """Do nothing, as grpc's call objects after the end."""

    async def wait_for_connection(self) -> None:
        """Return at once."""

    async def code(self) -> grpc.StatusCode:
        """Return OK."""
        return grpc.StatusCode.OK

    async def details(self) -> str:
        """Return nothing."""
        return ""

    debug_error_string = details

    async def initial_metadata(self) -> grpc.aio.Metadata:
        """Return none: no server has answered."""
        return grpc.aio.Metadata()

    trailing_metadata = initial_metadata

    def done(self) -> bool:
        """Return True."""
        return True

    def cancel(self) -> bool:
        """Return False: it is too late."""
        return False

    def cancelled(self) -> bool:
        """Return False."""
        return False

    def time_remaining(self) -> float | None:
        """Return None."""
        return None

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call back at once."""
        callback(self)


def is_stream(answer: Any) -> bool:
    """Whether an answer can take the place of a stream of responses."""
    return isinstance(answer, AsyncIterable | Iterable)


async def _responses(answer: Any) -> AsyncIterator[Any]:
    if isinstance(answer, AsyncIterable):
        async for response in answer:
            yield response
    else:
        for response in answer:
            yield response

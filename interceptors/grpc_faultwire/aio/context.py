"""What handlers of an aio server get as their context."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn

import grpc
import grpc.aio

from grpc_faultwire.messages import check, checked
from grpc_faultwire.server_call import ServerCall


@grpc.aio.ServicerContext.register
class Context:
    """The context that handlers get: what they say of the status is kept until they have left; all else is grpc's."""

    _writing: set[asyncio.Future[None]] | None = None

    def __init__(self, call: ServerCall) -> None:
        self.call = call
        self.grpc_context = call.context

    def __getattr__(self, name: str) -> Any:
        return getattr(self.grpc_context, name)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        """End the RPC with this status; trailers that were set before stay."""
        self.call.abort(code, details, trailing_metadata)
        raise grpc.aio.AbortError("Locally aborted.")

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """End the RPC with this status; trailers that were set before stay."""
        await self.abort(status.code, status.details, status.trailing_metadata or ())

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

    def details(self) -> str:
        """Return the message that was set; "": none was."""
        aborted = self.call.aborted
        return (self.call.details or "") if aborted is None else aborted.message

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """Set the trailers.

        Raises:
            TypeError: they are no pairs.
            ValueError: one cannot travel; gRPC's core would replace the whole status because of it.
        """
        self.grpc_context.set_trailing_metadata(self.call.set_trailers(trailing_metadata))

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call this with the context once the RPC has ended."""
        self.grpc_context.add_done_callback(lambda _: callback(self))

    async def read(self) -> Any:
        """Return the next request, or grpc.aio.EOF."""
        request = await self.grpc_context.read()
        if request is not grpc.aio.EOF:
            checked(request)
            self.call.message("received")
        return request

    async def write(self, message: Any) -> None:
        """Send a response."""
        if self.call.aborted is not None:
            raise grpc.aio.AbortError("Locally aborted.")
        check(message, self.call.served.serializer)
        # Shielded: when its task is cancelled, grpc's core goes on with a write, and nothing can be sent beside it.
        writing = asyncio.ensure_future(self.grpc_context.write(message))
        if self._writing is None:
            self._writing = set()
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        writing.add_done_callback(_looked_at)
        await asyncio.shield(writing)
        self.call.message("sent")

    async def written(self) -> None:
        """Wait for writes under way: a status sent during one is lost, and the caller waits for ever."""
        if self._writing:
            await asyncio.wait(self._writing)


def _looked_at(writing: asyncio.Future[None]) -> None:
    if not writing.cancelled():
        writing.exception()  # or asyncio reports it where nobody waits any more

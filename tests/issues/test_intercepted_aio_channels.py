"""What gRPC's own tests found of a wrapped channel with interceptors inside, told again as calls of ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from grpc_faultwire.aio import wrap_channel
from grpc_faultwire.config import ClientPolicy

REFUSES = "127.0.0.1:1"


class Held(grpc.aio.UnaryUnaryClientInterceptor):
    """An interceptor that never gets to its RPC."""

    async def hold(self, continuation: Any, details: Any, request: Any) -> Any:
        await asyncio.get_running_loop().create_future()

    intercept_unary_unary = hold


class HeldStream(grpc.aio.StreamUnaryClientInterceptor):
    """The same, for a stream of requests."""

    intercept_stream_unary = Held.hold


class Cancels(grpc.aio.StreamUnaryClientInterceptor):
    """An interceptor that cancels what it has begun."""

    async def intercept_stream_unary(self, continuation: Any, details: Any, requests: Any) -> Any:
        call = await continuation(details, requests)
        call.cancel()
        return call


class Passes(grpc.aio.StreamUnaryClientInterceptor):
    """An interceptor that changes nothing."""

    async def intercept_stream_unary(self, continuation: Any, details: Any, requests: Any) -> Any:
        return await continuation(details, requests)


WRAPPINGS: dict[str, Callable[[grpc.aio.Channel], grpc.aio.Channel]] = {
    "bare": lambda channel: channel,
    "wrapped": wrap_channel,
    "with a policy": lambda channel: wrap_channel(channel, ClientPolicy()),
}
wrappings = pytest.mark.parametrize("wrapping", WRAPPINGS)


@asynccontextmanager
async def channel_with(wrapping: str, interceptor: grpc.aio.ClientInterceptor) -> AsyncIterator[grpc.aio.Channel]:
    async with WRAPPINGS[wrapping](grpc.aio.insecure_channel(REFUSES, interceptors=[interceptor])) as channel:
        yield channel


@wrappings
def test_a_call_that_never_was_begun_has_no_metadata(wrapping: str) -> None:
    """Cancelled inside an interceptor, a call of grpc.aio has None for metadata, and so has ours."""

    async def run() -> None:
        async with channel_with(wrapping, Held()) as channel:
            call = channel.unary_unary("/x.X/X")(b"a")
            await asyncio.sleep(0)
            assert call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await call.code() is grpc.StatusCode.CANCELLED
            assert await call.initial_metadata() is None
            assert await call.trailing_metadata() is None

    asyncio.run(run())


async def written(call: Any) -> type[BaseException] | None:
    """Write until that fails; what it fails with."""
    try:
        for _ in range(10):
            await call.write(b"a")
    except (Exception, asyncio.CancelledError) as raised:
        return type(raised)
    return None


@wrappings
@pytest.mark.parametrize("interceptor", [HeldStream, Passes, Cancels])
def test_a_write_to_a_call_that_was_cancelled(wrapping: str, interceptor: type[Any]) -> None:
    """With interceptors inside, grpc.aio refuses it as one after the end, whoever has cancelled the call."""

    async def run() -> None:
        async with channel_with(wrapping, interceptor()) as channel:
            call = channel.stream_unary("/x.X/X")()
            if interceptor is not Cancels:
                await asyncio.sleep(0)
                assert call.cancel()
            assert await written(call) is asyncio.InvalidStateError
            with pytest.raises(asyncio.CancelledError):
                await call

    asyncio.run(run())


@wrappings
def test_a_write_to_a_call_that_failed(wrapping: str) -> None:
    """With interceptors inside, grpc.aio tells the writer that the call is over, and the reader why."""

    async def run() -> None:
        async with channel_with(wrapping, Passes()) as channel:
            call = channel.stream_unary("/x.X/X")()
            assert await written(call) is asyncio.InvalidStateError
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    asyncio.run(run())

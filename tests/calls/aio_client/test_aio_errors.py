"""Errors on a wrapped channel are typed, and serializers that raise are errors."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import grpc
import grpc.aio
import pytest
from aio_lab import KINDS, SS, SU, US, UU, consume, lab
from google.rpc import error_details_pb2, status_pb2

from grpc_faultwire import errors
from grpc_faultwire.category import Category
from grpc_faultwire.errors import Origin
from grpc_faultwire.status import DETAILS_KEY

kinds = pytest.mark.parametrize("kind", KINDS)
doors = pytest.mark.parametrize("how", ["wrapped", "official"])


class Rich(grpc.GenericRpcHandler):
    """A server that fails with details."""

    def service(self, details: Any) -> Any:
        async def fail(request: Any, context: Any) -> None:
            info = error_details_pb2.ErrorInfo(reason="BOOK_LOST", domain="shop.example.com", metadata={"isbn": "1"})
            status = status_pb2.Status(code=9, message="lost")
            status.details.add().Pack(info)
            context.set_trailing_metadata(((DETAILS_KEY, status.SerializeToString()),))
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "lost")

        makers = {
            "/rich/unary_unary": grpc.unary_unary_rpc_method_handler,
            "/rich/unary_stream": grpc.unary_stream_rpc_method_handler,
            "/rich/stream_unary": grpc.stream_unary_rpc_method_handler,
            "/rich/stream_stream": grpc.stream_stream_rpc_method_handler,
        }
        maker = makers.get(details.method)
        return None if maker is None else maker(fail)


# Errors.


@doors
@kinds
def test_rich_errors_are_typed(kind: str, how: str) -> None:
    """An error with details is of its code's class, tells its reason, and has grpc's own error as its cause."""

    async def run() -> None:
        async with lab(how, servicers=[Rich()]) as made:
            call = getattr(made.channel, kind)(f"/rich/{kind}")(b"a" if kind in (UU, US) else iter([]))
            with pytest.raises(errors.FailedPrecondition) as caught:
                await consume(kind, call)
            error = caught.value
            assert (error.reason, error.domain, dict(error.metadata)) == (
                "BOOK_LOST",
                "shop.example.com",
                {"isbn": "1"},
            )
            assert error.origin is Origin.REMOTE
            assert type(error.__cause__) is grpc.aio.AioRpcError
            assert isinstance(error, grpc.aio.AioRpcError)
            assert isinstance(error.trailing_metadata(), grpc.aio.Metadata)

    asyncio.run(run())


@kinds
def test_each_raise_is_fresh(kind: str) -> None:
    """The same failure raised twice is two exceptions, so that tracebacks do not grow."""

    async def run() -> None:
        async with lab() as made:
            call = made.call(kind, "abort:NOT_FOUND")
            caught = []
            for _ in range(2):
                with pytest.raises(errors.NotFound) as raised:
                    await (call if kind in (UU, SU) else call.read())
                caught.append(raised.value)
            assert caught[0] is not caught[1]
            assert str(caught[0]) == str(caught[1])

    asyncio.run(run())


@pytest.mark.parametrize("kind", [SU, SS])
def test_write_that_meets_an_error(kind: str) -> None:
    """When a write and the server's error meet, the error is the server's; if grpc lost it, it counts as transport."""

    async def run() -> None:
        async with lab() as made:
            codes = set()
            for _ in range(100):
                call = made.method(kind)(iter([b"a", b"b"]), metadata=(("script", "abort:NOT_FOUND"),))
                with pytest.raises(errors.StatusError) as caught:
                    await consume(kind, call)
                assert caught.value.code() is await call.code()
                if not isinstance(caught.value, errors.NotFound):
                    assert caught.value.category is Category.TRANSPORT
                codes.add(caught.value.code())
            assert codes <= {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INTERNAL}
            assert grpc.StatusCode.NOT_FOUND in codes
            await made.settled()
            assert {end.code for end in made.ends.outcomes} == codes

    asyncio.run(run())


def test_success_is_final() -> None:
    """A write that fails after the end changes the status that grpc remembers, but not the code of our call."""

    async def run() -> None:
        async with lab() as made:
            call = made.call(SU)
            await call
            call._running.call._cython_call.set_internal_error("a late write")
            assert await call._running.call.code() is grpc.StatusCode.INTERNAL
            assert await call.code() is grpc.StatusCode.OK

    asyncio.run(run())


# Serializers.


def broken(message: Any) -> Any:
    raise ValueError("cannot")


@pytest.mark.parametrize("writing", ["iterator", "writes"])
@kinds
def test_request_serializer_that_raises(kind: str, writing: str, caplog: pytest.LogCaptureFixture) -> None:
    """A request that cannot be serialized fails its call, where bare grpc.aio sends an empty request."""

    async def run() -> None:
        async with lab() as made:
            method = made.method(kind, request_serializer=broken)
            if kind in (UU, US):
                call = method(b"a")
            elif writing == "iterator":
                call = method(iter([b"a"]))
            else:
                call = method()
                with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
                    await call.write(b"a")
            with pytest.raises(errors.Internal, match="Exception serializing request!") as caught:
                await consume(kind, call)
            assert isinstance(caught.value.__cause__, ValueError)
            assert (call.done(), call.cancelled(), await call.code()) == (True, False, grpc.StatusCode.INTERNAL)
            await made.settled()
            assert made.ends.hows == ["failed"]
            assert b"" not in made.seen

    asyncio.run(run())


@kinds
def test_response_deserializer_that_raises(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """A response that cannot be deserialized fails its call, where bare grpc.aio returns None and OK."""

    async def run() -> None:
        async with lab() as made:
            method = made.method(kind, response_deserializer=broken)
            call = method(b"a" if kind in (UU, US) else iter([b"a"]))
            for _ in range(2):
                with pytest.raises(errors.Internal, match="Exception deserializing response!") as caught:
                    await (call if kind in (UU, SU) else call.read())
                assert isinstance(caught.value.__cause__, ValueError)
            assert (await call.code(), call.done()) == (grpc.StatusCode.INTERNAL, True)
            await made.settled()
            assert made.ends.hows == ["failed"]

    asyncio.run(run())


@pytest.mark.parametrize("kind", [UU, US])
def test_unsendable_request(kind: str) -> None:
    """A request that grpc refuses in a task of its own raises what grpc raises, and ends the call."""

    async def run() -> None:
        async with lab() as made:
            call = made.method(kind)("no bytes")
            with pytest.raises(TypeError):
                await consume(kind, call)
            await made.settled()
            assert made.ends.hows == ["failed"]

    asyncio.run(run())

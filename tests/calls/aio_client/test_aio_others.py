"""How a wrapped channel, and the official door, get on with others."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import google.api_core.exceptions
import google.api_core.grpc_helpers_async
import google.api_core.retry
import grpc
import grpc.aio
import pytest
from aio_lab import KINDS, SS, SU, US, UU, Ends, Scripted, consume, lab
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc
from opentelemetry.instrumentation.grpc import aio_client_interceptors
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from grpc_faultwire import errors, testing
from grpc_faultwire.aio import client_interceptors, wrap_channel

kinds = pytest.mark.parametrize("kind", KINDS)
doors = pytest.mark.parametrize("how", ["wrapped", "official"])


def broken(message: Any) -> Any:
    raise ValueError("cannot")


# Others.


class Passes(
    grpc.aio.UnaryUnaryClientInterceptor,
    grpc.aio.UnaryStreamClientInterceptor,
    grpc.aio.StreamUnaryClientInterceptor,
    grpc.aio.StreamStreamClientInterceptor,
):
    """An interceptor that adds metadata and awaits the call, as many do."""

    async def _pass(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        metadata = grpc.aio.Metadata(*(client_call_details.metadata or ()), ("x-passed", "yes"))
        return await continuation(client_call_details._replace(metadata=metadata), request)

    intercept_unary_unary = intercept_unary_stream = intercept_stream_unary = intercept_stream_stream = _pass


def single(kind: str) -> Any:
    """One interceptor of one kind: grpc.aio takes many-sided ones for their first kind only."""
    base = {
        UU: grpc.aio.UnaryUnaryClientInterceptor,
        US: grpc.aio.UnaryStreamClientInterceptor,
        SU: grpc.aio.StreamUnaryClientInterceptor,
        SS: grpc.aio.StreamStreamClientInterceptor,
    }[kind]
    return type("One", (base,), {f"intercept_{kind}": Passes._pass})()


@kinds
def test_interceptors_of_the_bare_channel(kind: str) -> None:
    """Interceptors that the bare channel was made with go on working, and see messages, not bytes."""

    async def run() -> None:
        async with lab(interceptors=[single(kind)]) as made:
            assert await consume(kind, made.call(kind)) is not None
            assert made.seen[0 if kind in (SU, SS) else 1] == ("start", kind, [("x-passed", "yes")])
            with pytest.raises(errors.NotFound):
                await consume(kind, made.call(kind, "abort:NOT_FOUND"))
            call = made.call(kind, "hang")
            await made.until(("start", kind, [("x-passed", "yes")]))
            await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await consume(kind, call)
            await made.settled()
            assert made.ends.hows == ["done", "done", "cancelled"]

    asyncio.run(run())


class Raises(grpc.aio.UnaryUnaryClientInterceptor):
    """An interceptor that raises."""

    def __init__(self, raised: Exception) -> None:
        self._raised = raised

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        raise self._raised


@doors
def test_interceptors_that_raise(how: str) -> None:
    """An interceptor's AioRpcError is decoded as any, and anything else is raised as it is; the call has one end."""

    async def run() -> None:
        refused = grpc.aio.AioRpcError(
            grpc.StatusCode.UNAUTHENTICATED, grpc.aio.Metadata(), grpc.aio.Metadata(), "who?", ""
        )
        for raised, expected in ((refused, errors.Unauthenticated), (KeyError("x"), (KeyError, errors.Unknown))):
            async with lab("wrapped", interceptors=[Raises(raised)]) as made:
                with pytest.raises(expected):
                    await made.call(UU)
                await made.settled()
        async with lab(how, interceptors=[]) as made:
            await made.call(UU)

    asyncio.run(run())


class Answers(grpc.aio.UnaryUnaryClientInterceptor):
    """An interceptor that answers itself, as caches do."""

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return b"cached"


def test_interceptors_that_answer() -> None:
    """A response that never was on the wire is a response."""

    async def run() -> None:
        async with lab(interceptors=[Answers()]) as made:
            call = made.call(UU)
            assert await call == b"cached"
            assert (await call.code(), call.done()) == (grpc.StatusCode.OK, True)
            await made.settled()

    asyncio.run(run())


@kinds
def test_wrapped_twice(kind: str) -> None:
    """A wrapped channel can be wrapped again."""

    async def run() -> None:
        async with lab() as made:
            made.channel = wrap_channel(made.channel)
            assert await consume(kind, made.call(kind)) is not None
            with pytest.raises(errors.NotFound):
                await consume(kind, made.call(kind, "abort:NOT_FOUND"))
            await made.settled()

    asyncio.run(run())


@kinds
@pytest.mark.parametrize("ours", ["inside", "outside"])
def test_interceptors_beside_the_official_door(kind: str, ours: str) -> None:
    """Somebody's interceptor and ours on one channel, in either order: answers, typed errors, one end for each call."""

    async def run() -> None:
        ends = Ends()
        official = client_interceptors(observers=[ends])
        order = [*official, single(kind)] if ours == "outside" else [single(kind), *official]
        async with lab("bare", interceptors=order) as made:
            assert await consume(kind, made.call(kind)) is not None
            assert made.seen[0 if kind in (SU, SS) else 1] == ("start", kind, [("x-passed", "yes")])
            with pytest.raises(errors.NotFound):
                await consume(kind, made.call(kind, "abort:NOT_FOUND"))
            await made.settled()
            ends.assert_exactly_once()
            assert [outcome.code.name for outcome in ends.outcomes] == ["OK", "NOT_FOUND"]

    asyncio.run(run())


@kinds
def test_opentelemetry_inside_the_official_door(kind: str) -> None:
    """With its interceptors after ours, its spans are the attempts'."""

    async def run() -> None:
        exporter, ends = InMemorySpanExporter(), Ends()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        order = [*client_interceptors(observers=[ends]), *aio_client_interceptors(tracer_provider=provider)]
        async with lab("bare", interceptors=order) as made:
            await consume(kind, made.call(kind))
            with pytest.raises(errors.NotFound):
                await consume(kind, made.call(kind, "abort:NOT_FOUND"))
            await made.settled()
            await asyncio.sleep(0.01)
            assert [span.name for span in exporter.get_finished_spans()] == [f"/lab.Lab/{kind}"] * 2
            assert [outcome.code.name for outcome in ends.outcomes] == ["OK", "NOT_FOUND"]
        provider.shutdown()

    asyncio.run(run())


@doors
@kinds
def test_opentelemetry(kind: str, how: str) -> None:
    """OpenTelemetry's interceptors give one span for an attempt, inside ours and beside the official door."""

    async def run() -> None:
        exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        async with lab(how, interceptors=aio_client_interceptors(tracer_provider=provider)) as made:
            await consume(kind, made.call(kind))
            with pytest.raises(errors.NotFound):
                await consume(kind, made.call(kind, "abort:NOT_FOUND"))
            await made.settled()
            await asyncio.sleep(0.01)
            names = [span.name for span in exporter.get_finished_spans()]
            assert names == [f"/lab.Lab/{kind}"] * 2
        provider.shutdown()

    asyncio.run(run())


@kinds
def test_google_api_core(kind: str) -> None:
    """Its error mapping and call wrappers take our calls and errors for grpc's, in all shapes."""

    async def run() -> None:
        async with lab() as made:
            method = google.api_core.grpc_helpers_async.wrap_errors(made.method(kind))

            async def call(script: str) -> Any:
                request = b"a" if kind in (UU, US) else iter([b"a"])
                begun = method(request, metadata=(("script", script if kind in (UU, US) else f"drain {script}"),))
                return await consume(kind, begun if kind == UU else await begun)

            assert await call("reply:2" if kind in (US, SS) else "trail") is not None
            with pytest.raises(google.api_core.exceptions.NotFound, match="the server says so") as caught:
                await call("abort:NOT_FOUND")
            assert isinstance(caught.value.errors[0], errors.NotFound)
            retry = google.api_core.retry.AsyncRetry(initial=0.01, maximum=0.01, timeout=5)
            assert await retry(call)("fail:UNAVAILABLEx1") is not None
            await made.settled()
            assert [outcome.code.name for outcome in made.ends.outcomes] == ["OK", "NOT_FOUND", "UNAVAILABLE", "OK"]

    asyncio.run(run())


@doors
def test_health_and_reflection(how: str) -> None:
    """Generated stubs for health and reflection work, registered methods and streams included."""

    async def run() -> None:
        checker = health.aio.HealthServicer()
        await checker.set("lab", health_pb2.HealthCheckResponse.SERVING)
        reflector = reflection.aio.ReflectionServicer(["lab.Lab"])
        async with testing.serve([checker, reflector]) as server, lab(how) as made:
            bare = grpc.aio.insecure_channel(server.address)
            async with wrap_channel(bare, observers=[made.ends]) as channel:
                stub = health_pb2_grpc.HealthStub(channel)
                request = health_pb2.HealthCheckRequest(service="lab")
                assert (await stub.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
                with pytest.raises(errors.NotFound):
                    await stub.Check(health_pb2.HealthCheckRequest(service="none"))
                watch = stub.Watch(request)
                assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
                watch.cancel()
                reflected = reflection_pb2_grpc.ServerReflectionStub(channel)
                asked = reflection_pb2.ServerReflectionRequest(list_services="")
                [answer] = [one async for one in reflected.ServerReflectionInfo(iter([asked]))]
                assert isinstance(answer, Message)
                assert [one.name for one in answer.list_services_response.service] == ["lab.Lab"]
            await made.settled()

    asyncio.run(run())


# The official door.


@kinds
def test_official_door_works(kind: str) -> None:
    """Results, errors and cancellation come through the official interceptors, and each call has one end."""

    async def run() -> None:
        async with lab("official") as made:
            assert await consume(kind, made.call(kind)) is not None
            with pytest.raises(errors.NotFound):
                await consume(kind, made.call(kind, "abort:NOT_FOUND"))
            call = made.call(kind, "hang")
            await made.until(("start", kind, []))
            waiting = asyncio.ensure_future(consume(kind, call))
            await asyncio.sleep(0.01)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await made.until(("raised", "CancelledError"))
            await made.settled()
            assert made.ends.hows == ["done", "done", "cancelled"]

    asyncio.run(run())


def test_official_door_cannot_do() -> None:
    """What grpc's interceptor API keeps from us, so that a grpcio that mends it is noticed."""

    async def run() -> None:
        async with lab("official") as made:
            early = made.call(UU, "hang")
            early.cancel()
            with pytest.raises(asyncio.CancelledError):
                await early
            assert made.ends.started == 0
            call = made.call(US, "reply:2 abort:NOT_FOUND")
            with pytest.raises(NotImplementedError):
                call.time_remaining()
            assert [await call.read(), await call.read()] == [b"reply 0", b"reply 1"]
            with pytest.raises(errors.NotFound):
                await call.read()
            assert await call.read() is grpc.aio.EOF
            logging.disable(logging.ERROR)
            try:
                assert await made.method(UU, response_deserializer=broken)(b"a") is None
            finally:
                logging.disable(logging.NOTSET)
            await made.settled()

    asyncio.run(run())


@pytest.mark.parametrize("kind", [SU, SS])
def test_official_door_does_not_resend_streams(kind: str) -> None:
    """Requests that came by an iterator are gone: through the official door their call is not tried again."""

    async def run() -> None:
        async with lab("official", policy=Scripted([0.01], reckless=True)) as made:
            with pytest.raises(errors.Unavailable, match="failure 1"):
                await consume(kind, made.call(kind, "drain fail:UNAVAILABLEx1"))
            await made.settled()
            assert made.ends.attempts == [("start", 1), ("end", 1)]

    asyncio.run(run())

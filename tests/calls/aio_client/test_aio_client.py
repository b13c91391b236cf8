"""What a wrapped channel adds to grpc's: typed errors, observers, honest ends, and how it gets on with others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import grpc
import grpc.aio
import pytest
from aio_lab import KINDS, SS, SU, US, UU, consume, lab
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc
from opentelemetry.instrumentation.grpc import aio_client_interceptors
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from grpc_faultwire import errors, testing
from grpc_faultwire.aio import wrap_channel
from grpc_faultwire.category import Category
from grpc_faultwire.errors import Origin
from grpc_faultwire.status import DETAILS_KEY, from_rpc_error

kinds = pytest.mark.parametrize("kind", KINDS)
doors = pytest.mark.parametrize("how", ["wrapped", "official"])


class _Rich(grpc.GenericRpcHandler):
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
        async with lab(how, servicers=[_Rich()]) as made:
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


def test_from_rpc_error_decodes_bare_errors() -> None:
    """from_rpc_error makes the typed error of whatever a bare grpc.aio channel raises."""

    async def run() -> None:
        async with lab("bare", servicers=[_Rich()]) as made:
            for kind in KINDS:
                call = getattr(made.channel, kind)(f"/rich/{kind}")(b"a" if kind in (UU, US) else iter([]))
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await consume(kind, call)
                error = from_rpc_error(caught.value)
                assert type(error) is errors.FailedPrecondition
                assert error.__cause__ is caught.value
                assert from_rpc_error(error) is error
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await made.call(UU, "hang", timeout=0.01)
            assert type(from_rpc_error(caught.value)) is errors.DeadlineExceeded

    asyncio.run(run())


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_from_rpc_error_of_a_call_object_tells_nothing() -> None:
    """An aio call object answers in coroutines, finished or not, so from_rpc_error can only say Unknown."""

    async def run() -> None:
        async with lab("bare") as made:
            call = made.call(UU, "abort:NOT_FOUND")
            assert type(from_rpc_error(call)) is errors.Unknown
            with pytest.raises(grpc.aio.AioRpcError):
                await call
            assert type(from_rpc_error(call)) is errors.Unknown

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


# Observers.


@doors
@kinds
def test_observers_hear_everything(kind: str, how: str) -> None:
    """Messages are counted each way, and each call has one attempt and one end."""

    async def run() -> None:
        async with lab(how) as made:
            await consume(kind, made.call(kind))
            await made.settled()
            sent = 1 if kind in (UU, US) else 2
            received = 1 if kind in (UU, SU) else 3
            assert made.ends.messages == {"sent": sent, "received": received}
            assert made.ends.attempts == [("start", 1), ("end", 1)]
            assert made.ends.hows == ["done"]

    asyncio.run(run())


@kinds
def test_observers_faults_are_harmless(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """An observer that raises everywhere changes nothing."""

    class Broken:
        def __getattr__(self, name: str) -> Any:
            if name.startswith("on_") or name in ("inject", "activate"):
                return broken
            raise AttributeError(name)

    async def run() -> None:
        async with lab(observers=[Broken()]) as made:
            await consume(kind, made.call(kind))
            await made.settled()

    asyncio.run(run())


def test_observers_are_active_while_an_attempt_begins() -> None:
    """Interceptors of the bare channel run inside what activate() entered; the caller's context is left alone."""
    import contextvars

    active: contextvars.ContextVar[bool] = contextvars.ContextVar("active", default=False)
    seen = []

    class Activates:
        @contextlib.contextmanager
        def activate(self, token: Any) -> Any:
            reset = active.set(True)
            yield
            active.reset(reset)

    class Looks(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
            seen.append(active.get())
            return await continuation(client_call_details, request)

    async def run() -> None:
        async with lab(interceptors=[Looks()], observers=[Activates()]) as made:
            await made.call(UU)
            seen.append(active.get())

    asyncio.run(run())
    assert seen == [True, False]


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

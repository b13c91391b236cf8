"""Others read our errors, and we read theirs; Python's own services and OpenTelemetry work with the interceptors."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.api_core import exceptions as google_exceptions
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from opentelemetry.instrumentation.grpc import aio_server_interceptor, server_interceptor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from worlds import SHAPES, World, call

from grpc_faultwire import InvalidArgument, NotFound, Origin, from_rpc_error


def rich(_context: Any) -> Any:
    raise InvalidArgument(
        "Two fields are wrong: ü.",
        reason="FIELDS_WRONG",
        domain="shop.example.com",
        retry_delay=2,
        error_details=[error_details_pb2.BadRequest(field_violations=[{"field": "a"}, {"field": "b"}])],
    )


def caught(stub: Any, shape: str, step: str) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as error:
        call(stub, shape, step)
    return error.value


@pytest.mark.parametrize("shape", SHAPES)
def test_grpc_status_reads_ours(world: World, shape: str) -> None:
    """rpc_status.from_call finds the same code, message and details."""
    status = rpc_status.from_call(caught(world.stub({"rich": rich}), shape, "rich"))
    assert (status.code, status.message) == (3, "Two fields are wrong: ü.")
    names = [detail.TypeName() for detail in status.details]
    assert names == [
        "google.rpc.ErrorInfo",
        "google.rpc.RetryInfo",
        "google.rpc.BadRequest",
        "google.rpc.RequestInfo",
        "faultwire.v1.ErrorReport",
    ]


def test_google_api_core_reads_ours(world: World) -> None:
    """from_grpc_error gives its class, with reason, domain and the details that it knows."""
    error = google_exceptions.from_grpc_error(caught(world.stub({"rich": rich}), "UnaryUnary", "rich"))
    assert isinstance(error, google_exceptions.InvalidArgument)
    assert (error.reason, error.domain) == ("FIELDS_WRONG", "shop.example.com")
    assert any(isinstance(detail, error_details_pb2.BadRequest) for detail in error.details)


def test_google_api_core_reads_what_callers_catch(world: World) -> None:
    """from_grpc_error takes our typed exception too."""
    typed = from_rpc_error(caught(world.stub({"rich": rich}), "UnaryUnary", "rich"))
    error = google_exceptions.from_grpc_error(typed)
    assert isinstance(error, google_exceptions.InvalidArgument)
    assert error.reason == "FIELDS_WRONG"


def test_we_read_a_server_without_us(world: World) -> None:
    """A plain server's abort_with_status is read, as remote; one without details is of unknown origin."""
    if world.name == "sync-on-aio":
        pytest.skip("grpc.aio's own context for plain handlers has no abort_with_status")

    def abort(context: Any) -> Any:
        return context.abort_with_status(rpc_status.to_status(status_pb2.Status(code=5, message="missing")))

    def with_details(context: Any) -> Any:
        status = status_pb2.Status(code=5, message="missing")
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason="GONE", domain="plain.example.com"))
        return context.abort_with_status(rpc_status.to_status(status))

    stub = world.stub({"abort": abort, "details": with_details}, Nothing() if not world.aio else AioNothing())
    typed = from_rpc_error(caught(stub, "UnaryUnary", "details"))
    assert isinstance(typed, NotFound)
    assert (typed.reason, typed.domain, typed.origin) == ("GONE", "plain.example.com", Origin.REMOTE)
    assert from_rpc_error(caught(stub, "UnaryUnary", "abort")).origin is Origin.UNKNOWN


class Nothing(grpc.ServerInterceptor):
    def intercept_service(self, continuation: Any, details: Any) -> Any:
        return continuation(details)


class AioNothing(grpc.aio.ServerInterceptor):
    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        return await continuation(details)


def test_health_service(world: World) -> None:
    """Check, its NOT_FOUND, and Watch, which is a reader/writer handler in aio."""
    servicer = health.aio.HealthServicer() if world.name == "aio" else health.HealthServicer()
    if world.name != "aio":
        servicer.set("up", health_pb2.HealthCheckResponse.SERVING)
    stub = health_pb2_grpc.HealthStub(world.channel(world.serve(servicer)))
    assert stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as error:
        stub.Check(health_pb2.HealthCheckRequest(service="missing"), timeout=5)
    assert error.value.code() is grpc.StatusCode.NOT_FOUND
    assert from_rpc_error(error.value).domain == "grpc.health.v1.Health"
    if world.name == "sync-on-aio":
        return  # the sync servicer's Watch is a callback API that only sync servers have
    watching = stub.Watch(health_pb2.HealthCheckRequest(), timeout=5)
    assert next(watching).status == health_pb2.HealthCheckResponse.SERVING
    watching.cancel()
    assert world.recorder.wait(3)[-1].code is grpc.StatusCode.CANCELLED


def test_reflection_service(world: World) -> None:
    """Listing the services, over a bidi stream."""
    if world.name == "aio":
        from grpc_reflection.v1alpha._async import ReflectionServicer as Servicer
    else:
        from grpc_reflection.v1alpha.reflection import ReflectionServicer as Servicer
    stub = reflection_pb2_grpc.ServerReflectionStub(
        world.channel(world.serve(Servicer(["faultwire.testing.v1.Scripted", reflection.SERVICE_NAME])))
    )
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    [response] = stub.ServerReflectionInfo(iter([request]), timeout=5)
    assert response.list_services_response.service[0].name == "faultwire.testing.v1.Scripted"


class Traced:
    def __init__(self, world: World) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.interceptor = (aio_server_interceptor if world.aio else server_interceptor)(tracer_provider=provider)

    def wait(self, world: World, count: int) -> list[ReadableSpan]:
        world.recorder.wait(count)
        for _ in range(200):
            spans = self.exporter.get_finished_spans()
            if len(spans) >= count:
                break
            world.recorder.wait(count + 1, timeout=0.02)
        return list(spans)


@pytest.fixture(params=["ours inside", "ours outside"])
def traced(world: World, request: pytest.FixtureRequest) -> tuple[Any, Traced]:
    if world.name == "sync-on-aio" and request.param == "ours outside":
        pytest.skip("alone, too, the instrumentation fails every plain handler of an aio server")
    traced = Traced(world)
    pair = [traced.interceptor, world.interceptor()]
    steps = {"rich": rich, "bug": bug, "ok": lambda _context: None}
    return world.stub(steps, *(pair if request.param == "ours inside" else reversed(pair))), traced


def bug(_context: Any) -> Any:
    raise ValueError("secret")


@pytest.mark.parametrize("shape", SHAPES)
def test_opentelemetry_in_either_order(world: World, traced: tuple[Any, Traced], shape: str) -> None:
    """RPCs behave as with the instrumentation alone, one span each; outermost, its spans bear the right code."""
    stub, spans = traced
    assert call(stub, shape, "ok", count=1)
    assert caught(stub, shape, "rich").code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught(stub, shape, "bug").code() is grpc.StatusCode.INTERNAL
    codes = [span.attributes["rpc.grpc.status_code"] for span in spans.wait(world, 3)]
    assert len(codes) == 3
    assert codes[0] == 0


def test_spans_of_the_instrumentation_outside_bear_the_right_code(world: World) -> None:
    """With the instrumentation outermost, where its instrumentor puts it, errors and bugs show as what they are."""
    spans = Traced(world)
    stub = world.stub({"rich": rich, "bug": bug}, spans.interceptor, world.interceptor())
    for number, shape in enumerate(SHAPES):
        caught(stub, shape, "rich")
        caught(stub, shape, "bug")
        found = spans.wait(world, 2 * number + 2)[-2:]
        assert [span.attributes["rpc.grpc.status_code"] for span in found] == [3, 13]
        assert "secret" not in "".join(span.to_json() for span in found)


def test_plain_details_are_enough_for_others(world: World) -> None:
    """A caller that knows nothing of Faultwire finds the error id in RequestInfo."""
    status = rpc_status.from_call(caught(world.stub({"rich": rich}), "UnaryUnary", "rich"))
    info = error_details_pb2.RequestInfo()
    [detail] = [detail for detail in status.details if detail.Is(info.DESCRIPTOR)]
    detail.Unpack(info)
    assert len(info.request_id) == 32

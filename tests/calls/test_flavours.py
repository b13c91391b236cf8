"""Every flavour of handler works behind the interceptor as without it."""

from __future__ import annotations

import contextvars
import functools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio
import pytest
from worlds import SHAPES, World, call

from faultwire.testing.v1 import scripted_pb2 as pb
from grpc_faultwire import InvalidArgument, NotFound, StatusError, from_rpc_error

METHODS = {
    "UnaryUnary": grpc.unary_unary_rpc_method_handler,
    "UnaryStream": grpc.unary_stream_rpc_method_handler,
    "StreamUnary": grpc.stream_unary_rpc_method_handler,
    "StreamStream": grpc.stream_stream_rpc_method_handler,
}
SERVICE = "faultwire.testing.v1.Scripted"


def generic(behavior: Any, shape: str, *, deserializer: Any = pb.Request.FromString, serializer: Any = None) -> Any:
    handler = METHODS[shape](behavior, deserializer, serializer or pb.Response.SerializeToString)
    return grpc.method_handlers_generic_handler(SERVICE, {shape: handler})


def caught(stub: Any, shape: str, step: str = "", **arguments: Any) -> StatusError:
    with pytest.raises(grpc.RpcError) as error:
        call(stub, shape, step, **arguments)
    return from_rpc_error(error.value)


class Callable_:  # noqa: N801
    def __init__(self, behavior: Any) -> None:
        self._behavior = behavior

    def __call__(self, request: Any, context: Any) -> Any:
        return self._behavior(request, context)


def answer(_request: Any, _context: Any) -> Any:
    return pb.Response(number=7)


def answers(_request: Any, _context: Any) -> Any:
    return iter([pb.Response(number=7)])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("wrap", [lambda f: f, functools.partial, Callable_], ids=["function", "partial", "object"])
def test_plain_callables(world: World, shape: str, wrap: Any) -> None:
    """Functions, partials and callable objects that return a response, or any iterator of responses."""
    behavior = wrap(answers if shape.endswith("Stream") else answer)
    stub = world.stub(generic(behavior, shape))
    assert [response.number for response in call(stub, shape, "")] == [7]


@pytest.mark.parametrize("shape", ["UnaryStream", "StreamStream"])
def test_reader_writer_handlers(shape: str, world: World) -> None:
    """A coroutine function that reads from and writes to its context, and fails in the middle."""
    if world.name != "aio":
        pytest.skip("only coroutine functions read and write")

    async def behavior(request: Any, context: Any) -> None:
        if shape == "StreamStream":
            request = await context.read()
            assert await context.read() is grpc.aio.EOF
        for number in range(request.count):
            await context.write(pb.Response(number=number))
        if request.step == "fail":
            raise NotFound("in the middle")
        if request.step == "unserializable":
            await context.write("nonsense")

    stub = world.stub(generic(behavior, shape))
    assert [response.number for response in call(stub, shape, "", count=3)] == [0, 1, 2]
    assert caught(stub, shape, "fail", count=2).message == "in the middle"
    assert caught(stub, shape, "unserializable").reason == "RESPONSE_UNSERIALIZABLE"


def test_messages_before_an_error_arrive(world: World) -> None:
    """What a stream sent before its error is delivered."""

    def step(_context: Any) -> Any:
        raise InvalidArgument("late")

    stub = world.stub({"step": step})
    for shape in ("UnaryStream", "StreamStream"):
        responses = []
        request = pb.Request(step="step", count=5)
        with pytest.raises(grpc.RpcError) as error:
            for response in getattr(stub, shape)(request if shape == "UnaryStream" else iter([request])):
                responses.append(response.number)
        assert responses == [1, 2, 3, 4, 5]
        assert error.value.details() == "late"


@pytest.mark.parametrize("shape", SHAPES)
def test_unknown_methods(world: World, shape: str) -> None:
    """A method that does not exist gives a rich UNIMPLEMENTED, whatever the caller's kind, and is recorded."""
    address = world.serve({})
    channel = world.channel(address)
    names = f"{'stream' if shape.startswith('Stream') else 'unary'}_{'stream' if shape.endswith('Stream') else 'unary'}"
    method = getattr(channel, names)(f"/{SERVICE}/Missing")
    with pytest.raises(grpc.RpcError) as error:
        answer = method(iter([b""]) if shape.startswith("Stream") else b"", timeout=3)
        list(answer)
    typed = from_rpc_error(error.value)
    assert typed.code() is grpc.StatusCode.UNIMPLEMENTED
    assert (typed.reason, typed.domain) == ("METHOD_NOT_FOUND", SERVICE)
    world.recorder.wait()
    [(info, outcome)] = world.recorder.ends
    assert (info.method, info.known, outcome.code) == ("Missing", False, grpc.StatusCode.UNIMPLEMENTED)


@pytest.mark.parametrize("shape", SHAPES)
def test_requests_that_cannot_be_read(world: World, shape: str) -> None:
    """Bytes that the deserializer refuses give a rich INTERNAL that is the caller's fault, and are recorded."""
    address = world.serve({"ok": lambda _context: None})
    channel = world.channel(address)
    names = f"{'stream' if shape.startswith('Stream') else 'unary'}_{'stream' if shape.endswith('Stream') else 'unary'}"
    method = getattr(channel, names)(f"/{SERVICE}/{shape}")
    with pytest.raises(grpc.RpcError) as error:
        answer = method(iter([b"\xff\xff"]) if shape.startswith("Stream") else b"\xff\xff", timeout=3)
        list(answer)
    typed = from_rpc_error(error.value)
    assert (typed.code(), typed.reason) == (grpc.StatusCode.INTERNAL, "REQUEST_MALFORMED")
    assert typed.fault.name == "CLIENT"
    assert [outcome.code for outcome in world.recorder.wait()] == [grpc.StatusCode.INTERNAL]


@pytest.mark.parametrize("shape", SHAPES)
def test_serializers_that_fail(world: World, shape: str) -> None:
    """A response that its serializer refuses gives a rich INTERNAL, recorded once."""

    def refuse(_response: Any) -> bytes:
        raise ValueError("secret")

    behavior = answers if shape.endswith("Stream") else answer
    stub = world.stub(generic(behavior, shape, serializer=refuse))
    error = caught(stub, shape)
    assert (error.code(), error.reason) == (grpc.StatusCode.INTERNAL, "RESPONSE_UNSERIALIZABLE")
    assert "secret" not in str(error.status)
    assert [outcome.code for outcome in world.recorder.wait()] == [grpc.StatusCode.INTERNAL]


def test_a_handler_has_the_whole_context(world: World) -> None:
    """All that a servicer finds in its context without the interceptor, it finds with it."""
    seen: dict[str, Any] = {}

    def behavior(request: Any, context: Any) -> Any:
        assert isinstance(context, grpc.aio.ServicerContext if world.name == "aio" else grpc.ServicerContext)
        seen["metadata"] = dict(context.invocation_metadata())["x-key"]
        seen["peer"] = context.peer()
        seen["remaining"] = context.time_remaining()
        seen["identities"] = context.peer_identities()
        seen["auth"] = context.auth_context()
        context.set_trailing_metadata((("x-trailer", "1"),))
        context.set_compression(grpc.Compression.NoCompression)
        context.set_code(grpc.StatusCode.OK)
        context.set_details("fine")
        seen["code"] = context.code()
        seen["details"] = context.details()
        if world.name != "aio":
            seen["active"] = context.is_active()
            seen["callback"] = context.add_callback(lambda: seen.setdefault("called", True))
            context.send_initial_metadata((("x-initial", "1"),))
        return pb.Response(number=1)

    async def aio_behavior(request: Any, context: Any) -> Any:
        response = behavior(request, context)
        context.add_done_callback(lambda given: seen.setdefault("called", given is context))
        await context.send_initial_metadata((("x-initial", "1"),))
        return response

    stub = world.stub(generic(aio_behavior if world.name == "aio" else behavior, "UnaryUnary"))
    response, finished = stub.UnaryUnary.with_call(pb.Request(), timeout=5, metadata=(("x-key", "value"),))
    assert response.number == 1
    assert dict(finished.trailing_metadata())["x-trailer"] == "1"
    assert dict(finished.initial_metadata())["x-initial"] == "1"
    assert seen["metadata"] == "value"
    assert seen["peer"].startswith("ipv4:")
    assert 0 < seen["remaining"] < 5.5  # it travels rounded up
    assert seen["code"] is grpc.StatusCode.OK
    assert seen["details"] == ("fine" if world.name == "aio" else b"fine")
    world.recorder.wait()
    if world.name != "aio":
        assert seen["active"]
        assert seen["callback"]


def test_trailers_that_cannot_travel_are_refused_where_they_are_set(world: World) -> None:
    """A trailer with a newline, which would make gRPC replace the whole status, is an error in the handler."""

    def step(context: Any) -> Any:
        with pytest.raises(ValueError, match="'x-key' cannot travel"):
            context.set_trailing_metadata((("x-key", "two\nlines"),))
        raise NotFound("missing")

    stub = world.stub({"step": step})
    assert caught(stub, "UnaryUnary", "step").message == "missing"


@pytest.mark.parametrize("trailers", [7, {}, {"error": "error"}, [{"error": "error"}], ["ab"]], ids=repr)
def test_trailers_that_are_no_pairs_are_refused_where_they_are_set(world: World, trailers: Any) -> None:
    """grpc.aio's word on them is TypeError; grpc takes anything, and fails when it sends it."""

    def step(context: Any) -> Any:
        with pytest.raises(TypeError):
            context.set_trailing_metadata(trailers)
        raise NotFound("missing")

    stub = world.stub({"step": step})
    assert caught(stub, "UnaryUnary", "step").message == "missing"


def test_trailers_of_the_handler_are_kept(world: World) -> None:
    """Trailers that were set before an error, an abort or an abort_with_status arrive with it."""
    from google.rpc import status_pb2
    from grpc_status import rpc_status

    def before(context: Any) -> None:
        context.set_trailing_metadata((("x-trailer", "kept"),))

    def step_raise(context: Any) -> Any:
        before(context)
        raise NotFound("missing")

    def step_abort(context: Any) -> Any:
        before(context)
        return context.abort(grpc.StatusCode.NOT_FOUND, "missing")

    def step_status(context: Any) -> Any:
        before(context)
        return context.abort_with_status(rpc_status.to_status(status_pb2.Status(code=5, message="missing")))

    stub = world.stub({"raise": step_raise, "abort": step_abort, "status": step_status})
    for step in ("raise", "abort", "status"):
        with pytest.raises(grpc.RpcError) as error:
            call(stub, "UnaryUnary", step)
        trailers = [key for key, _ in error.value.trailing_metadata()]
        assert trailers.count("x-trailer") == 1
        assert trailers.count("grpc-status-details-bin") == 1
        assert error.value.code() is grpc.StatusCode.NOT_FOUND
        assert from_rpc_error(error.value).reason == "NOT_FOUND"


def test_details_that_a_handler_aborts_with_arrive(world: World) -> None:
    """The details of a google.rpc.Status that the handler made itself go on, with an error id beside them."""
    from google.protobuf import any_pb2
    from google.rpc import error_details_pb2, status_pb2
    from grpc_status import rpc_status

    def step(context: Any) -> Any:
        status = status_pb2.Status(code=3, message="bad")
        for detail in (
            error_details_pb2.ErrorInfo(reason="OWN_REASON", domain="own.example.com"),
            error_details_pb2.BadRequest(field_violations=[{"field": "a"}]),
            error_details_pb2.RetryInfo(retry_delay={"seconds": 2}),
        ):
            packed = any_pb2.Any()
            packed.Pack(detail)
            status.details.append(packed)
        return context.abort_with_status(rpc_status.to_status(status))

    error = caught(world.stub({"step": step}), "UnaryUnary", "step")
    assert (error.reason, error.domain, error.retry_delay) == ("OWN_REASON", "own.example.com", 2)
    violations = error.find(error_details_pb2.BadRequest)
    assert violations is not None
    assert violations.field_violations[0].field == "a"
    assert error.error_id


def test_thread_pools_of_behaviors_are_kept(world: World) -> None:
    """`experimental_thread_pool` of a sync behavior still chooses where it runs."""
    if world.aio:
        pytest.skip("grpc.aio does not know experimental_thread_pool")
    with ThreadPoolExecutor(1, thread_name_prefix="special") as pool:

        def behavior(request: Any, context: Any) -> Any:
            return pb.Response(payload=threading.current_thread().name.encode())

        behavior.experimental_thread_pool = pool
        stub = world.stub(generic(behavior, "UnaryUnary"))
        [response] = call(stub, "UnaryUnary", "")
    assert response.payload.startswith(b"special")


@pytest.mark.parametrize("exit_", ["ok", "raise", "code", "unserializable"])
def test_non_blocking_behaviors(world: World, exit_: str) -> None:
    """`experimental_non_blocking` behaviors send their responses from any thread, and end well or badly."""
    if world.aio:
        pytest.skip("grpc.aio does not know experimental_non_blocking")

    def behavior(request: Any, context: Any, send_response: Any) -> None:
        if exit_ == "raise":
            raise NotFound("missing")

        def send() -> None:
            send_response(pb.Response(number=1))
            if exit_ == "unserializable":
                send_response("nonsense")
            if exit_ == "code":
                context.set_code(grpc.StatusCode.ABORTED)
                context.set_details("later")
            send_response(None)

        threading.Thread(target=send).start()

    behavior.experimental_non_blocking = True
    stub = world.stub(generic(behavior, "UnaryStream"))
    if exit_ == "ok":
        assert [response.number for response in call(stub, "UnaryStream", "")] == [1]
    else:
        expected = {"raise": "NOT_FOUND", "code": "ABORTED", "unserializable": "RESPONSE_UNSERIALIZABLE"}[exit_]
        assert caught(stub, "UnaryStream").reason == expected
    assert len(world.recorder.wait()) == 1


def test_context_variables_reach_sync_handlers(world: World) -> None:
    """Context variables that an interceptor sets reach the handler, in threads of an aio server too."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    class Active:
        def __enter__(self) -> None:
            self.token = variable.set("set")

        def __exit__(self, *_: object) -> None:
            variable.reset(self.token)

    class Observer:
        def activate(self, token: Any) -> Any:
            return Active()

    def step(context: Any) -> Any:
        return pb.Response(payload=variable.get().encode())

    stub = world.stub({"step": step}, world.interceptor(observers=[Observer()]))
    [response] = call(stub, "UnaryUnary", "step")
    assert response.payload == b"set"


def test_handlers_are_wrapped_once(world: World) -> None:
    """The same handler is wrapped once; one that is new for every call is wrapped anew, and memory stays bounded."""
    interceptor = world.interceptor()
    handler = METHODS["UnaryUnary"](answer)
    assert interceptor._wrapped("/a.B/C", handler) is interceptor._wrapped("/a.B/C", handler)
    other = METHODS["UnaryUnary"](answers)
    assert interceptor._wrapped("/a.B/C", other) is not interceptor._wrapped("/a.B/C", handler)
    assert interceptor._remembered["/a.B/C"][2].full_method == "a.B/C"
    known = interceptor._remembered["/a.B/C"][2]
    interceptor._wrapped("/a.B/C", METHODS["UnaryUnary"](answer))
    assert interceptor._remembered["/a.B/C"][2] is known, "observers know a method by its CallInfo"
    for number in range(3000):
        interceptor._wrapped(f"/a.B/{number}", handler)
    assert len(interceptor._remembered) <= 1000


def test_what_an_inner_interceptor_raises_is_answered(world: World) -> None:
    """An interceptor inside that raises in intercept_service ends its RPC with a masked error."""

    class Broken(grpc.ServerInterceptor):
        def intercept_service(self, continuation: Any, details: Any) -> Any:
            raise ValueError("secret")

    class AioBroken(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation: Any, details: Any) -> Any:
            raise ValueError("secret")

    stub = world.stub({"ok": lambda _: None}, world.interceptor(), AioBroken() if world.aio else Broken())
    error = caught(stub, "UnaryUnary", "ok")
    assert (error.code(), error.message) == (grpc.StatusCode.INTERNAL, "Internal error.")
    assert error.error_id

"""A wrapped channel among other things: interceptors, OpenTelemetry, other libraries' clients, generated stubs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import google.api_core.exceptions
import google.api_core.grpc_helpers
import google.api_core.retry
import grpc
import pytest
from grpc import experimental
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from opentelemetry.instrumentation.grpc import client_interceptor
from opentelemetry.instrumentation.grpc.grpcext import intercept_channel as otel_intercept
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sync_lab import SERVICE, Lab, Ledger, Twice, path

from grpc_faultwire.errors import Cancelled, Internal, NotFound, Origin, StatusError, Unavailable, Unimplemented
from grpc_faultwire.status import from_rpc_error
from grpc_faultwire.sync import client_interceptors, wrap_channel
from grpc_faultwire.testing import serve

pytest_plugins = ["sync_lab"]

SINGLE = [(experimental.ChannelOptions.SingleThreadedUnaryStream, 1)]


class Noting(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Somebody's interceptor: it notes what it gets back."""

    def __init__(self) -> None:
        self.results: list[Any] = []

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        self.results.append(continuation(details, request))
        return self.results[-1]

    intercept_unary_stream = intercept_stream_unary = intercept_stream_stream = intercept_unary_unary


def everything(channel: grpc.Channel, command: bytes) -> dict[str, Any]:
    """Make a call of each shape and style, and return the answers or the errors."""
    unary, requests = channel.unary_unary(path("UnaryUnary")), channel.stream_unary(path("StreamUnary"))
    calls: dict[str, Callable[[], Any]] = {
        "unary": lambda: unary(command),
        "with_call": lambda: unary.with_call(command)[0],
        "future": lambda: unary.future(command).result(timeout=5),
        "responses": lambda: list(channel.unary_stream(path("UnaryStream"))(command)),
        "requests": lambda: requests(iter([command])),
        "requests with_call": lambda: requests.with_call(iter([command]))[0],
        "requests future": lambda: requests.future(iter([command])).result(timeout=5),
        "both": lambda: list(channel.stream_stream(path("StreamStream"))(iter([command]))),
    }
    answers: dict[str, Any] = {}
    for name, call in calls.items():
        try:
            answers[name] = call()
        except grpc.RpcError as error:
            answers[name] = error
    return answers


def assert_answered(answers: dict[str, Any]) -> None:
    for name, answer in answers.items():
        assert answer == ([b"0", b"1", b"2"] if name in ("responses", "both") else b"ok"), name


def assert_typed(answers: dict[str, Any]) -> None:
    for name, answer in answers.items():
        assert isinstance(answer, NotFound), name
        assert answer.message == "gone: é☃"
        assert tuple(answer.trailing_metadata()) == (("t", "1"),)


COMPOSITIONS: dict[str, Callable[[grpc.Channel, Ledger], grpc.Channel]] = {
    "interceptor outside": lambda bare, ledger: grpc.intercept_channel(
        wrap_channel(bare, observers=[ledger]), Noting(), Noting()
    ),
    "interceptor inside": lambda bare, ledger: wrap_channel(
        grpc.intercept_channel(bare, Noting(), Noting()), observers=[ledger]
    ),
    "wrapped twice": lambda bare, ledger: wrap_channel(wrap_channel(bare), Twice(), observers=[ledger]),
    "the official door": lambda bare, ledger: grpc.intercept_channel(bare, *client_interceptors(observers=[ledger])),
    "the official door, others outside": lambda bare, ledger: grpc.intercept_channel(
        bare, Noting(), *client_interceptors(observers=[ledger])
    ),
    "the official door, others inside": lambda bare, ledger: grpc.intercept_channel(
        bare, *client_interceptors(observers=[ledger]), Noting()
    ),
    "the official door, with a policy": lambda bare, ledger: grpc.intercept_channel(
        bare, *client_interceptors(Twice(), observers=[ledger])
    ),
}


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_interceptors_compose_in_either_order(address: str, lab: Lab, ledger: Ledger, name: str) -> None:
    """Answers and typed errors come through in all shapes, and each call is recorded once."""
    with COMPOSITIONS[name](grpc.insecure_channel(address), ledger) as channel:
        assert_answered(everything(channel, b"ok"))
        assert_typed(everything(channel, b"error"))
    assert [outcome.code.name for outcome in ledger.outcomes()] == ["OK"] * 8 + ["NOT_FOUND"] * 8
    lab.quiet()


def test_an_interceptor_outside_gets_typed_errors_as_results(address: str) -> None:
    """grpc hands errors to interceptors as results: they can be asked like any finished call."""
    noting = Noting()
    channel = grpc.intercept_channel(wrap_channel(grpc.insecure_channel(address)), noting)
    with channel, pytest.raises(NotFound):
        channel.unary_unary(path("UnaryUnary"))(b"error")
    (result,) = noting.results
    assert isinstance(result, NotFound)
    assert (result.code(), result.done(), result.cancelled()) == (grpc.StatusCode.NOT_FOUND, True, False)
    assert result.exception() is result


def test_an_interceptor_inside_sees_every_attempt(address: str, lab: Lab) -> None:
    """What is wrapped sees attempts, what wraps sees calls."""
    inside, outside = Noting(), Noting()
    inner = grpc.intercept_channel(grpc.insecure_channel(address), inside)
    with grpc.intercept_channel(wrap_channel(inner, Twice()), outside) as channel:
        for call in (
            lambda: channel.unary_unary(path("UnaryUnary"))(b"unavailable"),
            lambda: channel.unary_unary(path("UnaryUnary")).future(b"unavailable").result(timeout=5),
            lambda: list(channel.unary_stream(path("UnaryStream"))(b"unavailable")),
        ):
            with pytest.raises(Unavailable) as caught:
                call()
            assert len(caught.value.attempts) == 3
    assert (len(inside.results), len(outside.results)) == (9, 3)
    lab.quiet()


class Raising(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """An interceptor that fails before there is an RPC."""

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        raise LookupError("no token")

    intercept_unary_stream = intercept_unary_unary


def test_an_exception_of_an_interceptor_inside_stays_what_it_is(address: str, ledger: Ledger) -> None:
    """As without us: blocking calls, futures and streams raise the interceptor's own exception."""
    inner = grpc.intercept_channel(grpc.insecure_channel(address), Raising())
    with wrap_channel(inner, observers=[ledger]) as channel:
        with pytest.raises(LookupError, match="no token"):
            channel.unary_unary(path("UnaryUnary"))(b"ok")
        with pytest.raises(LookupError, match="no token"):
            channel.unary_unary(path("UnaryUnary")).future(b"ok").result()
        with pytest.raises(LookupError, match="no token"):
            next(channel.unary_stream(path("UnaryStream"))(b"ok"))
    assert [outcome.how for outcome in ledger.outcomes()] == ["failed", "done", "done"]


def test_the_official_door_counts_and_retries(address: str, lab: Lab, ledger: Ledger) -> None:
    """Single requests are retried, blocking or not; streamed requests are not, since they cannot be kept."""
    interceptors = client_interceptors(Twice(), observers=[ledger], target="lab")
    with grpc.intercept_channel(grpc.insecure_channel(address), *interceptors) as channel:
        answers = everything(channel, b"unavailable")
    assert {name: len(error.attempts) for name, error in answers.items()} == {
        "unary": 3,
        "with_call": 3,
        "future": 3,
        "responses": 3,
        "requests": 0,
        "requests with_call": 0,
        "requests future": 0,
        "both": 0,
    }
    assert len(ledger.outcomes()) == 8
    assert {call.target for call in ledger.calls.values()} == {"lab"}
    assert len(lab.quiet()) == 4 * 3 + 4


def test_a_future_through_the_official_door_does_not_block(address: str, lab: Lab) -> None:
    """Where looking at the outcome would wait for it, the door returns a call that is still going on."""
    with grpc.intercept_channel(grpc.insecure_channel(address), *client_interceptors()) as channel:
        call = channel.unary_unary(path("UnaryUnary")).future(b"slow")
        assert not call.done()
        assert call.cancel()
        assert call.code() is grpc.StatusCode.CANCELLED
    lab.quiet()


def test_a_closed_channel_is_a_value_error_through_the_official_door(address: str) -> None:
    """grpc's own exception is not dressed up as a status."""
    channel = grpc.intercept_channel(grpc.insecure_channel(address), *client_interceptors())
    channel.close()
    with pytest.raises(ValueError, match="Cannot invoke RPC"):
        channel.unary_unary(path("UnaryUnary"))(b"ok")
    with pytest.raises(ValueError, match="Cannot invoke RPC"):
        channel.unary_unary(path("UnaryUnary")).future(b"ok").result()


# OpenTelemetry.


@pytest.fixture
def spans() -> Iterator[tuple[InMemorySpanExporter, Any]]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield exporter, client_interceptor(provider)
    provider.shutdown()


def test_opentelemetry_outside_makes_one_span_for_each_call(address: str, lab: Lab, ledger: Ledger, spans: Any) -> None:
    """Around a wrapped channel its spans are the calls'."""
    exporter, interceptor = spans
    with wrap_channel(grpc.insecure_channel(address), Twice(), observers=[ledger]) as inner:
        channel = otel_intercept(inner, interceptor)
        assert channel.unary_unary(path("UnaryUnary"))(b"ok", metadata=()) == b"ok"
        assert list(channel.unary_stream(path("UnaryStream"))(b"ok", metadata=())) == [b"0", b"1", b"2"]
        with pytest.raises(Unavailable):
            channel.unary_unary(path("UnaryUnary"))(b"unavailable")
        with pytest.raises(NotFound):
            list(channel.unary_stream(path("UnaryStream"))(b"error"))
    assert len(exporter.get_finished_spans()) == 4
    assert len(ledger.outcomes()) == 4
    lab.quiet()


def test_opentelemetry_inside_makes_one_span_for_each_attempt(
    address: str, lab: Lab, ledger: Ledger, spans: Any
) -> None:
    """Inside a wrapped channel its spans are the attempts'; its streams are generators, which serve as calls."""
    exporter, interceptor = spans
    inner = otel_intercept(grpc.insecure_channel(address), interceptor)
    with wrap_channel(inner, Twice(), observers=[ledger]) as channel:
        assert channel.unary_unary(path("UnaryUnary"))(b"ok") == b"ok"
        stream = channel.unary_stream(path("UnaryStream"))(b"ok")
        assert list(stream) == [b"0", b"1", b"2"]
        assert (stream.code(), stream.details(), stream.initial_metadata()) == (grpc.StatusCode.OK, "", ())
        with pytest.raises(Unavailable) as caught:
            channel.unary_unary(path("UnaryUnary"))(b"unavailable")
        assert len(caught.value.attempts) == 3
        with pytest.raises(Unavailable) as caught:
            list(channel.unary_stream(path("UnaryStream"))(b"unavailable"))
        assert len(caught.value.attempts) == 3
    assert len(exporter.get_finished_spans()) == 8
    assert len(ledger.outcomes()) == 4
    lab.quiet()


def test_a_stream_that_is_a_generator_can_be_cancelled_and_dropped(
    address: str, lab: Lab, ledger: Ledger, spans: Any
) -> None:
    """What is no call of grpc's ends as one all the same."""
    with wrap_channel(otel_intercept(grpc.insecure_channel(address), spans[1]), observers=[ledger]) as channel:
        stream = channel.unary_stream(path("UnaryStream"))(b"trickle", timeout=2)
        assert next(stream) == b"0"
        assert stream.cancel()
        with pytest.raises(Cancelled):
            next(stream)
        dropped = channel.unary_stream(path("UnaryStream"))(b"trickle", timeout=2)
        next(dropped)
        del dropped
        assert [outcome.how for outcome in ledger.outcomes(2)] == ["cancelled", "abandoned"]
    lab.quiet()


# Other libraries' clients.


def test_google_api_core_works_on_a_wrapped_channel(address: str, lab: Lab) -> None:
    """Its error mapping, retries and stream wrappers take our errors for grpc's."""
    with wrap_channel(grpc.insecure_channel(address)) as channel:
        unary = google.api_core.grpc_helpers.wrap_errors(channel.unary_unary(path("UnaryUnary")))
        assert unary(b"ok") == b"ok"
        with pytest.raises(google.api_core.exceptions.NotFound, match="gone") as caught:
            unary(b"error")
        assert isinstance(caught.value.errors[0], NotFound)
        with pytest.raises(google.api_core.exceptions.FailedPrecondition) as rich:
            unary(b"rich")
        assert (rich.value.reason, rich.value.domain) == ("GONE", "lab.example.com")
        stream = google.api_core.grpc_helpers.wrap_errors(channel.unary_stream(path("UnaryStream")))
        assert list(stream(b"ok")) == [b"0", b"1", b"2"]
        with pytest.raises(google.api_core.exceptions.DataLoss):
            list(stream(b"partway"))
        again = google.api_core.retry.Retry(initial=0.01, maximum=0.01, timeout=5)
        assert again(unary)(b"flaky", metadata=[("key", f"api_core {time.monotonic()}")]) == b"flaky"
    lab.quiet()


def test_health_reflection_and_generated_stubs_work(ledger: Ledger) -> None:
    """Generated code registers its methods with the channel; ours passes that on."""
    servicer = health.HealthServicer()
    service = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
    with serve([]) as server:
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server.server)
        reflection.enable_server_reflection([service, reflection.SERVICE_NAME], server.server)
        with wrap_channel(grpc.insecure_channel(server.address), observers=[ledger]) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            assert stub.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
            with pytest.raises(NotFound):
                stub.Check(health_pb2.HealthCheckRequest(service="nowhere"))
            watch = stub.Watch(health_pb2.HealthCheckRequest())
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            watch.cancel()
            database = ProtoReflectionDescriptorDatabase(channel)
            assert service in database.get_services()
            assert database.FindFileContainingSymbol(service).name == health_pb2.DESCRIPTOR.name
    assert {outcome.code.name for outcome in ledger.outcomes()} == {"OK", "NOT_FOUND", "CANCELLED"}
    paths = {call.full_method for call in ledger.calls.values()}
    assert "grpc.health.v1.Health/Check" in paths
    assert {call.target for call in ledger.calls.values()} == {server.address}


# from_rpc_error, on what channels that nobody wrapped give.


def test_every_kind_of_sync_error_decodes(address: str, lab: Lab) -> None:
    """Raised errors, finished and cancelled calls, futures' exceptions: each becomes its code's class; none hangs."""
    with grpc.insecure_channel(address) as bare, grpc.insecure_channel(address, options=SINGLE) as single:
        for error in everything(bare, b"rich").values():
            decoded = from_rpc_error(error)
            assert (decoded.code().name, decoded.reason) == ("FAILED_PRECONDITION", "GONE")
            assert decoded.__cause__ is error
            assert decoded.origin is Origin.REMOTE
        future = bare.unary_unary(path("UnaryUnary")).future(b"error")
        assert isinstance(from_rpc_error(future.exception()), NotFound)
        assert isinstance(from_rpc_error(future), NotFound)
        stream = single.unary_stream(path("UnaryStream"))(b"error")
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        assert isinstance(from_rpc_error(caught.value), NotFound)
        for channel in (bare, single):
            cancelled = channel.unary_stream(path("UnaryStream"))(b"slow")
            cancelled.cancel()
            assert isinstance(from_rpc_error(cancelled), Cancelled)
        failing = bare.stream_stream(path("StreamStream"), lambda _: None)(iter([b"ok"]))
        with pytest.raises(grpc.RpcError) as caught:
            next(failing)
        assert isinstance(from_rpc_error(caught.value), StatusError)
        with pytest.raises(grpc.RpcError) as caught:
            bare.unary_unary(path("Nowhere"))(b"ok")
        assert isinstance(from_rpc_error(caught.value), Unimplemented)
        with pytest.raises(grpc.RpcError) as caught:
            bare.unary_unary(path("UnaryUnary"), lambda _: None)(b"ok")
        assert isinstance(from_rpc_error(caught.value), Internal)
    lab.quiet()


def test_what_interceptors_get_decodes(address: str, lab: Lab) -> None:
    """Interceptors of a bare channel get errors and calls as results, and a face for what another one raised."""
    noting = Noting()
    with grpc.insecure_channel(address) as bare, grpc.intercept_channel(bare, noting) as channel:
        raised = everything(channel, b"rich").values()
        assert len(noting.results) == 8
        for error in (*raised, *noting.results):
            decoded = from_rpc_error(error)
            assert (decoded.code().name, decoded.reason) == ("FAILED_PRECONDITION", "GONE")
        failed = grpc.intercept_channel(bare, Raising()).unary_unary(path("UnaryUnary")).future(b"ok")
        assert isinstance(from_rpc_error(failed), Internal)
    lab.quiet()


def test_calls_on_a_wrapped_channel_give_the_error_that_they_raise(address: str) -> None:
    """Nothing is lost on the way through the getters: what this side made up stays this side's."""
    with wrap_channel(grpc.insecure_channel(address)) as channel:
        future = channel.unary_unary(path("UnaryUnary")).future(b"error")
        stream = channel.unary_stream(path("UnaryStream"))(b"error")
        with pytest.raises(NotFound):
            next(stream)
        assert from_rpc_error(future) is future.exception()
        assert from_rpc_error(stream) is stream.exception()
        slow = channel.unary_stream(path("UnaryStream"))(b"slow")
        assert slow.cancel()
        assert (type(from_rpc_error(slow)), from_rpc_error(slow).origin) == (Cancelled, Origin.LOCAL)


def test_a_call_that_is_under_way_is_waited_for_and_gives_its_error() -> None:
    """An error within it is looked for when it has ended, not before."""
    go = threading.Event()

    def wait(request: bytes, context: grpc.ServicerContext) -> bytes:
        assert go.wait(5)
        context.abort(grpc.StatusCode.NOT_FOUND, "gone")

    handlers = {"Wait": grpc.unary_unary_rpc_method_handler(wait)}
    service = grpc.method_handlers_generic_handler("a.B", handlers)
    server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[service])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with wrap_channel(grpc.insecure_channel(f"127.0.0.1:{port}")) as channel, futures.ThreadPoolExecutor(1) as other:
        future = channel.unary_unary("/a.B/Wait").future(b"")
        waiting = other.submit(from_rpc_error, future)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.1)
        go.set()
        assert waiting.result(timeout=5) is future.exception()
    server.stop(None).wait()


def test_every_kind_of_our_errors_is_left_as_it_is(address: str, lab: Lab) -> None:
    """What a wrapped channel raises or returns is typed already; a finished call of ours decodes as well."""
    with wrap_channel(grpc.insecure_channel(address)) as channel:
        for error in everything(channel, b"rich").values():
            assert from_rpc_error(error) is error
        call = channel.unary_unary(path("UnaryUnary")).future(b"error")
        error = call.exception()
        assert from_rpc_error(error) is error
        assert isinstance(from_rpc_error(call), NotFound)
    lab.quiet()


# Odds and ends.


def test_errors_of_streams_carry_initial_metadata_and_the_debug_string(address: str, lab: Lab) -> None:
    """What cannot be asked for in grpc's callback is there when it is asked of the error."""
    with wrap_channel(grpc.insecure_channel(address)) as channel:
        with pytest.raises(StatusError) as caught:
            list(channel.unary_stream(path("UnaryStream"))(b"late"))
        assert tuple(caught.value.initial_metadata()) == (("i", "1"), ("i-bin", b"\x00\xff"))
        assert "late" in caught.value.debug_error_string()
        call = channel.unary_unary(path("UnaryUnary")).future(b"late")
        assert tuple(call.exception().initial_metadata()) == (("i", "1"), ("i-bin", b"\x00\xff"))
    lab.quiet()


def test_a_cancelled_calls_debug_string_comes(address: str, lab: Lab) -> None:
    """Bare grpc waits for it for ever."""
    with wrap_channel(grpc.insecure_channel(address)) as channel:
        call = channel.unary_stream(path("UnaryStream"))(b"slow")
        call.cancel()
        assert call.debug_error_string() == ""
    lab.quiet()


def test_a_callback_may_ask_for_the_error(address: str, lab: Lab) -> None:
    """Callbacks run in the channel's thread: what they ask for must not wait for that thread."""
    with wrap_channel(grpc.insecure_channel(address)) as channel:
        for _ in range(20):
            found: list[Any] = []
            called = threading.Event()

            def look(call: Any, found: list[Any] = found, called: threading.Event = called) -> None:
                found.extend([call.exception(), call.code(), call.trailing_metadata(), call.debug_error_string()])
                called.set()

            call = channel.unary_stream(path("UnaryStream"))(b"error")
            call.add_done_callback(look)
            assert called.wait(5)
            assert isinstance(found[0], NotFound)
            assert found[0] is call.exception()
    lab.quiet()


def test_per_call_credentials_reach_the_server(lab: Lab, ledger: Ledger) -> None:
    """Credentials of a call work on a channel that may carry them."""
    pool = futures.ThreadPoolExecutor(2)
    server = grpc.server(pool, handlers=[lab.handler()])
    port = server.add_secure_port("127.0.0.1:0", grpc.local_server_credentials())
    server.start()
    try:
        inner = grpc.secure_channel(f"127.0.0.1:{port}", grpc.local_channel_credentials())
        with wrap_channel(inner, observers=[ledger]) as channel:
            credentials = grpc.access_token_call_credentials("t")
            unary = channel.unary_unary(path("UnaryUnary"))
            assert unary(b"ok", credentials=credentials, timeout=5) == b"ok"
            assert unary.future(b"ok", credentials=credentials, timeout=5).result() == b"ok"
    finally:
        server.stop(None).wait()
        pool.shutdown()
    assert [("authorization", "Bearer t") in one["metadata"] for one in lab.quiet()] == [True, True]
    ledger.outcomes()


def test_programs_that_make_up_methods_do_not_fill_memory(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered about methods is bounded; a multi-callable that exists goes on working."""
    monkeypatch.setattr("grpc_faultwire.sync.channel.MAX_METHODS", 5)
    with wrap_channel(grpc.insecure_channel(address)) as channel:
        unary = channel.unary_unary(f"/{SERVICE}/UnaryUnary")
        for number in range(50):
            channel.unary_unary(f"/{SERVICE}/Method{number}")
        assert len(channel._methods._known) <= 5
        assert unary(b"ok") == b"ok"

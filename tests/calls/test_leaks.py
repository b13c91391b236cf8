"""No byte of what nobody declared leaves: canaries in every place where an exception can carry text."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.instrumentation.grpc import aio_server_interceptor, server_interceptor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from worlds import SHAPES, World, call

from bookshop.v1 import bookshop_pb2
from grpc_faultwire import Catalogue, Internal, InvalidArgument, NotFound, Unavailable, from_rpc_error
from grpc_faultwire.errors import Origin, StatusError
from grpc_faultwire.observers import LoggingObserver

CANARY = "canary-5f0e1d"
bookshop = Catalogue.of(bookshop_pb2.BookshopError)


class SpeakingError(Exception):
    """Says its canary in every way that an exception has."""

    def __init__(self, text: str) -> None:
        super().__init__(text, {"args": text})
        self.attribute = text
        self.add_note(f"note: {text}")

    def __repr__(self) -> str:
        return f"SpeakingError({self.attribute})"


def received(text: str) -> StatusError:
    error = Unavailable(text, reason="REMOTE_REASON", metadata={"key": text})
    error.origin = Origin.REMOTE
    error._trailing_metadata = (("x-remote", text),)
    return error


def plain(text: str) -> Any:
    raise SpeakingError(text)


def named_type(text: str) -> Any:
    raise type(f"Error{text.replace('-', '_')}", (Exception,), {})("x")


def chained(text: str) -> Any:
    try:
        plain(text)
    except SpeakingError as error:
        raise KeyError(text) from error


def in_context(text: str) -> Any:
    try:
        plain(text)
    except SpeakingError:
        raise NotFound("It is missing.") from None


def declared_from(text: str) -> Any:
    try:
        plain(text)
    except SpeakingError as error:
        raise NotFound("It is missing.") from error


def grouped(text: str) -> Any:
    raise ExceptionGroup(text, [SpeakingError(text), NotFound("It is missing."), ValueError(text)])


def undeclared_metadata(text: str) -> Any:
    raise NotFound("It is missing.", metadata={"hidden": text})


def personal_metadata(text: str) -> Any:
    raise bookshop.OrderQuotaExceeded(limit=3, customer=text)


def private_field(text: str) -> Any:
    raise InvalidArgument("The order is invalid.", error_details=[bookshop_pb2.OrderLine(isbn="1", email=text)])


def debug_info(text: str) -> Any:
    raise Internal("It broke.", error_details=[error_details_pb2.DebugInfo(detail=text, stack_entries=[text])])


def remote(text: str) -> Any:
    raise received(text)


def remote_cause(text: str) -> Any:
    raise NotFound("It is missing.") from received(text)


def bare_rpc_error(text: str) -> Any:
    raise grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), grpc.aio.Metadata(), details=text)


def system_exit(text: str) -> Any:
    raise SystemExit(text)


def local_value(text: str) -> Any:
    password = text  # noqa: F841  # it must not show
    raise ValueError


RAISERS: list[Callable[[str], Any]] = [
    plain,
    named_type,
    chained,
    in_context,
    declared_from,
    grouped,
    undeclared_metadata,
    personal_metadata,
    private_field,
    debug_info,
    remote,
    remote_cause,
    bare_rpc_error,
    system_exit,
    local_value,
]
SHOWN_IN_LOG = {plain, chained, grouped, remote, bare_rpc_error, system_exit}
"""Those whose canary an operator needs, and finds in exactly one record."""


class Spans:
    def __init__(self, world: World) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        make = aio_server_interceptor if world.aio else server_interceptor
        self.interceptor = make(tracer_provider=provider)

    def text(self) -> str:
        return "\n".join(span.to_json() for span in self.exporter.get_finished_spans())


@pytest.fixture
def watched(world: World, caplog: pytest.LogCaptureFixture) -> Iterator[tuple[Any, Spans]]:
    spans = Spans(world)
    steps = {
        raiser.__name__: (lambda _context, raiser=raiser: raiser(CANARY + str(world.suffix))) for raiser in RAISERS
    }
    world.suffix = ""
    # A clock that leaps: the text of repeats within a minute is left out.
    logs = LoggingObserver(clock=itertools.count(step=1000.0).__next__)
    stub = world.stub(steps, spans.interceptor, world.interceptor(observers=[world.recorder, logs]))
    with caplog.at_level(logging.DEBUG):
        yield stub, spans
    assert trace.get_current_span() is trace.INVALID_SPAN


def everything(error: grpc.RpcError) -> str:
    typed = from_rpc_error(error)
    trailers = b"".join(
        key.encode() + (value if isinstance(value, bytes) else value.encode())
        for key, value in (*(error.initial_metadata() or ()), *(error.trailing_metadata() or ()))
    )
    return f"{error.details()} {typed!r} {typed.status} {trailers!r}"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    raiser=st.sampled_from(RAISERS),
    shape=st.sampled_from(SHAPES),
    suffix=st.text(st.characters(categories=["L", "N", "P"]), max_size=12),
    count=st.integers(0, 2),
)
def test_no_undeclared_text_leaves(
    watched: tuple[Any, Spans],
    world: World,
    caplog: pytest.LogCaptureFixture,
    raiser: Callable[[str], Any],
    shape: str,
    suffix: str,
    count: int,
) -> None:
    """A canary reaches no client, no span and no log below ERROR; where it is masked, one ERROR record has it."""
    stub, spans = watched
    world.suffix = suffix
    caplog.clear()
    spans.exporter.clear()
    before = len(world.recorder.ends)
    with pytest.raises(grpc.RpcError) as caught:
        call(stub, shape, raiser.__name__, count=count, payload=b"request-" + CANARY.encode())
    world.recorder.wait(before + 1)
    assert CANARY not in everything(caught.value)
    assert CANARY not in spans.text()
    speaking = [record for record in caplog.records if CANARY in record.getMessage() + str(record.exc_info)]
    assert all(record.levelno >= logging.ERROR for record in speaking)
    assert len(speaking) == (raiser in SHOWN_IN_LOG)
    if raiser in SHOWN_IN_LOG:
        assert from_rpc_error(caught.value).error_id in speaking[0].getMessage()


def test_a_stack_is_shown_to_whom_it_may(world: World) -> None:
    """Stacks are off; with Exposure they name file, line and function, and nothing of the exception's text."""
    from grpc_faultwire import Exposure

    def shown(exposure: Exposure) -> error_details_pb2.DebugInfo | None:
        stub = world.stub({"plain": lambda _context: plain(CANARY)}, world.interceptor(exposure=exposure))
        with pytest.raises(grpc.RpcError) as caught:
            call(stub, "UnaryUnary", "plain")
        assert CANARY not in everything(caught.value)
        return from_rpc_error(caught.value).find(error_details_pb2.DebugInfo)

    assert shown(Exposure()) is None
    assert shown(Exposure(stacks="trusted", trusted=lambda auth: "x509_common_name" in auth)) is None
    assert shown(Exposure(stacks="trusted", trusted=lambda auth: 1 / 0 > 0)) is None
    for exposure in (Exposure(stacks="everyone"), Exposure(stacks="trusted", trusted=lambda auth: True)):
        info = shown(exposure)
        assert info is not None
        assert any("test_leaks.py" in entry and "plain" in entry for entry in info.stack_entries)
        assert info.detail == ""

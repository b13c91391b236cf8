"""Errors of any size arrive whole in meaning, and take nothing with them that was sent before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2 as rpc
from worlds import World

from grpc_faultwire import InvalidArgument, NotFound, Redactor, StatusError, from_rpc_error

KIB = 1024
REASON = {"reason": "TOO_LARGE", "domain": "size.example.com", "retry_delay": 1.5}


def by_details(size: int) -> StatusError:
    violations = [rpc.BadRequest.FieldViolation(field=f"lines[{n}]", description="x" * 90) for n in range(size // 100)]
    return InvalidArgument("details", error_details=[rpc.BadRequest(field_violations=violations)], **REASON)


def by_message(size: int) -> StatusError:
    return InvalidArgument("m" * size, **REASON)


def by_unicode(size: int) -> StatusError:
    return InvalidArgument("é%" * (size // 2), **REASON)


def by_causes(size: int) -> StatusError:
    return InvalidArgument("causes", causes=[NotFound("c" * (size // 16)) for _ in range(16)], **REASON)


def by_metadata(size: int) -> StatusError:
    return InvalidArgument("metadata", metadata={"key": "v" * size}, **REASON)


def by_everything(size: int) -> StatusError:
    part = size // 4
    return InvalidArgument(
        "ü" * part,
        metadata={"key": "v" * part},
        error_details=[
            rpc.Help(links=[rpc.Help.Link(url="https://example.com/" + "u" * part)]),
            rpc.ResourceInfo(resource_name="r" * part),
            rpc.LocalizedMessage(locale="de", message="ß" * part),
        ],
        **REASON,
    )


PARTS: list[Callable[[int], StatusError]] = [by_details, by_message, by_unicode, by_causes, by_metadata, by_everything]


def trailers_of(size: int) -> tuple[tuple[str, str], ...]:
    return tuple((f"x-trailer-{n}", "t" * (KIB - 50)) for n in range(size // KIB))


def steps_for(size: int, trailers: int) -> dict[str, Callable[[Any], Any]]:
    def step_of(make: Callable[[int], StatusError]) -> Callable[[Any], Any]:
        def step(context: Any) -> Any:
            if trailers:
                context.set_trailing_metadata(trailers_of(trailers))
            raise make(size)

        return step

    return {make.__name__: step_of(make) for make in PARTS}


def received(stub: Any, shape: str, step: str) -> tuple[grpc.RpcError, int]:
    from faultwire.testing.v1 import scripted_pb2 as pb

    request = pb.Request(step=step, count=3)
    responses = 0
    try:
        if shape == "UnaryUnary":
            stub.UnaryUnary(request, timeout=10)
        else:
            for _ in stub.UnaryStream(request, timeout=10):
                responses += 1
    except grpc.RpcError as error:
        return error, responses
    raise AssertionError("it did not fail")


def check_arrived(error: grpc.RpcError, trailers: int) -> None:
    typed = from_rpc_error(error)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error.details()
    assert (typed.reason, typed.domain, typed.retry_delay) == ("TOO_LARGE", "size.example.com", 1.5)
    assert len(typed.error_id) == 32
    assert not typed.anomalies
    assert not typed.recovered
    sent = set(trailers_of(trailers))
    assert sent <= {(key, value) for key, value in error.trailing_metadata()}


@pytest.mark.parametrize("tries", [pytest.param(4, id="few"), pytest.param(200, id="many", marks=pytest.mark.slow)])
@pytest.mark.parametrize("trailers", [0, 3 * KIB, 7 * KIB])
@pytest.mark.parametrize("size", [1, 6 * KIB, 12 * KIB, 40 * KIB, pytest.param(200 * KIB, marks=pytest.mark.slow)])
@pytest.mark.timeout(300)
def test_what_matters_arrives_every_time(world: World, size: int, trailers: int, tries: int) -> None:
    """Code, reason, domain, RetryInfo, error id, the user's trailers and all stream messages arrive every time."""
    interceptor = world.interceptor(redactor=Redactor(metadata_keys=["key"]))
    stub = world.stub(steps_for(size, trailers), interceptor)
    for make in PARTS:
        for number in range(tries):
            shape = "UnaryStream" if number % 2 else "UnaryUnary"
            error, responses = received(stub, shape, make.__name__)
            check_arrived(error, trailers)
            assert responses == (3 if shape == "UnaryStream" else 0)


def test_trailers_that_cannot_fit_are_dropped_and_said(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """User trailers that do not fit beside the status are dropped last, with a marker and a line in the log."""

    def step(context: Any) -> Any:
        context.set_trailing_metadata((("x-small", "kept"), ("x-large", "t" * 8000)))
        raise InvalidArgument("m", **REASON)

    stub = world.stub({"step": step})
    error, _ = received(stub, "UnaryUnary", "step")
    check_arrived(error, 0)
    report = from_rpc_error(error).report
    assert report is not None
    assert report.truncation.dropped[-1] == "trailers"
    keys = [key for key, _ in error.trailing_metadata()]
    assert "x-small" in keys
    assert "x-large" not in keys
    assert "did not fit" in caplog.text


def test_what_was_dropped_is_said(world: World) -> None:
    """A truncated error says what was dropped, in order, and how large it was."""
    stub = world.stub(steps_for(40 * KIB, 0), world.interceptor(redactor=Redactor(metadata_keys=["key"])))
    error, _ = received(stub, "UnaryUnary", "by_everything")
    typed = from_rpc_error(error)
    assert typed.report is not None
    assert list(typed.report.truncation.dropped) == ["help", "details", "localized_message", "metadata", "message"]
    assert typed.report.truncation.original_bytes > 40 * KIB
    assert typed.message
    assert set(typed.message) == {"ü"}
    assert typed.metadata == {"key": ""}

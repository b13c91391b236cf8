"""Recovery strategies answer in place of an error; transformers and category handlers see the call at hand."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from worlds import SHAPES, World, call

from faultwire.testing.v1 import scripted_pb2 as pb
from grpc_faultwire import Category, Internal, NotFound, Translator, Unavailable, from_rpc_error


def value_error(_context: Any) -> Any:
    raise ValueError("secret")


def missing(_context: Any) -> Any:
    raise NotFound("missing")


def answer_for(stream: bool) -> Any:
    return [pb.Response(number=90), pb.Response(number=91)] if stream else pb.Response(number=90)


@pytest.mark.parametrize("shape", SHAPES)
def test_recovery_by_exception_type(world: World, shape: str) -> None:
    """A value, or the rest of a stream, takes the error's place; one OK record says what was recovered from."""
    translator = Translator()
    translator.recovery(ValueError)(lambda error, at: answer_for(at.info.kind.response_streaming))
    stub = world.stub({"step": value_error}, world.interceptor(translator))
    numbers = [response.number for response in call(stub, shape, "step", count=2)]
    assert numbers == ([1, 2, 90, 91] if shape.endswith("Stream") else [90])
    [outcome] = world.recorder.wait()
    assert outcome.code is grpc.StatusCode.OK
    assert outcome.recovered is not None
    assert isinstance(outcome.exception, ValueError)
    assert [event.name for event in world.recorder.events] == ["recovered"]


@pytest.mark.parametrize("shape", SHAPES)
def test_recovery_by_category_that_is_a_coroutine(world: World, shape: str) -> None:
    """In aio a recovery may be a coroutine function, and continue with an async generator."""
    if not world.aio:
        pytest.skip("there are no coroutines in sync")
    translator = Translator()

    async def following() -> Any:
        yield pb.Response(number=90)
        yield pb.Response(number=91)

    async def recover(error: Any, at: Any) -> Any:
        return following() if at.info.kind.response_streaming else pb.Response(number=90)

    translator.recovery(Category.NOT_FOUND)(recover)
    stub = world.stub({"step": missing}, world.interceptor(translator))
    numbers = [response.number for response in call(stub, shape, "step", count=1)]
    assert numbers == ([1, 90, 91] if shape.endswith("Stream") else [90])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("how", ["declines", "raises", "nonsense"])
def test_recovery_that_gives_nothing(world: World, shape: str, how: str) -> None:
    """A recovery that declines leaves the error; one that raises or answers nonsense gives a constant INTERNAL."""
    translator = Translator()

    def recover(error: Any, at: Any) -> Any:
        if how == "raises":
            raise KeyError("secret")
        return None if how == "declines" else object()

    translator.recovery(NotFound)(recover)
    stub = world.stub({"step": missing}, world.interceptor(translator))
    with pytest.raises(grpc.RpcError) as error:
        call(stub, shape, "step", count=1)
    expected = grpc.StatusCode.NOT_FOUND if how == "declines" else grpc.StatusCode.INTERNAL
    assert error.value.code() is expected
    assert "secret" not in str(error.value)
    assert [outcome.code for outcome in world.recorder.wait()] == [expected]


@pytest.mark.parametrize("shape", ["UnaryStream", "StreamStream"])
def test_recovery_that_fails_half_way(world: World, shape: str) -> None:
    """A recovery's stream that fails ends the call with that error; there is no second recovery."""
    translator = Translator()

    def following() -> Iterator[pb.Response]:
        yield pb.Response(number=90)
        raise Unavailable("the recovery failed too")

    translator.recovery(NotFound, Unavailable)(lambda error, at: following())
    stub = world.stub({"step": missing}, world.interceptor(translator))
    with pytest.raises(grpc.RpcError) as error:
        call(stub, shape, "step", count=1)
    assert error.value.details() == "the recovery failed too"
    assert [outcome.code for outcome in world.recorder.wait()] == [grpc.StatusCode.UNAVAILABLE]


def test_transformers_and_category_handlers_see_the_call(world: World) -> None:
    """They enrich an error with what the call at hand says, and what they return is what leaves."""
    translator = Translator("shop.example.com")

    @translator.category_handler(Category.NOT_FOUND)
    def hide(error: Any, at: Any) -> Any:
        return Internal("hidden", reason="HIDDEN")

    @translator.transformer
    def enrich(error: Any, at: Any) -> Any:
        language = dict(at.context.invocation_metadata()).get("x-language", "none")
        return error.replace(message=f"{error.message} {at.service} {at.method} {language}")

    stub = world.stub({"step": missing}, world.interceptor(translator))
    with pytest.raises(grpc.RpcError) as error:
        stub.UnaryUnary(pb.Request(step="step"), metadata=(("x-language", "de"),), timeout=5)
    typed = from_rpc_error(error.value)
    assert typed.message == "hidden faultwire.testing.v1.Scripted UnaryUnary de"
    assert (typed.reason, typed.domain) == ("HIDDEN", "shop.example.com")


def test_what_was_recovered_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A masked bug that was recovered from is still in the log."""
    translator = Translator()
    translator.recovery(ValueError)(lambda error, at: pb.Response())
    stub = world.stub({"step": value_error}, world.interceptor(translator))
    with caplog.at_level(logging.INFO):
        call(stub, "UnaryUnary", "step")
        world.recorder.wait()
    [record] = [record for record in caplog.records if record.name == "grpc_faultwire.errors"]
    assert record.levelno == logging.ERROR
    assert "event=recovered" in record.getMessage()
    assert "ValueError: secret" in record.getMessage()


def test_pass_through_leaves_exceptions_to_grpc(world: World) -> None:
    """on_unmapped="pass_through" gives what grpc gives, and the record says so."""
    stub = world.stub({"step": value_error}, world.interceptor(Translator(on_unmapped="pass_through")))
    for shape in SHAPES:
        with pytest.raises(grpc.RpcError) as error:
            call(stub, shape, "step")
        assert error.value.code() is grpc.StatusCode.UNKNOWN
        assert "secret" in error.value.details()
    assert {outcome.code for outcome in world.recorder.wait(4)} == {grpc.StatusCode.UNKNOWN}

"""Every exit of a handler ends its RPC with a status, and the server goes on serving."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import time
import weakref
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from worlds import SHAPES, World, call

from faultwire.testing.v1 import scripted_pb2 as pb
from grpc_faultwire import NotFound, from_rpc_error
from grpc_faultwire.testing import NO_RESPONSE

Code = grpc.StatusCode


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("unprintable")

    __repr__ = __str__


def raising(exception: type[BaseException] | BaseException) -> Callable[[Any], Any]:
    def step(_context: Any) -> Any:
        raise exception

    return step


def group(_context: Any) -> Any:
    raise ExceptionGroup("several", [NotFound("one"), NotFound("two")])


def base_group(_context: Any) -> Any:
    raise BaseExceptionGroup("several", [SystemExit(3), NotFound("two")])


def abort(code: Any, message: Any = "aborted") -> Callable[[Any], Any]:
    return lambda context: context.abort(code, message)


def swallow(context: Any) -> Any:
    try:
        context.abort(Code.ABORTED, "swallowed")
    except Exception:
        return pb.Response()


async def aio_swallow(context: Any) -> Any:
    try:
        await context.abort(Code.ABORTED, "swallowed")
    except Exception:
        return pb.Response()


def abort_twice(context: Any) -> Any:
    try:
        context.abort(Code.ABORTED, "first")
    except Exception:
        context.abort(Code.NOT_FOUND, "second")


async def aio_abort_twice(context: Any) -> Any:
    try:
        await context.abort(Code.ABORTED, "first")
    except Exception:
        await context.abort(Code.NOT_FOUND, "second")


def set_code(context: Any) -> Any:
    context.set_code(Code.FAILED_PRECONDITION)
    context.set_details("said")


def set_code_and_return_none(context: Any) -> Any:
    set_code(context)
    return NO_RESPONSE


def set_code_and_raise(context: Any) -> Any:
    set_code(context)
    raise ValueError("secret")


def set_ok_and_raise(context: Any) -> Any:
    context.set_code(Code.OK)
    raise ValueError("secret")


async def self_cancel(_context: Any) -> Any:
    asyncio.current_task().cancel()
    await asyncio.sleep(30)


async def await_cancelled(_context: Any) -> Any:
    task = asyncio.ensure_future(asyncio.sleep(30))
    await asyncio.sleep(0)
    task.cancel()
    await task


def rich_abort(context: Any) -> Any:
    from google.rpc import status_pb2
    from grpc_status import rpc_status

    return context.abort_with_status(rpc_status.to_status(status_pb2.Status(code=9, message="rich")))


STEPS: dict[str, tuple[Callable[[Any], Any], Code]] = {
    "status_error": (raising(NotFound("missing")), Code.NOT_FOUND),
    "exception": (raising(ValueError("secret")), Code.INTERNAL),
    "bare_exception": (raising(Exception), Code.INTERNAL),
    "system_exit": (raising(SystemExit), Code.INTERNAL),
    "keyboard_interrupt": (raising(KeyboardInterrupt), Code.INTERNAL),
    "asyncio_cancelled": (raising(asyncio.CancelledError), Code.INTERNAL),
    "futures_cancelled": (raising(concurrent.futures.CancelledError), Code.INTERNAL),
    "generator_exit": (raising(GeneratorExit), Code.INTERNAL),
    "stop_iteration": (raising(StopIteration), Code.INTERNAL),
    "stop_async_iteration": (raising(StopAsyncIteration), Code.INTERNAL),
    "memory_error": (raising(MemoryError), Code.INTERNAL),
    "group": (group, Code.NOT_FOUND),
    "base_group": (base_group, Code.INTERNAL),
    "unprintable": (raising(UnprintableError), Code.INTERNAL),
    "surrogate": (raising(NotFound("lone \ud800 surrogate")), Code.NOT_FOUND),
    "abort": (abort(Code.ABORTED), Code.ABORTED),
    "abort_surrogate": (abort(Code.ABORTED, "lone \ud800 surrogate"), Code.ABORTED),
    "abort_ok": (abort(Code.OK), Code.UNKNOWN),
    "abort_none": (abort(Code.ABORTED, None), Code.ABORTED),
    "abort_int": (abort(5), Code.NOT_FOUND),
    "abort_nonsense": (abort("nonsense"), Code.UNKNOWN),
    "abort_rich": (rich_abort, Code.FAILED_PRECONDITION),
    "swallow": (swallow, Code.ABORTED),
    "abort_twice": (abort_twice, Code.ABORTED),
    "set_code": (set_code, Code.FAILED_PRECONDITION),
    "set_code_and_raise": (set_code_and_raise, Code.FAILED_PRECONDITION),
    "set_ok_and_raise": (set_ok_and_raise, Code.INTERNAL),
    "ok": (lambda _context: None, Code.OK),
}
UNARY_STEPS = {
    "unserializable": (lambda _context: NO_RESPONSE, Code.INTERNAL),
    "set_code_and_return_none": (set_code_and_return_none, Code.FAILED_PRECONDITION),
}
AIO_STEPS: dict[str, tuple[Callable[[Any], Any], Code]] = {
    "swallow": (aio_swallow, Code.ABORTED),
    "abort_twice": (aio_abort_twice, Code.ABORTED),
    "self_cancel": (self_cancel, Code.INTERNAL),
    "await_cancelled": (await_cancelled, Code.INTERNAL),
}


def steps_of(world: World, shape: str) -> dict[str, tuple[Callable[[Any], Any], Code]]:
    unary = {} if shape.endswith("Stream") else UNARY_STEPS
    return STEPS | unary | (AIO_STEPS if world.name == "aio" else {})


@pytest.mark.parametrize("shape", SHAPES)
def test_every_exit_gives_the_caller_its_status(world: World, shape: str) -> None:
    """Whatever a handler does, its caller has the right status, one record is made, and the next call is served."""
    steps = steps_of(world, shape)
    stub = world.stub({name: step for name, (step, _) in steps.items()})
    wrong = {}
    for number, (name, (_, expected)) in enumerate(steps.items(), 1):
        code = Code.OK
        try:
            call(stub, shape, name, count=2, timeout=3)
        except grpc.RpcError as error:
            code = error.code()
            typed = from_rpc_error(error)
            if not typed.error_id or typed.anomalies or not typed.reason:
                wrong[name] = repr(typed)
            if "secret" in str(error):
                wrong[name] = f"leaks: {error}"
        outcomes = world.recorder.wait(number)
        if code is not expected or len(outcomes) != number or outcomes[-1].code is not expected:
            wrong[name] = f"{code}, recorded {[outcome.code for outcome in outcomes[number - 1 :]]}"
            world.recorder.ends = world.recorder.ends[: number - 1] + [(None, None)] * (number - len(outcomes))
        assert call(stub, shape, "ok", count=1)
        world.recorder.wait(number + 1)
        world.recorder.ends.pop()
    assert not wrong


@pytest.mark.parametrize("shape", ["UnaryUnary", "UnaryStream"])
def test_what_a_handler_raised_is_let_go_of_at_once(world: World, shape: str) -> None:
    """An exception, and with it the frames of its call, do not wait for the garbage collector."""
    raised: list[weakref.ref[BaseException]] = []

    def noted(exception: BaseException) -> BaseException:
        raised.append(weakref.ref(exception))
        return exception

    def declared(_context: Any) -> Any:
        raise noted(NotFound("It is missing."))

    def masked(_context: Any) -> Any:
        raise noted(UnprintableError())

    stub = world.stub({"declared": declared, "masked": masked})
    gc.disable()
    try:
        for step in ("declared", "masked"):
            with pytest.raises(grpc.RpcError):
                call(stub, shape, step)
            world.recorder.wait(1)
            world.recorder.ends.clear()
        patience = time.monotonic() + 5  # a call's last frames are left after its caller has heard of it
        while any(one() is not None for one in raised) and time.monotonic() < patience:
            time.sleep(0.01)
        assert [one() for one in raised] == [None, None]
    finally:
        gc.enable()

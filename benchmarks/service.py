"""The service of all benchmarks. It takes and gives bytes, so that protobuf's own time is in none of the figures."""

from __future__ import annotations

import asyncio
import itertools
import operator
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
from google.rpc import error_details_pb2

from grpc_faultwire import InvalidArgument, Redactor, StatusError, Unavailable
from grpc_faultwire.status import encode

NAME = "bench.Bench"
OK, RAISE, CRASH = f"/{NAME}/Ok", f"/{NAME}/Raise", f"/{NAME}/Crash"
FLAKY, DOWN, HANG = f"/{NAME}/Flaky", f"/{NAME}/Down", f"/{NAME}/Hang"
STREAM, BIDI, CPU = f"/{NAME}/Stream", f"/{NAME}/Bidi", f"/{NAME}/Cpu"

_PAYLOAD = operator.attrgetter("payload")

Fail = Callable[[Any, grpc.StatusCode], Any]
"""Ends a call with a code: it raises, or returns what ``context.abort`` returned, to be awaited in aio."""


def details() -> list[Any]:
    """Return the details of the rich error."""
    return [error_details_pb2.BadRequest(field_violations=[{"field": "isbn", "description": "It has 9 digits."}])]


def raising(_context: Any, code: grpc.StatusCode) -> Any:
    """Fail as a user of ours does."""
    if code is grpc.StatusCode.UNAVAILABLE:
        raise Unavailable("It is busy.", reason="BUSY", domain="bench.example.com")
    raise InvalidArgument("A field is wrong.", reason="WRONG", domain="bench.example.com", error_details=details())


def aborting(context: Any, code: grpc.StatusCode) -> Any:
    """Fail as plain grpc does: with a code and a sentence."""
    return context.abort(code, "A field is wrong.")


def asynchronous(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a coroutine function that does the same."""

    async def behavior(request: bytes, context: Any) -> Any:
        return function(request, context)

    return behavior


def rejecting() -> Fail:
    """Return how a server without us gives callers the rich error that a server with us gives."""
    reply: Any = None
    try:
        raising(None, grpc.StatusCode.INVALID_ARGUMENT)
    except StatusError as error:
        reply = encode(error, service=NAME, method="Raise", redactor=Redactor(), now=1.0)

    def reject(context: Any, code: grpc.StatusCode) -> Any:
        if code is reply.code:
            context.set_trailing_metadata(reply.trailers)
        return context.abort(code, reply.message)

    return reject


class Message:
    """What unary methods answer. Not bare bytes: grpc-interceptor takes an answer that can be iterated for a stream."""

    __slots__ = ("payload",)

    def __init__(self, payload: bytes) -> None:
        self.payload = payload


class Behaviors:
    """What the methods do, for a sync server.

    Args:
        fail: how calls fail.
    """

    def __init__(self, fail: Fail) -> None:
        self.fail = fail
        self.calls = itertools.count()

    def ok(self, request: bytes, _context: Any) -> Message:
        return Message(request)

    def cpu(self, _request: bytes, _context: Any) -> Message:
        return Message(str(time.process_time()).encode())

    def rich(self, _request: bytes, context: Any) -> Message:
        return self.fail(context, grpc.StatusCode.INVALID_ARGUMENT)

    def crash(self, _request: bytes, _context: Any) -> Message:
        raise ValueError("It is a bug.")

    def down(self, _request: bytes, context: Any) -> Message:
        return self.fail(context, grpc.StatusCode.UNAVAILABLE)

    def flaky(self, request: bytes, context: Any) -> Message:
        return Message(request) if next(self.calls) % 2 else self.down(request, context)

    def hang(self, request: bytes, context: Any) -> Message:
        ended = threading.Event()
        if context.add_callback(ended.set):  # else it has ended before
            ended.wait(60)
        return Message(request)

    def stream(self, request: bytes, _context: Any) -> Iterator[bytes]:
        for _ in range(int(request)):
            yield b"x"

    def bidi(self, requests: Iterator[bytes], _context: Any) -> Iterator[bytes]:
        yield from requests


class AioBehaviors(Behaviors):
    """The same for an aio server."""

    async def ok(self, request: bytes, _context: Any) -> Message:
        return Message(request)

    async def cpu(self, _request: bytes, _context: Any) -> Message:
        return Message(str(time.process_time()).encode())

    async def rich(self, _request: bytes, context: Any) -> Message:
        return await self.fail(context, grpc.StatusCode.INVALID_ARGUMENT)

    async def crash(self, _request: bytes, _context: Any) -> Message:
        raise ValueError("It is a bug.")

    async def down(self, _request: bytes, context: Any) -> Message:
        return await self.fail(context, grpc.StatusCode.UNAVAILABLE)

    async def flaky(self, request: bytes, context: Any) -> Message:
        return Message(request) if next(self.calls) % 2 else await self.down(request, context)

    async def hang(self, request: bytes, _context: Any) -> Message:
        await asyncio.sleep(60)
        return Message(request)

    async def stream(self, request: bytes, _context: Any) -> AsyncIterator[bytes]:
        for _ in range(int(request)):
            yield b"x"

    async def bidi(self, requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request


def handler(world: str, fail: Fail = aborting, methods: int = 0) -> grpc.GenericRpcHandler:
    """Return the service.

    Args:
        world: "sync" or "aio".
        fail: how calls fail.
        methods: further methods that do as Ok does: M0, M1, ...
    """
    behaviors = Behaviors(fail) if world == "sync" else AioBehaviors(fail)
    unary = {"Ok": "ok", "Cpu": "cpu", "Raise": "rich", "Crash": "crash", "Flaky": "flaky", "Down": "down"}
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(getattr(behaviors, attribute), response_serializer=_PAYLOAD)
        for name, attribute in {**unary, "Hang": "hang", **{f"M{n}": "ok" for n in range(methods)}}.items()
    }
    handlers["Stream"] = grpc.unary_stream_rpc_method_handler(behaviors.stream)
    handlers["Bidi"] = grpc.stream_stream_rpc_method_handler(behaviors.bidi)
    return grpc.method_handlers_generic_handler(NAME, handlers)

"""What a client does again and again, in both worlds: one operation for each case."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from benchmarks import service
from benchmarks.client_stacks import STACKS, ClientStack

PATHS = {"OK": service.OK, "rich error": service.RAISE, "retried": service.FLAKY, "open circuit": service.DOWN}
MESSAGES = 100
BIDI_MESSAGES = 20
FAILURES = 60
"""Failed calls that open every circuit."""


def runner(world: str, stack: str, address: str) -> Callable[[str, int], None]:
    """Return what runs a case so many times on one stack. Each case has a channel of its own."""
    chosen = STACKS[stack]
    if world == "sync":
        operations: dict[str, Callable[[], Any]] = {}

        def run(case: str, number: int) -> None:
            if case not in operations:
                operations[case] = operation(chosen, address, case)
            for _ in range(number):
                operations[case]()

        return run
    return AioRunner(chosen, address).run


def read(stack: ClientStack, error: Any) -> Any:
    """Do with a rich error what a caller can: look at its reason and details, or else at its code."""
    if stack.details:
        return error.reason, error.find(error_details_pb2.BadRequest)
    if stack.guard is None or not (stack.retries and stack.breaks):
        return error.code()
    status: Any = rpc_status.from_call(error)
    info, violations = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in () if status is None else status.details:
        for message in (info, violations):
            if detail.Is(message.DESCRIPTOR):
                detail.Unpack(message)
    return info.reason, violations


def operation(stack: ClientStack, address: str, case: str) -> Callable[[], Any]:
    """Return a sync operation."""
    channel = stack.channel(address, "sync", case)
    guard = stack.guard or (lambda _world, function: function)
    if case in ("stream", "bidi"):
        return streaming(channel, guard, case)
    unary = channel.unary_unary(PATHS[case])
    guarded = guard("sync", lambda request: unary(request))  # noqa: PLW0108  # some want a function's attributes

    def attempt() -> Any:
        try:
            return guarded(b"x")
        except grpc.RpcError as error:
            return read(stack, error)
        except Exception as refusal:  # each breaker has its own
            return refusal

    def again() -> Any:
        while True:
            try:
                return unary(b"x")
            except grpc.RpcError as error:
                error.code()  # type: ignore[attr-defined]  # every error of a call has it

    for _ in range(FAILURES if case == "open circuit" else 0):
        attempt()
    return attempt if case != "retried" or stack.retries else again


def streaming(channel: Any, guard: Any, case: str) -> Callable[[], Any]:
    if case == "stream":
        stream, request = channel.unary_stream(service.STREAM), str(MESSAGES).encode()
        opened = guard("sync", lambda: stream(request))
    else:
        bidi = channel.stream_stream(service.BIDI)
        opened = guard("sync", lambda: bidi(iter([b"x"] * BIDI_MESSAGES)))
    return lambda: [None for _ in opened()]


class AioRunner:
    """Runs the operations of one stack in an event loop.

    Args:
        stack: which.
        address: of the server.
    """

    def __init__(self, stack: ClientStack, address: str) -> None:
        self._stack = stack
        self._address = address
        self._loop = asyncio.new_event_loop()
        self._operations: dict[str, Callable[[], Awaitable[Any]]] = {}

    def run(self, case: str, number: int) -> None:
        """Run a case so many times."""
        self._loop.run_until_complete(self._run(case, number))

    async def _run(self, case: str, number: int) -> None:
        if case not in self._operations:
            self._operations[case] = await self._operation(case)
        operation = self._operations[case]
        for _ in range(number):
            await operation()

    async def _operation(self, case: str) -> Callable[[], Awaitable[Any]]:
        stack = self._stack
        channel = stack.channel(self._address, "aio", case)
        guard = stack.guard or (lambda _world, function: function)
        if case in ("stream", "bidi"):
            return self._streaming(channel, guard, case)
        unary = channel.unary_unary(PATHS[case])

        async def plain(request: bytes) -> bytes:
            return await unary(request)

        guarded = guard("aio", plain)

        async def attempt() -> Any:
            try:
                return await guarded(b"x")
            except grpc.RpcError as error:
                return read(stack, error)
            except Exception as refusal:  # each breaker has its own
                return refusal

        async def again() -> Any:
            while True:
                try:
                    return await unary(b"x")
                except grpc.RpcError as error:
                    error.code()  # type: ignore[attr-defined]  # every error of a call has it

        for _ in range(FAILURES if case == "open circuit" else 0):
            await attempt()
        return attempt if case != "retried" or stack.retries else again

    @staticmethod
    def _streaming(channel: Any, guard: Any, case: str) -> Callable[[], Awaitable[Any]]:
        method = channel.unary_stream(service.STREAM) if case == "stream" else channel.stream_stream(service.BIDI)

        async def plain(request: Any) -> Any:
            return method(request)

        opened = guard("aio", plain)
        requests: Any = str(MESSAGES).encode() if case == "stream" else [b"x"] * BIDI_MESSAGES

        async def streamed() -> None:
            async for _ in await opened(requests if case == "stream" else iter(requests)):
                pass

        return streamed

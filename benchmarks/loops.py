"""Loops of unary calls, which return the CPU seconds that they took of the client's process, or of the server's."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import grpc

from benchmarks.service import CPU


def server_case(channel: grpc.Channel, path: str) -> Callable[[int], float]:
    """Return what calls a server, which tells how much CPU time it has used."""
    method, cpu = channel.unary_unary(path), channel.unary_unary(CPU)

    def case(number: int) -> float:
        started = float(cpu(b""))
        for _ in range(number):
            with contextlib.suppress(grpc.RpcError):
                method(b"x")
        return float(cpu(b"")) - started

    return case


def caller_case(channel: grpc.Channel, path: str) -> Callable[[int], float]:
    """Return what calls on a sync channel of this process, and looks at the code of errors."""
    method: Any = channel.unary_unary(path)

    def case(number: int) -> float:
        started = time.process_time()
        for _ in range(number):
            try:
                method(b"x")
            except grpc.RpcError as error:
                error.code()  # type: ignore[attr-defined]  # every error of a call has it
        return time.process_time() - started

    return case


def aio_caller_case(loop: asyncio.AbstractEventLoop, channel: Any, path: str) -> Callable[[int], float]:
    """Return the same for an aio channel."""
    method = channel.unary_unary(path)

    async def run(number: int) -> float:
        started = time.process_time()
        for _ in range(number):
            try:
                await method(b"x")
            except grpc.RpcError as error:
                error.code()  # type: ignore[attr-defined]  # every error of a call has it
        return time.process_time() - started

    return lambda number: loop.run_until_complete(run(number))

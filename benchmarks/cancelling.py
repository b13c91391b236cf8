"""How long a cancel takes: from the word to the moment when the waiting caller goes on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc

import grpc_faultwire.aio
import grpc_faultwire.sync
from benchmarks.processes import Server
from benchmarks.service import DOWN, HANG, OK
from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.policies import BreakerPolicy, BudgetPolicy, RetryPolicy

PAUSE = 0.01
"""Seconds after which a call is in its attempt, or in its backoff."""

POLICY = ClientPolicy(
    idempotent=True,
    retry=RetryPolicy(initial_backoff=60, max_backoff=60),
    budget=BudgetPolicy(capacity=1e9, initial=1e9),
    breaker=BreakerPolicy(minimum_calls=10**9),
)
WHEN = {"an attempt": HANG, "a backoff": DOWN}


def latencies(number: int) -> Iterator[tuple[str, list[float]]]:
    """Give the microseconds of so many cancels, by what is cancelled."""
    with Server("aio", "rich") as address:
        bare = grpc.insecure_channel(address)
        wrapped = grpc_faultwire.sync.wrap_channel(grpc.insecure_channel(address), POLICY)
        with bare, wrapped:
            yield "sync, bare: an attempt", [cancelled(bare.unary_unary(HANG)) for _ in range(number)]
            for name, path in WHEN.items():
                yield f"sync: {name}", [cancelled(wrapped.unary_unary(path)) for _ in range(number)]
        yield from asyncio.run(aio_latencies(address, number))


def cancelled(method: Any) -> float:
    call = method.future(b"x")
    time.sleep(PAUSE)
    return waited(call.cancel, call.exception)


def waited(cancel: Callable[[], Any], wait: Callable[[], Any]) -> float:
    started = time.perf_counter()
    cancel()
    with contextlib.suppress(grpc.FutureCancelledError, grpc.RpcError):
        wait()
    return (time.perf_counter() - started) * 1e6


async def aio_latencies(address: str, number: int) -> list[tuple[str, list[float]]]:
    bare = grpc.aio.insecure_channel(address)
    wrapped = grpc_faultwire.aio.wrap_channel(grpc.aio.insecure_channel(address), POLICY)
    async with bare, wrapped:
        await bare.unary_unary(OK)(b"x")
        found = [("aio, bare: an attempt", [await aio_cancelled(bare.unary_unary(HANG)) for _ in range(number)])]
        for name, path in WHEN.items():
            found.append((f"aio: {name}", [await aio_cancelled(wrapped.unary_unary(path)) for _ in range(number)]))
    return found


async def aio_cancelled(method: Any) -> float:
    async def call() -> Any:
        return await method(b"x")

    task = asyncio.create_task(call())
    await asyncio.sleep(PAUSE)
    started = time.perf_counter()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return (time.perf_counter() - started) * 1e6

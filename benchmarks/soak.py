"""Calls of all kinds for minutes, in one process: nothing may be left behind. `python -m benchmarks.soak [seconds]`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import random
import resource
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from concurrent import futures
from typing import Any, NamedTuple

import grpc
from prometheus_client import CollectorRegistry

import grpc_faultwire.aio
import grpc_faultwire.sync
from benchmarks import service
from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.observers import PrometheusObserver
from grpc_faultwire.policies import BudgetPolicy, RetryPolicy

KINDS = ("ok", "error", "crash", "down", "flaky", "stream", "bidi", "cancel", "deadline", "drop")
PATHS = {"ok": service.OK, "error": service.RAISE, "crash": service.CRASH, "down": service.DOWN, "flaky": service.FLAKY}
WORKERS = 8
SECONDS = 300.0

POLICY = ClientPolicy(
    idempotent=True,
    retry=RetryPolicy(initial_backoff=0.001),
    budget=BudgetPolicy(capacity=1000, initial=1000),
    overrides=(("", "", {"breaker": None}),),
)


class State(NamedTuple):
    """What a process holds.

    Attributes:
        calls: made so far.
        megabytes: of memory, as the system counts.
        traced: kilobytes that Python has allocated.
        threads: of Python.
        files: open descriptors.
        tasks: of the event loop.
    """

    calls: int
    megabytes: float
    traced: float
    threads: int
    files: int
    tasks: int


def resident() -> float:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize() / 2**20
    except OSError:  # not Linux: the most that it ever was
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def files() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def started_pool(size: int) -> futures.ThreadPoolExecutor:
    """Return a pool whose threads have all been started, so that none is taken for one left behind."""
    pool, together = futures.ThreadPoolExecutor(size), threading.Barrier(size)
    list(pool.map(lambda _: together.wait(), range(size)))
    return pool


class SyncSoak:
    """Calls in threads."""

    def __init__(self, channel: Any) -> None:
        self._unary = {kind: channel.unary_unary(path) for kind, path in PATHS.items()}
        self._hang = channel.unary_unary(service.HANG)
        self._stream, self._bidi = channel.unary_stream(service.STREAM), channel.stream_stream(service.BIDI)

    def call(self, kind: str) -> None:
        with contextlib.suppress(grpc.RpcError, grpc.FutureCancelledError):
            if kind in PATHS:
                self._unary[kind](b"x")
            elif kind == "stream":
                list(self._stream(b"20"))
            elif kind == "bidi":
                list(self._bidi(iter([b"x"] * 5)))
            elif kind == "drop":
                next(self._stream(b"20"))
            elif kind == "deadline":
                self._hang(b"x", timeout=0.005)
            else:
                running = self._hang.future(b"x")
                running.cancel()
                running.result()


class AioSoak:
    """Calls in tasks."""

    def __init__(self, channel: Any) -> None:
        self._unary = {kind: channel.unary_unary(path) for kind, path in PATHS.items()}
        self._hang = channel.unary_unary(service.HANG)
        self._stream, self._bidi = channel.unary_stream(service.STREAM), channel.stream_stream(service.BIDI)

    async def call(self, kind: str) -> None:
        with contextlib.suppress(grpc.RpcError, asyncio.TimeoutError):
            if kind in PATHS:
                await self._unary[kind](b"x")
            elif kind == "stream":
                _ = [message async for message in self._stream(b"20")]
            elif kind == "bidi":
                _ = [message async for message in self._bidi(iter([b"x"] * 5))]
            elif kind == "drop":
                await self._stream(b"20").read()
            elif kind == "deadline":
                await self._hang(b"x", timeout=0.005)
            else:
                async with asyncio.timeout(0.002):
                    await self._hang(b"x")


class Soak:
    """Runs both worlds in one process for a time.

    Args:
        seconds: how long.
        tell: is told each state.
        parts: how many states are taken, evenly spread; the first is the end of the warm-up.
    """

    def __init__(self, seconds: float, tell: Callable[[State], None], parts: int = 10) -> None:
        self._part = seconds / parts
        self._parts = parts
        self._tell = tell
        self._calls = 0
        self._random = random.Random(1)

    async def run(self) -> list[State]:
        observers = [PrometheusObserver(CollectorRegistry())]
        sync_server = grpc.server(
            started_pool(4 * WORKERS),  # calls that hang until their caller has gone keep no other waiting
            interceptors=[grpc_faultwire.sync.ServerInterceptor(observers=observers)],
        )
        aio_server = grpc.aio.server(interceptors=[grpc_faultwire.aio.ServerInterceptor(observers=observers)])
        sync_server.add_generic_rpc_handlers([service.handler("sync", service.raising)])
        aio_server.add_generic_rpc_handlers([service.handler("aio", service.raising)])
        ports = [server.add_insecure_port("127.0.0.1:0") for server in (sync_server, aio_server)]
        sync_server.start()
        await aio_server.start()
        inner = grpc.insecure_channel(f"127.0.0.1:{ports[1]}")
        sync_channel = grpc_faultwire.sync.wrap_channel(inner, POLICY, observers=observers)
        aio_inner = grpc.aio.insecure_channel(f"127.0.0.1:{ports[0]}")
        aio_channel = grpc_faultwire.aio.wrap_channel(aio_inner, POLICY, observers=observers)
        states = []
        for _ in range(self._parts):
            await self._work(SyncSoak(sync_channel), AioSoak(aio_channel))
            states.append(await self._state())
            self._tell(states[-1])
        sync_channel.close()
        await aio_channel.close()
        await aio_server.stop(None)
        await asyncio.to_thread(sync_server.stop(None).wait)
        return states

    async def _work(self, sync: SyncSoak, aio: AioSoak) -> None:
        until = time.monotonic() + self._part

        def in_thread() -> None:
            while time.monotonic() < until:
                sync.call(self._kind())

        async def in_task() -> None:
            while time.monotonic() < until:
                await aio.call(self._kind())

        with futures.ThreadPoolExecutor(WORKERS) as pool:
            loop = asyncio.get_running_loop()
            threads = [loop.run_in_executor(pool, in_thread) for _ in range(WORKERS)]
            await asyncio.gather(*threads, *(in_task() for _ in range(WORKERS)))

    def _kind(self) -> str:
        self._calls += 1
        return self._random.choice(KINDS)

    async def _state(self) -> State:
        """Let what was cut short come to its end, and count what there is."""
        await asyncio.sleep(0.5)
        gc.collect()
        traced = tracemalloc.get_traced_memory()[0] / 1024
        tasks = len(asyncio.all_tasks())
        return State(self._calls, resident(), traced, threading.active_count(), files(), tasks)


def soak(seconds: float, tell: Callable[[State], None] = lambda _state: None) -> list[State]:
    """Run for so many seconds, and return the states on the way."""
    # What collects log records, such as a test runner, would grow.
    logging.disable(logging.CRITICAL)
    tracemalloc.start()
    try:
        return asyncio.run(Soak(seconds, tell).run())
    finally:
        tracemalloc.stop()
        logging.disable(logging.NOTSET)


def grown(states: list[State]) -> list[str]:
    """Return a sentence for everything that has grown since the warm-up, which is the first third."""
    middle, last = states[len(states) // 3], states[-1]
    problems = []
    if last.traced > middle.traced * 1.05 + 200:
        problems.append(f"Python's memory grew from {middle.traced:.0f} to {last.traced:.0f} kB")
    if last.megabytes > middle.megabytes * 1.1 + 5:
        problems.append(f"memory grew from {middle.megabytes:.0f} to {last.megabytes:.0f} MB")
    for name in ("threads", "files", "tasks"):
        before, after = getattr(middle, name), getattr(last, name)
        # grpc starts and ends a thread or two of its own as it likes.
        if after > before + (2 if name == "threads" else 0):
            problems.append(f"{name} grew from {before} to {after}")
    return problems


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    states = soak(seconds, lambda state: print(state._asdict(), file=sys.stderr, flush=True))
    problems = grown(states)
    print(json.dumps({"seconds": seconds, "states": [state._asdict() for state in states], "grown": problems}))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()

"""A client under load, in a process of its own: so many calls at a time, over so many methods and breaker keys.

It reads lines of JSON (`Load`), and answers each with one (`Answer`).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import threading
import time
from typing import Any, NamedTuple, Self

import grpc
from prometheus_client import CollectorRegistry

import grpc_faultwire.aio
import grpc_faultwire.sync
from benchmarks.service import NAME
from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.observers import PrometheusObserver
from grpc_faultwire.state import PolicyState


class Load(NamedTuple):
    """What to do.

    Attributes:
        calls: how many.
        concurrent: how many at a time.
        methods: how many different ones, in turn.
        keys: breaker keys, in turn.
    """

    calls: int = 2000
    concurrent: int = 1
    methods: int = 1
    keys: int = 1


class Answer(NamedTuple):
    """What it took.

    Attributes:
        cpu: microseconds of this process for a call.
        rate: calls in a second.
        p50: microseconds of the median call.
        p99: microseconds that one call in a hundred exceeds.
    """

    cpu: float
    rate: float
    p50: float
    p99: float


class Loader:
    """The process, from outside.

    Args:
        world: "sync" or "aio".
        stack: "bare" or "ours".
        address: of a server with 1,000 methods.
    """

    def __init__(self, world: str, stack: str, address: str) -> None:
        self._command = [sys.executable, "-m", "benchmarks.load", world, stack, address]
        self._process: Any = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        return self

    def __exit__(self, *details: object) -> None:
        self._process.stdin.close()
        self._process.wait()

    def run(self, load: Load) -> Answer:
        print(json.dumps(load), file=self._process.stdin, flush=True)
        told = self._process.stdout.readline()
        if not told:
            raise RuntimeError(f"{' '.join(self._command[2:])} has ended")
        return Answer(*json.loads(told))


# In the other process.

Sample = list[float]


def wrapped(world: str, stack: str, channel: Any, keys: int) -> Any:
    if stack == "bare":
        return channel
    turn = itertools.count()
    policy = ClientPolicy(breaker_key=lambda _call: next(turn) % keys) if keys > 1 else ClientPolicy()
    wrap = (grpc_faultwire.sync if world == "sync" else grpc_faultwire.aio).wrap_channel

    observer = PrometheusObserver(CollectorRegistry(), max_methods=2000)
    return wrap(channel, policy, observers=[observer], state=PolicyState(breakers=max(keys, 1024)))


def answered(load: Load, took: Sample, cpu: float, wall: float) -> Answer:
    took.sort()
    p50, p99 = (took[int(len(took) * share)] * 1e6 for share in (0.5, 0.99))
    return Answer(cpu / load.calls * 1e6, load.calls / wall, p50, p99)


def run_sync(channel: grpc.Channel, load: Load) -> Answer:
    methods = [channel.unary_unary(f"/{NAME}/M{number}") for number in range(load.methods)]
    free, took = threading.Semaphore(load.concurrent), Sample()

    def begin(number: int) -> None:
        started = time.perf_counter()

        def ended(_call: Any) -> None:
            took.append(time.perf_counter() - started)
            free.release()

        methods[number % load.methods].future(b"x").add_done_callback(ended)

    cpu, wall = time.process_time(), time.perf_counter()
    for number in range(load.calls):
        free.acquire()
        begin(number)
    for _ in range(load.concurrent):
        free.acquire()
    return answered(load, took, time.process_time() - cpu, time.perf_counter() - wall)


async def run_aio(channel: Any, load: Load) -> Answer:
    methods = [channel.unary_unary(f"/{NAME}/M{number}") for number in range(load.methods)]
    numbers, took = iter(range(load.calls)), Sample()

    async def work() -> None:
        for number in numbers:
            started = time.perf_counter()
            await methods[number % load.methods](b"x")
            took.append(time.perf_counter() - started)

    cpu, wall = time.process_time(), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(load.concurrent):
            group.create_task(work())
    return answered(load, took, time.process_time() - cpu, time.perf_counter() - wall)


def obey_sync(stack: str, address: str) -> None:
    channels: dict[int, Any] = {}
    for line in sys.stdin:
        load = Load(*json.loads(line))
        if load.keys not in channels:
            channels[load.keys] = wrapped("sync", stack, grpc.insecure_channel(address), load.keys)
        print(json.dumps(run_sync(channels[load.keys], load)), flush=True)


async def obey_aio(stack: str, address: str) -> None:
    loop, channels = asyncio.get_running_loop(), {}
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        load = Load(*json.loads(line))
        if load.keys not in channels:
            channels[load.keys] = wrapped("aio", stack, grpc.aio.insecure_channel(address), load.keys)
        print(json.dumps(await run_aio(channels[load.keys], load)), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "sync":
        obey_sync(sys.argv[2], sys.argv[3])
    else:
        asyncio.run(obey_aio(sys.argv[2], sys.argv[3]))

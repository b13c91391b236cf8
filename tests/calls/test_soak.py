"""Thousands of random exits, under concurrency and cancellation, in every world: `make soak`."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from test_exits import steps_of
from worlds import SHAPES, World

from faultwire.testing.v1 import scripted_pb2 as pb

Code = grpc.StatusCode
CALLS = 10_000 // 3 + 1
WORKERS = 4  # fewer than the event loop has threads of its own
ACTIONS = ("wait", "wait", "wait", "cancel", "deadline", "drop")


class Soak:
    """One world's share of the calls; `problems` says what went wrong."""

    def __init__(self, world: World, stub: Any, expected: dict[str, dict[str, Code]]) -> None:
        self.world = world
        self.stub = stub
        self.expected = expected
        self.problems: list[str] = []

    def run(self, seed: int) -> None:
        draw = random.Random(seed)
        shape = draw.choice(SHAPES)
        step = draw.choice(sorted(self.expected[shape]))
        action = draw.choice(ACTIONS)
        request = pb.Request(step=step, count=draw.choice((0, 1, 5)), payload=b"x" * draw.choice((0, 5000)))
        timeout = draw.uniform(0.0005, 0.01) if action == "deadline" else 20
        try:
            code = self.call(shape, request, action, timeout, draw)
        except Exception as problem:
            self.problems.append(f"{shape} {step} {action}: {problem!r}")
            return
        allowed = {self.expected[shape][step]}
        allowed |= {"cancel": {Code.CANCELLED}, "drop": {Code.CANCELLED}, "deadline": {Code.DEADLINE_EXCEEDED}}.get(
            action, set()
        )
        if code not in allowed:
            self.problems.append(f"{shape} {step} {action}: {code}")

    def call(self, shape: str, request: pb.Request, action: str, timeout: float, draw: random.Random) -> Code:
        method = getattr(self.stub, shape)
        argument = iter([request]) if shape.startswith("Stream") else request
        streaming = shape.endswith("Stream")
        running = method(argument, timeout=timeout) if streaming else method.future(argument, timeout=timeout)
        if action == "cancel":
            time.sleep(draw.uniform(0, 0.003))
            running.cancel()
        try:
            if streaming and action == "drop":
                next(running, None)
                running.cancel()
            elif streaming:
                for _ in running:
                    pass
            else:
                running.result()
        except (grpc.RpcError, grpc.FutureCancelledError):
            pass
        return running.code()


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_random_exits(world: World) -> None:
    """Every call has its status, every call is recorded once, and no thread, task or pool slot is left behind."""
    steps = {shape: steps_of(world, shape) for shape in SHAPES}
    everything = {name: step for shape in SHAPES for name, (step, _) in steps[shape].items()}
    gate = threading.Barrier(WORKERS, timeout=20)
    everything["gate"] = (lambda _: asyncio.sleep(0)) if world.name == "aio" else (lambda _: gate.wait() and None)
    stub = world.stub(everything, max_workers=WORKERS)
    expected = {shape: {name: code for name, (_, code) in steps[shape].items()} for shape in SHAPES}
    soak = Soak(world, stub, expected)
    threads = threading.active_count()
    seed = random.randrange(10**9)
    with ThreadPoolExecutor(16) as callers:
        list(callers.map(soak.run, range(seed, seed + CALLS)))
    assert not soak.problems, f"{len(soak.problems)} with seed {seed}: {soak.problems[:20]}"
    check_recorded(world)
    # Every slot of the server's pool can still be had at once.
    for running in [stub.UnaryUnary.future(pb.Request(step="gate"), timeout=20) for _ in range(WORKERS)]:
        running.result()
    gc.collect()
    assert threading.active_count() <= threads + WORKERS + 3


def check_recorded(world: World) -> None:
    deadline = time.monotonic() + 20
    while len(world.recorder.ends) < world.recorder.started and time.monotonic() < deadline:
        world.recorder.wait(world.recorder.started, timeout=0.1)
    assert len(world.recorder.ends) == world.recorder.started
    assert world.recorder.started >= CALLS // 2  # some were cancelled before they arrived

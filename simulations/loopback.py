"""The main case once more, small, and with real gRPC processes on loopback: a server that can do so much, and callers.

The server is as in the simulation: it does its work in the order in which it came, for callers that have long gone too.
For three seconds it can do a tenth of its work. Callers that retry without limit keep it busy with attempts whose
callers have given up, and it never recovers; with a budget and a breaker it does.
"""

from __future__ import annotations

import asyncio
import collections
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import grpc
import grpc.aio

from grpc_faultwire.aio import wrap_channel
from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.policies import BreakerPolicy, RetryPolicy

from .client import Tally

METHOD = "/loopback.Loopback/Work"
CAPACITY = 50.0  # calls that the server can do in a second
RATE = 40  # calls that begin in a second, whatever becomes of the others
CLIENTS = 2  # channels, each with policies of its own
TIMEOUT = 0.3  # of an attempt, in seconds
TRIGGER = (4, 7)  # the seconds in which the server does a tenth
SECONDS = 17
RECOVERED_BY = 8  # seconds after the trigger


def naive() -> ClientPolicy:
    """Four attempts, as service configs usually say; times are a fifth of the simulation's."""
    retry = RetryPolicy(max_attempts=4, initial_backoff=0.02, max_backoff=0.2)
    return ClientPolicy(idempotent=True, attempt_timeout=TIMEOUT, retry=retry, budget=None, breaker=None)


def faultwire() -> ClientPolicy:
    """The suite's defaults; the breaker's times are a fifth of theirs."""
    breaker = BreakerPolicy(window=2.0, longest_window=12.0, open_duration=0.4, max_open_duration=6.0)
    return ClientPolicy(idempotent=True, attempt_timeout=TIMEOUT, breaker=breaker)


STACKS: dict[str, Callable[[], ClientPolicy]] = {"naive, 4 attempts": naive, "faultwire: budget + breaker": faultwire}


class Result(NamedTuple):
    """What one stack came to.

    Attributes:
        name: of the stack.
        before: share of the calls that succeeded before the trigger.
        after: share of the calls that succeeded once it was over.
        load: attempts for each call once it was over.
        recovery: seconds from its end until calls succeed again; infinite: they never did.
    """

    name: str
    before: float
    after: float
    load: float
    recovery: float


class Server(grpc.GenericRpcHandler):
    """Does one thing after the other."""

    def __init__(self) -> None:
        self.began = float("inf")
        self._queue: collections.deque[asyncio.Future[None]] = collections.deque()
        self._handler = grpc.unary_unary_rpc_method_handler(self._work)

    def service(self, handler_call_details: Any) -> Any:  # noqa: ARG002  # grpc's signature
        return self._handler

    async def _work(self, request: bytes, context: Any) -> bytes:  # noqa: ARG002  # as above
        done = asyncio.get_running_loop().create_future()
        self._queue.append(done)
        # Work that nobody waits for any more is done all the same.
        await asyncio.shield(done)
        return request

    async def work(self) -> None:
        """Do what is queued, as fast as may be at this time."""
        credit, last = 0.0, time.monotonic()
        while True:
            await asyncio.sleep(0.005)
            now = time.monotonic()
            slow = TRIGGER[0] <= now - self.began < TRIGGER[1]
            credit = min(credit + (now - last) * CAPACITY * (0.1 if slow else 1.0), CAPACITY / 10)
            last = now
            while credit >= 1 and self._queue:
                credit -= 1
                self._queue.popleft().set_result(None)


def serve(pipe: Connection) -> None:
    """A server process: tells its address, is told when all begins, and ends when it is told anything."""

    async def main() -> None:
        server, working = grpc.aio.server(), Server()
        server.add_generic_rpc_handlers((working,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        pipe.send(f"127.0.0.1:{port}")
        work = asyncio.create_task(working.work())
        working.began = await asyncio.to_thread(pipe.recv)
        await asyncio.to_thread(pipe.recv)
        work.cancel()
        await server.stop(None)

    asyncio.run(main())


class Counts:
    """An observer that counts attempts."""

    def __init__(self, tally: Tally) -> None:
        self.began = float("inf")
        self._tally = tally

    def on_attempt_start(self, token: Any, attempt: Any) -> None:  # noqa: ARG002  # the protocol's signature
        self._tally.sent[_second(self.began, self._tally)] += 1


def call(name: str, address: str, pipe: Connection) -> None:
    """A process that calls: as many calls begin in each second, however the others are going."""

    async def main() -> None:
        tally = Tally(SECONDS)
        counts = Counts(tally)
        channels = [
            wrap_channel(grpc.aio.insecure_channel(address), STACKS[name](), observers=[counts]) for _ in range(CLIENTS)
        ]
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        pipe.send("ready")
        counts.began = began = pipe.recv()
        tasks: set[asyncio.Task[None]] = set()
        await asyncio.sleep(max(0.0, began - time.monotonic()))
        for number in range(SECONDS * RATE):
            await asyncio.sleep(max(0.0, began + number / RATE - time.monotonic()))
            task = asyncio.create_task(_one(channels[number % CLIENTS], began, tally))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
        for channel in channels:
            await channel.close()
        pipe.send(tally)

    asyncio.run(main())


async def _one(channel: grpc.aio.Channel, began: float, tally: Tally) -> None:
    second = _second(began, tally)
    tally.begun[second] += 1
    try:
        await channel.unary_unary(METHOD)(b"work")
    except grpc.RpcError:
        return
    tally.succeeded[second] += 1


def _second(began: float, tally: Tally) -> int:
    return min(int(time.monotonic() - began), len(tally.sent) - 1)


def run(name: str) -> Result:
    """Run one stack against a server of its own."""
    # Processes that fork would share gRPC's threads, of which only the parent's live.
    processes = multiprocessing.get_context("spawn")
    ours, theirs = processes.Pipe()
    server = processes.Process(target=serve, args=(theirs,))
    server.start()
    result, of_caller = processes.Pipe()
    caller = processes.Process(target=call, args=(name, ours.recv(), of_caller))
    caller.start()
    result.recv()
    began = time.monotonic() + 0.2  # the clock is the machine's, so all processes agree
    for pipe in (ours, result):
        pipe.send(began)
    tally: Tally = result.recv()
    caller.join()
    ours.send("stop")
    server.join()
    end = TRIGGER[1]
    recovery = tally.recovery(end, steady=3)
    return Result(name, tally.success(1, TRIGGER[0]), tally.success(end, SECONDS), tally.load(end, SECONDS), recovery)


def simulate() -> list[Result]:
    """Run all stacks, one after the other."""
    return [run(name) for name in STACKS]


def verdicts(results: list[Result]) -> list[tuple[str, bool]]:
    """What is demanded, and whether it was kept."""
    control, ours = results
    return [
        ("both do well before the trigger", min(control.before, ours.before) >= 0.9),
        ("the naive control never recovers", control.recovery == float("inf")),
        (f"faultwire recovers within {RECOVERED_BY} s", ours.recovery <= RECOVERED_BY),
        ("faultwire sends at most 1.15 attempts for a call", ours.load <= 1.15),
    ]


def main() -> int:
    """Run, report, and return 1 if something was missed."""
    results = simulate()
    print(f"{'':30}{'before':>8}{'after':>8}{'load':>8}{'recovery':>10}")
    for one in results:
        recovery = "never" if one.recovery == float("inf") else f"{one.recovery:.0f} s"
        print(f"{one.name:30}{one.before:8.1%}{one.after:8.1%}{one.load:8.2f}{recovery:>10}")
    for sentence, kept in verdicts(results):
        print(f"{'kept  ' if kept else 'MISSED'} {sentence}")
    return 0 if all(kept for _, kept in verdicts(results)) else 1

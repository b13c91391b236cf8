"""A batch with 2 % to be sent again: a BatchCaller against a loop written by hand, on the same service.

The service is in a process of its own, so that the CPU time is the caller's. Requests have 1,000 items of 100 bytes.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio

from benchmarks.harness import interleave, table
from faultwire.testing.v1 import batches_pb2 as pb
from faultwire.testing.v1 import batches_pb2_grpc
from grpc_faultwire import Unavailable
from grpc_faultwire.batch import BatchPolicy, aio, collects_errors, sync
from grpc_faultwire.policies import RetryPolicy
from grpc_faultwire.sync import ServerInterceptor

SIZE = 1000
ITEMS = 20_000
POLICY = BatchPolicy(max_items=SIZE, retry=RetryPolicy(initial_backoff=0.001))
ONE_BY_ONE = BatchPolicy(max_items=SIZE, concurrency=1, retry=RetryPolicy(initial_backoff=0.001))


class Batches(batches_pb2_grpc.BatchesServicer):
    """Every flaky item fails when it is seen for the first time."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    @collects_errors("items")
    def Put(self, request: pb.PutRequest, _context: Any, errors: Any) -> pb.PutResponse:
        for index, item in enumerate(request.items):
            if item.fate and item.key not in self._seen:
                self._seen.add(item.key)
                errors.add(index, Unavailable("later", retry_delay=0.001))
        return pb.PutResponse()


def serve() -> None:
    """Serve until standard input closes; print the address."""
    server = grpc.server(futures.ThreadPoolExecutor(4), interceptors=[ServerInterceptor(observers=[])])
    batches_pb2_grpc.add_BatchesServicer_to_server(Batches(), server)
    print(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}", flush=True)
    server.start()
    sys.stdin.read()


@contextmanager
def service() -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.batches"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as process:
        yield process.stdout.readline().strip()
        process.stdin.close()


def by_hand(stub: Any, items: list[Any]) -> None:
    """Send what a person writes first: one request after the other, each until nothing of it fails."""
    for start in range(0, len(items), SIZE):
        chunk = items[start : start + SIZE]
        while chunk:
            response = stub.Put(pb.PutRequest(items=chunk))
            chunk = [chunk[index] for index in response.failed_items]


def request(items: list[Any]) -> pb.PutRequest:
    return pb.PutRequest(items=items)


def timed(send: Callable[[list[Any]], Any], runs: Iterator[int], rates: list[float]) -> Callable[[int], float]:
    """Return a case, which keeps its items a second on the side."""

    def case(number: int) -> float:
        run = next(runs)
        items = [
            pb.Item(key=f"{run}.{index}", fate="" if index % 50 else "flaky", payload=b"x" * 100)
            for index in range(number)
        ]
        cpu, wall = time.process_time(), time.perf_counter()
        send(items)
        rates.append(number / (time.perf_counter() - wall))
        return time.process_time() - cpu

    return case


def run(rounds: int) -> str:
    with service() as address, grpc.insecure_channel(address) as channel, asyncio.Runner() as runner:
        stub = batches_pb2_grpc.BatchesStub(channel)

        async def there(items: list[Any]) -> None:
            async with grpc.aio.insecure_channel(address) as aio_channel:
                method = batches_pb2_grpc.BatchesStub(aio_channel).Put
                assert (await aio.BatchCaller(method, request, POLICY).send(items)).ok

        def here(policy: BatchPolicy) -> Callable[[list[Any]], None]:
            def send(items: list[Any]) -> None:
                assert sync.BatchCaller(stub.Put, request, policy).send(items).ok

            return send

        senders = {
            "a loop by hand, one call at a time": lambda items: by_hand(stub, items),
            "BatchCaller, one call at a time": here(ONE_BY_ONE),
            "BatchCaller, four at a time": here(POLICY),
            "aio BatchCaller, four at a time": lambda items: runner.run(there(items)),
        }
        runs, rates = itertools.count(), {name: [] for name in senders}
        cases = {name: timed(send, runs, rates[name]) for name, send in senders.items()}
        figures = interleave(cases, rounds=rounds, number=ITEMS)
    lines = [table(f"One item of {ITEMS:,}, caller's side", figures, next(iter(figures)))]
    lines += [f"* {name}: {statistics.median(found):,.0f} items a second" for name, found in rates.items()]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    serve()

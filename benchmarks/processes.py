"""Servers and clients in processes of their own: what is measured is the CPU time of one process and its one stack.

A server prints its port. A client is told a case and a number of calls, line by line, and prints the CPU seconds taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import AbstractContextManager
from typing import Any, Self

import grpc

from benchmarks import service


@contextlib.contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run this module in a process of its own, until it is left; it ends when its standard input closes."""
    command = [sys.executable, "-m", "benchmarks.processes", *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as started:
        try:
            yield started
        finally:
            started.stdin.close()


class Server:
    """A server in a process of its own.

    Args:
        world: "sync" or "aio".
        stack: name of a server stack, or "rich": none, but its errors have the details that ours have.
        methods: further methods.
    """

    def __init__(self, world: str, stack: str = "bare", methods: int = 0) -> None:
        self._process = process("server", world, stack, str(methods))

    def __enter__(self) -> str:
        running = self._process.__enter__()
        return f"127.0.0.1:{running.stdout.readline().strip()}"

    def __exit__(self, *details: object) -> None:
        self._process.__exit__(*details)


class Client:
    """A client in a process of its own.

    Args:
        world: "sync" or "aio".
        stack: name of a client stack.
        address: of the server.
    """

    def __init__(self, world: str, stack: str, address: str) -> None:
        self._name = f"the {world} client with {stack!r}"
        self._process: AbstractContextManager[Any] = process("client", world, stack, address)
        self._running: Any = None

    def __enter__(self) -> Self:
        self._running = self._process.__enter__()
        return self

    def __exit__(self, *details: object) -> None:
        self._process.__exit__(*details)

    def run(self, case: str, number: int) -> float:
        """Make so many calls; return the CPU seconds that they took."""
        print(case, number, sep="|", file=self._running.stdin, flush=True)
        told = self._running.stdout.readline()
        if not told:
            raise RuntimeError(f"{self._name} has ended in {case!r}")
        return float(told)


# In the other process.


def serve(world: str, stack: str, methods: int) -> None:
    from benchmarks.server_stacks import STACKS, ServerStack  # noqa: PLC0415  # a client does without

    chosen = ServerStack(lambda _world: [], service.rejecting()) if stack == "rich" else STACKS[stack]
    handler = service.handler(world, chosen.fail, methods)
    if world == "aio":
        asyncio.run(serve_aio(handler, chosen.interceptors("aio")))
        return
    server = grpc.server(futures.ThreadPoolExecutor(16), interceptors=chosen.interceptors("sync"))
    server.add_generic_rpc_handlers([handler])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(None)


async def serve_aio(handler: grpc.GenericRpcHandler, interceptors: list[Any]) -> None:
    server = grpc.aio.server(interceptors=interceptors)
    server.add_generic_rpc_handlers([handler])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(None)


def obey(run: Callable[[str, int], None]) -> None:
    """Do what standard input says, until it closes."""
    for line in sys.stdin:
        case, number = line.strip().split("|")
        started = time.process_time()
        run(case, int(number))
        print(time.process_time() - started, flush=True)


def call(world: str, stack: str, address: str) -> None:
    from benchmarks.client_cases import runner  # noqa: PLC0415  # a server does without

    obey(runner(world, stack, address))


if __name__ == "__main__":
    if sys.argv[1] == "server":
        serve(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        call(*sys.argv[2:])

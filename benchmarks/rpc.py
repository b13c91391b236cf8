"""One unary RPC, in CPU time of the process that is instrumented; server and caller are processes of their own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import grpc

import grpc_faultwire.aio
import grpc_faultwire.sync
from benchmarks.harness import Figure, interleave, table
from grpc_faultwire import NotFound

OK, RAISE, CPU = "/bench.Bench/Ok", "/bench.Bench/Raise", "/bench.Bench/Cpu"


def fail(_request: bytes, _context: Any) -> bytes:
    raise NotFound("It is missing.", reason="MISSING", domain="bench.example.com")


def abort(_request: bytes, context: Any) -> bytes:
    return context.abort(grpc.StatusCode.NOT_FOUND, "It is missing.")


async def aio_abort(_request: bytes, context: Any) -> bytes:
    return await context.abort(grpc.StatusCode.NOT_FOUND, "It is missing.")


def asynchronous(function: Callable[..., Any]) -> Callable[..., Any]:
    async def behavior(request: bytes, context: Any) -> bytes:
        return function(request, context)

    return behavior


def handler(world: str, ours: bool) -> grpc.GenericRpcHandler:
    behaviors = {
        "Ok": lambda request, _: request,
        "Cpu": lambda *_: str(time.process_time()).encode(),
        "Raise": fail,
    }
    if world == "aio":
        behaviors = {name: asynchronous(behavior) for name, behavior in behaviors.items()}
    if not ours:
        behaviors["Raise"] = abort if world == "sync" else aio_abort
    methods = {name: grpc.unary_unary_rpc_method_handler(behavior) for name, behavior in behaviors.items()}
    return grpc.method_handlers_generic_handler("bench.Bench", methods)


def serve(world: str, ours: bool) -> None:
    """Serve until standard input closes; print the port."""
    if world == "sync":
        interceptors = [grpc_faultwire.sync.ServerInterceptor()] if ours else []
        server = grpc.server(futures.ThreadPoolExecutor(4), interceptors=interceptors)
        server.add_generic_rpc_handlers([handler(world, ours)])
        print(server.add_insecure_port("127.0.0.1:0"), flush=True)
        server.start()
        sys.stdin.read()
    else:
        asyncio.run(serve_aio(ours))


async def serve_aio(ours: bool) -> None:
    server = grpc.aio.server(interceptors=[grpc_faultwire.aio.ServerInterceptor()] if ours else [])
    server.add_generic_rpc_handlers([handler("aio", ours)])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(None)


@contextmanager
def server(world: str, ours: bool) -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.rpc", world, str(int(ours))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        yield f"127.0.0.1:{process.stdout.readline().strip()}"
        assert process.stdin is not None
        process.stdin.close()


def server_case(channel: grpc.Channel, path: str) -> Callable[[int], float]:
    method, cpu = channel.unary_unary(path), channel.unary_unary(CPU)

    def case(number: int) -> float:
        started = float(cpu(b""))
        for _ in range(number):
            with suppress(grpc.RpcError):
                method(b"x")
        return float(cpu(b"")) - started

    return case


def caller_case(channel: grpc.Channel, path: str) -> Callable[[int], float]:
    method = channel.unary_unary(path)

    def case(number: int) -> float:
        started = time.process_time()
        for _ in range(number):
            try:
                method(b"x")
            except grpc.RpcError as error:
                error.code()
        return time.process_time() - started

    return case


def aio_caller_case(loop: asyncio.AbstractEventLoop, channel: Any, path: str) -> Callable[[int], float]:
    method = channel.unary_unary(path)

    async def run(number: int) -> float:
        started = time.process_time()
        for _ in range(number):
            try:
                await method(b"x")
            except grpc.RpcError as error:
                error.code()
        return time.process_time() - started

    return lambda number: loop.run_until_complete(run(number))


class Watcher:
    """An observer that does nothing, so that observing itself is measured."""

    def on_start(self, _call: Any) -> None:
        return None

    def on_end(self, _token: Any, _outcome: Any) -> None:
        return None


def run(rounds: int) -> str:
    with ExitStack() as stack:
        addresses = {
            (world, ours): stack.enter_context(server(world, ours))
            for world in ("sync", "aio")
            for ours in (False, True)
        }
        tables = [
            table(f"{world} server: {name}", measure_server(stack, addresses, world, path, rounds), "bare")
            for world in ("sync", "aio")
            for name, path in (("OK", OK), ("NOT_FOUND (bare: abort; ours: rich)", RAISE))
        ]
        tables += [
            table(f"{world} caller: {name}", measure(stack, addresses["sync", True], path, rounds), "bare")
            for world, measure in (("sync", measure_sync_caller), ("aio", measure_aio_caller))
            for name, path in (("OK", OK), ("a rich NOT_FOUND", RAISE))
        ]
    return "\n".join(tables)


def measure_server(
    stack: ExitStack, addresses: dict[tuple[str, bool], str], world: str, path: str, rounds: int
) -> dict[str, Figure]:
    cases = {
        name: server_case(stack.enter_context(grpc.insecure_channel(addresses[world, ours])), path)
        for name, ours in (("bare", False), ("ours", True))
    }
    return interleave(cases, rounds=rounds, number=200)


def measure_sync_caller(stack: ExitStack, address: str, path: str, rounds: int) -> dict[str, Figure]:
    bare = stack.enter_context(grpc.insecure_channel(address))
    wrapped = grpc_faultwire.sync.wrap_channel(grpc.insecure_channel(address), observers=[Watcher()])
    official = grpc.intercept_channel(
        grpc.insecure_channel(address), *grpc_faultwire.sync.client_interceptors(observers=[Watcher()])
    )
    channels = {"bare": bare, "wrapped, observed": wrapped, "official interceptors, observed": official}
    return interleave({name: caller_case(one, path) for name, one in channels.items()}, rounds=rounds, number=200)


def measure_aio_caller(stack: ExitStack, address: str, path: str, rounds: int) -> dict[str, Figure]:
    loop = asyncio.new_event_loop()
    stack.callback(loop.close)

    async def connect() -> dict[str, Any]:
        wrapped = grpc_faultwire.aio.wrap_channel(grpc.aio.insecure_channel(address), observers=[Watcher()])
        official = grpc.aio.insecure_channel(
            address, interceptors=grpc_faultwire.aio.client_interceptors(observers=[Watcher()])
        )
        bare = grpc.aio.insecure_channel(address)
        return {"bare": bare, "wrapped, observed": wrapped, "official interceptors, observed": official}

    async def close(channels: dict[str, Any]) -> None:
        for channel in channels.values():
            await channel.close()

    channels = loop.run_until_complete(connect())
    cases = {name: aio_caller_case(loop, channel, path) for name, channel in channels.items()}
    figures = interleave(cases, rounds=rounds, number=200)
    loop.run_until_complete(close(channels))
    return figures


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2] == "1")

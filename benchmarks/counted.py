"""What is counted: one RPC of each kind on each side of each world, and the parts that it is made of."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
from prometheus_client import CollectorRegistry

import grpc_faultwire.aio
import grpc_faultwire.sync
from benchmarks import service
from benchmarks.counting import CallCounter, Calls, held, peak
from benchmarks.micro import operations
from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.observers import PrometheusObserver
from grpc_faultwire.policies import BreakerPolicy
from grpc_faultwire.state import PolicyState

NUMBER = 20
"""Calls that are counted together."""
WARM_UP = 40
"""Calls before: more than fill a breaker's window of 20, and past the 32nd log line of one error."""
PASSES = 5
"""How often it is counted; the least counts, because a thread that was overtaken takes a longer way."""

Figures = dict[str, float]
Stacks = dict[str, tuple[ClientPolicy | None, list[Any]]]


class Watcher:
    """An observer that waits until calls have ended: a server's end may come after its caller's."""

    active_from = float("inf")
    """It never looks at a span."""

    def __init__(self) -> None:
        self._ended = threading.Semaphore(0)

    def on_start(self, _call: Any) -> None:
        return None

    def on_end(self, _token: Any, _outcome: Any) -> None:
        self._ended.release()

    def wait(self, number: int) -> None:
        """Wait for so many ends.

        Raises:
            TimeoutError: they did not come.
        """
        for _ in range(number):
            if not self._ended.acquire(timeout=10):
                raise TimeoutError("a call has not ended")


def stacks(watcher: Watcher) -> Stacks:
    """Return what is on a channel, or a server: policy and observers."""
    return {"observed": (None, [watcher]), "all on": (policy(), [PrometheusObserver(CollectorRegistry()), watcher])}


def stacks_with_spans(watcher: Watcher) -> Stacks:
    """Return the same with spans of our own."""
    # Imported last: without OpenTelemetry nobody asks it for the current span.
    from benchmarks.spans import provider  # noqa: PLC0415
    from grpc_faultwire.observers import OpenTelemetryObserver  # noqa: PLC0415

    observers = [PrometheusObserver(CollectorRegistry()), OpenTelemetryObserver(provider()), watcher]
    return {"all on, own span": (policy(), observers)}


def policy() -> ClientPolicy:
    """Return the policy of a channel with everything on."""
    return ClientPolicy(idempotent=True, breaker=BreakerPolicy(open_duration=3600, max_open_duration=3600))


class Callers:
    """The calls of one channel, made one after another; the same names in both worlds."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._methods = {path: channel.unary_unary(path) for path in (service.OK, service.RAISE, service.DOWN)}
        self._stream = channel.unary_stream(service.STREAM)

    def unary(self, path: str, number: int) -> None:
        method = self._methods[path]
        for _ in range(number):
            with contextlib.suppress(grpc.RpcError):
                method(b"x")

    def stream(self, messages: int) -> None:
        for _ in self._stream(str(messages).encode()):
            pass

    def close(self) -> None:
        self._channel.close()


class AioCallers(Callers):
    def __init__(self, channel: Any, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(channel)
        self._loop = loop

    def unary(self, path: str, number: int) -> None:
        async def run() -> None:
            method = self._methods[path]
            for _ in range(number):
                with contextlib.suppress(grpc.RpcError):
                    await method(b"x")

        self._loop.run_until_complete(run())

    def stream(self, messages: int) -> None:
        async def run() -> None:
            async for _ in self._stream(str(messages).encode()):
                pass

        self._loop.run_until_complete(run())

    def close(self) -> None:
        self._loop.run_until_complete(self._channel.close())


@contextlib.contextmanager
def sync_server(fail: service.Fail, *interceptors: Any) -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(2), interceptors=interceptors)
    server.add_generic_rpc_handlers([service.handler("sync", fail)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@contextlib.contextmanager
def aio_server(fail: service.Fail, *interceptors: Any) -> Iterator[str]:
    """Serve from an event loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> tuple[Any, int]:
        server = grpc.aio.server(interceptors=interceptors)
        server.add_generic_rpc_handlers([service.handler("aio", fail)])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, port

    server, port = asyncio.run_coroutine_threadsafe(start(), loop).result()
    yield f"127.0.0.1:{port}"
    asyncio.run_coroutine_threadsafe(server.stop(None), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def measured(counter: CallCounter, callers: Callers, watcher: Watcher, name: str, *, client: bool) -> Figures:
    """Count the calls of one channel or server."""
    figures: Figures = {}
    cases = {"OK": service.OK, "rich error": service.RAISE}
    if client and name.endswith("all on"):
        cases["open circuit"] = service.DOWN  # last: it stays open

    def calls(path: str, number: int) -> None:
        callers.unary(path, number)
        watcher.wait(number)

    for case, path in cases.items():
        # The circuit opens only once half of the calls in its window have failed, those of the other cases included.
        calls(path, 10 * WARM_UP if case == "open circuit" else WARM_UP)
        counted = least(counter, lambda path=path: calls(path, NUMBER))
        figures |= each(f"{name}, unary {case}", counted, NUMBER)
        if case == "OK":
            figures |= streamed(counter, callers, watcher, name)
    return figures


def streamed(counter: CallCounter, callers: Callers, watcher: Watcher, name: str) -> Figures:
    """Count what a stream takes for each of its messages."""

    def stream(messages: int) -> None:
        callers.stream(messages)
        watcher.wait(1)

    stream(NUMBER)
    few = least(counter, lambda: stream(NUMBER))
    many = least(counter, lambda: stream(5 * NUMBER))
    more = Calls(*(after - before for before, after in zip(few, many, strict=True)))
    return each(f"{name}, stream, a message", more, 4 * NUMBER)


def least(counter: CallCounter, work: Callable[[], object]) -> Calls:
    """Count a piece of work several times, and return the least of each kind."""
    return Calls(*map(min, zip(*(counter.count(work) for _ in range(PASSES)), strict=True)))


def each(name: str, counted: Calls, number: int) -> Figures:
    """Return the figures of one of so many calls or messages."""
    return {f"{name}: functions {kind}": round(value / number) for kind, value in counted._asdict().items()}


def client_figures(counter: CallCounter, stacks: Callable[[Watcher], Stacks] = stacks) -> Figures:
    figures: Figures = {}
    with sync_server(service.rejecting()) as address:
        for world in ("sync", "aio"):
            watcher = Watcher()
            for stack, (policy, observers) in stacks(watcher).items():
                with connected(world, address, policy, observers) as callers:
                    figures |= measured(counter, callers, watcher, f"{world} client, {stack}", client=True)
    return figures


@contextlib.contextmanager
def connected(world: str, address: str, policy: ClientPolicy | None, observers: list[Any]) -> Iterator[Callers]:
    """Wrap a channel of a world; without observers and policy it stays bare."""
    loop = asyncio.new_event_loop()
    given = {"observers": observers, "state": PolicyState() if policy else None}
    if world == "sync":
        callers = Callers(grpc_faultwire.sync.wrap_channel(grpc.insecure_channel(address), policy, **given))
    else:

        async def make() -> Any:
            return grpc_faultwire.aio.wrap_channel(grpc.aio.insecure_channel(address), policy, **given)

        callers = AioCallers(loop.run_until_complete(make()), loop)
    yield callers
    callers.close()
    loop.close()


def servers(stacks: Callable[[Watcher], Stacks] = stacks) -> Iterator[tuple[str, str, Watcher, Callers]]:
    """Serve with each stack in turn, and call it on a bare channel."""
    for world, serve in (("sync", sync_server), ("aio", aio_server)):
        module = grpc_faultwire.sync if world == "sync" else grpc_faultwire.aio
        watcher = Watcher()
        for stack, (_, observers) in stacks(watcher).items():
            interceptor = module.ServerInterceptor(observers=observers)
            with serve(service.raising, interceptor) as address, grpc.insecure_channel(address) as channel:
                yield world, stack, watcher, Callers(channel)


def server_figures(counter: CallCounter, stacks: Callable[[Watcher], Stacks] = stacks) -> Figures:
    figures: Figures = {}
    for world, stack, watcher, callers in servers(stacks):
        figures |= measured(counter, callers, watcher, f"{world} server, {stack}", client=False)
    return figures


def micro_figures(counter: CallCounter) -> Figures:
    """Count the parts of a call, and the memory that each takes while it runs."""
    figures: Figures = {}
    for name, operation in operations().items():
        for _ in range(WARM_UP):
            operation()
        counted = counter.count(lambda operation=operation: [operation() for _ in range(NUMBER)] and None)
        figures |= each(name, counted, NUMBER)
    for name, operation in operations().items():
        for _ in range(WARM_UP):
            operation()
        tracemalloc.start()
        operation()
        figures[f"{name}: peak bytes"] = min(peak(operation) for _ in range(5))
        tracemalloc.stop()
    return figures


def memory_figures() -> Figures:
    """Measure what calls leave behind."""
    figures: Figures = {}
    with sync_server(service.aborting) as address:
        for world in ("sync", "aio"):
            watcher = Watcher()
            for stack, (policy, observers) in stacks(watcher).items():
                with connected(world, address, policy, observers) as callers:
                    figures |= remembered(callers, watcher, f"{world} client, {stack}")
    for world, stack, watcher, callers in servers():
        figures |= remembered(callers, watcher, f"{world} server, {stack}")
    return figures


def remembered(callers: Callers, watcher: Watcher, name: str) -> Figures:
    def calls(number: int) -> None:
        callers.unary(service.OK, number)
        watcher.wait(number)
        gc.collect()

    calls(WARM_UP)
    tracemalloc.start()
    calls(WARM_UP)
    before = held()
    calls(10 * NUMBER)
    left = held() - before
    tracemalloc.stop()
    return {f"{name}, unary OK: bytes left by {10 * NUMBER} calls": max(0, left)}


def figures() -> Figures:
    """Count everything; it takes some seconds."""
    with CallCounter() as counter:
        found = micro_figures(counter) | client_figures(counter) | server_figures(counter)
    found |= memory_figures()
    with CallCounter() as counter:
        return found | client_figures(counter, stacks_with_spans) | server_figures(counter, stacks_with_spans)

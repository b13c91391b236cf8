"""One suite for both worlds: every test that takes `world` runs on a sync server, an aio server, and an aio server with
a sync servicer."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from faultwire.testing.v1 import scripted_pb2 as pb
from faultwire.testing.v1 import scripted_pb2_grpc
from grpc_faultwire.aio.server import ServerInterceptor as AioServerInterceptor
from grpc_faultwire.records import CallInfo, Outcome
from grpc_faultwire.sync.server import ServerInterceptor
from grpc_faultwire.testing import AioScriptedServicer, ScriptedServicer, serve

WORLDS = ("sync", "aio", "sync-on-aio")
SHAPES = ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream")


class Recorder:
    """Keeps how every call ended."""

    def __init__(self) -> None:
        self.started = 0
        self.ends: list[tuple[CallInfo, Outcome]] = []
        self.events: list[Any] = []
        self._changed = threading.Condition()

    def on_start(self, call: CallInfo) -> CallInfo:
        with self._changed:
            self.started += 1
        return call

    def on_event(self, token: CallInfo, event: Any) -> None:
        self.events.append(event)

    def on_end(self, call: CallInfo, outcome: Outcome) -> None:
        with self._changed:
            self.ends.append((call, outcome))
            self._changed.notify_all()

    def wait(self, count: int = 1, timeout: float = 5) -> list[Outcome]:
        """Return the outcomes once there are so many: a server may end a call after its caller has its answer."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.ends) >= count, timeout)
            return [outcome for _, outcome in self.ends]


class World:
    """Serves steps, or a servicer, behind our interceptor, in one of the worlds."""

    def __init__(self, name: str, stack: contextlib.ExitStack) -> None:
        self.name = name
        self.aio = name != "sync"
        self.recorder = Recorder()
        self.suffix = ""
        self._stack = stack

    def servicer(self, steps: dict[str, Callable[[Any], Any]]) -> Any:
        return (AioScriptedServicer if self.name == "aio" else ScriptedServicer)(steps)

    def interceptor(self, translator: Any = None, **settings: Any) -> Any:
        settings.setdefault("observers", [self.recorder])
        return (AioServerInterceptor if self.aio else ServerInterceptor)(translator, **settings)

    def serve(
        self, servicer: Any, *interceptors: Any, max_workers: int = 10, options: tuple[tuple[str, Any], ...] = ()
    ) -> str:
        """Serve until the test ends; return the address."""
        if isinstance(servicer, dict):
            servicer = self.servicer(servicer)
        servicers = servicer if isinstance(servicer, list) else [servicer]
        server = serve(servicers, interceptors or [self.interceptor()], max_workers=max_workers, options=options)
        if self.aio:
            self._stack.enter_context(in_loop(server))
        else:
            self._stack.enter_context(server)
        return server.address

    def channel(self, address: str, **options: Any) -> grpc.Channel:
        channel = grpc.insecure_channel(address, options=list(options.items()))
        self._stack.callback(channel.close)
        return channel

    def stub(self, servicer: Any, *interceptors: Any, **settings: Any) -> scripted_pb2_grpc.ScriptedStub:
        return scripted_pb2_grpc.ScriptedStub(self.channel(self.serve(servicer, *interceptors, **settings)))


@contextlib.contextmanager
def in_loop(server: serve) -> Iterator[asyncio.AbstractEventLoop]:
    """Run an aio server in an event loop of its own thread."""
    started = threading.Event()
    problems: list[BaseException] = []
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def main() -> None:
        stop = asyncio.Event()
        async with server:
            loops.append((asyncio.get_running_loop(), stop))
            started.set()
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as problem:
            problems.append(problem)
        finally:
            started.set()

    thread = threading.Thread(target=run, name="aio server")
    thread.start()
    started.wait()
    if problems:
        raise problems[0]
    loop, stop = loops[0]
    try:
        yield loop
    finally:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        assert not thread.is_alive(), "the aio server did not stop"
        if problems:
            raise problems[0]


def call(stub: Any, shape: str, step: str, *, count: int = 0, payload: bytes = b"", timeout: float = 5) -> list[Any]:
    """Call a method of any shape, and return all its responses."""
    request = pb.Request(step=step, count=count, payload=payload)
    method = getattr(stub, shape)
    answer = method(iter([request]) if shape.startswith("Stream") else request, timeout=timeout)
    return list(answer) if shape.endswith("Stream") else [answer]

"""For tests of services and callers: a server on loopback, a scripted servicer, a faulty link, a clock to be turned."""

from __future__ import annotations

import contextlib
import inspect
import socket
import struct
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from types import TracebackType
from typing import Any, Literal, Self

import grpc
import grpc.aio

from faultwire.testing.v1 import scripted_pb2 as pb
from faultwire.testing.v1 import scripted_pb2_grpc

GRACE = 5.0
"""Seconds that a server in a test is given to end what it is doing."""


class FakeClock:
    """A monotonic clock that stands still until it is told to move.

    Args:
        now: seconds that it shows at first.
    """

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return what it shows, in seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self.now += seconds


class serve:  # noqa: N801  # used as a verb: `with serve(...) as server`
    """Serve on a free port of loopback: ``with`` gives a grpc server, ``async with`` a grpc.aio server.

    Args:
        servicers: instances of generated servicer classes, or grpc.GenericRpcHandlers.
        interceptors: of the world that it is entered in.
        options: gRPC channel arguments of the server.
        max_workers: threads of a sync server, and of sync handlers on an aio server.

    Attributes:
        address: "127.0.0.1:port", once entered.
        server: the grpc server, once entered.
    """

    def __init__(
        self,
        servicers: Iterable[Any],
        interceptors: Sequence[Any] = (),
        *,
        options: Sequence[tuple[str, Any]] = (),
        max_workers: int = 10,
    ) -> None:
        self._servicers = list(servicers)
        self._interceptors = list(interceptors)
        self._options = [("grpc.so_reuseport", 0), *options]
        self._pool = futures.ThreadPoolExecutor(max_workers=max_workers)
        self.address = ""
        self.server: Any = None

    def __enter__(self) -> Self:
        self.server = grpc.server(self._pool, interceptors=self._interceptors, options=self._options)
        self._listen()
        self.server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.stop(None).wait(GRACE)
        self._pool.shutdown(wait=True)

    async def __aenter__(self) -> Self:
        self.server = grpc.aio.server(self._pool, interceptors=self._interceptors, options=self._options)
        self._listen()
        await self.server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.server.stop(None)
        self._pool.shutdown(wait=True)

    def _listen(self) -> None:
        for servicer in self._servicers:
            if isinstance(servicer, grpc.GenericRpcHandler):
                self.server.add_generic_rpc_handlers((servicer,))
            else:
                _adder(servicer)(servicer, self.server)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"


Fault = Literal["pass", "refuse", "cut"]
"""What a `FaultyLink` does with a connection: serve it; close it at once; close it when its first bytes come."""


class FaultyLink:
    """A link to a server with the faults of a network, which no servicer can make. Use it in ``with``.

    A channel that was made for its `address` talks to the server through it, in either world. The script tells what is
    done with the first connections, one after the other; later ones pass. A gRPC channel connects anew after a fault,
    with a backoff (the channel argument ``grpc.initial_reconnect_backoff_ms`` shortens it).

    Args:
        target: the server's "host:port".
        script: what to do with the first connections.

    Attributes:
        address: "127.0.0.1:port".
        delay: seconds that each piece of data waits, in both directions. 0.
        connections: how many were made so far.
    """

    def __init__(self, target: str, script: Iterable[Fault] = ()) -> None:
        self._target = target
        self._script = iter(script)
        self._flowing = threading.Event()
        self._flowing.set()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.delay = 0.0
        self.connections = 0

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A listener that another thread waits on is only woken by shutting it down.
        _reset(self._listener, linger=False)
        self.thaw()
        self.cut()
        for thread in self._threads:
            thread.join(GRACE)

    def cut(self) -> None:
        """Reset all connections, as a router does that forgets them."""
        with self._lock:
            ends, self._open = self._open, set()
        for end in ends:
            _reset(end)

    def freeze(self) -> None:
        """Let nothing through, and tell nobody, as a network does that loses packets; until `thaw`."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Let through what has been held since `freeze`."""
        self._flowing.set()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            fault = next(self._script, "pass")
            if fault == "refuse":
                _reset(near)
                continue
            host, _, port = self._target.rpartition(":")
            far = socket.create_connection((host, int(port)))
            with self._lock:
                self._open |= {near, far}
            self._start(self._pump, near, far, fault)
            self._start(self._pump, far, near, "pass")

    def _pump(self, source: socket.socket, sink: socket.socket, fault: Fault) -> None:
        with contextlib.suppress(OSError):
            while (data := source.recv(65536)) and fault != "cut":
                time.sleep(self.delay)
                self._flowing.wait()
                sink.sendall(data)
        for end in (source, sink):
            with self._lock:
                self._open.discard(end)
            _reset(end)

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, name="faulty link", daemon=True)
        self._threads.append(thread)
        thread.start()


def _reset(end: socket.socket, *, linger: bool = True) -> None:
    with contextlib.suppress(OSError):
        if linger:
            # Closing with a linger time of 0 sends RST, not FIN.
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.shutdown(socket.SHUT_RDWR)
    end.close()


def _adder(servicer: object) -> Callable[[Any, Any], None]:
    for cls in type(servicer).__mro__:
        adder = getattr(sys.modules[cls.__module__], f"add_{cls.__name__}_to_server", None)
        if adder is not None:
            return adder  # type: ignore[no-any-return]  # generated code has no annotations
    raise TypeError(f"{type(servicer).__name__} is no instance of a generated servicer class")


Step = Callable[[Any], Any]
"""What a scripted method does at its end: called with the context; what it returns is answered, if it is a Response. In
aio it may be a coroutine function."""


class ScriptedServicer(scripted_pb2_grpc.ScriptedServicer):
    """A service of the four shapes that does what its requests name, in plain functions and generators.

    The (first) request names a step. Before the step, a streaming method answers `count` numbered messages, with the
    request's payload.

    Args:
        steps: by name.
    """

    def __init__(self, steps: Mapping[str, Step]) -> None:
        self.steps = dict(steps)

    def UnaryUnary(self, request: pb.Request, context: Any) -> Any:  # noqa: N802, D102  # the proto's names
        return _answer(self.steps[request.step](context))

    def UnaryStream(self, request: pb.Request, context: Any) -> Iterator[pb.Response]:  # noqa: N802, D102
        yield from _numbered(request)
        self.steps[request.step](context)

    def StreamUnary(self, request_iterator: Iterator[pb.Request], context: Any) -> Any:  # noqa: N802, D102
        requests = list(request_iterator)
        return _answer(self.steps[requests[0].step](context))

    def StreamStream(self, request_iterator: Iterator[pb.Request], context: Any) -> Iterator[pb.Response]:  # noqa: N802, D102
        request = next(request_iterator)
        yield from _numbered(request)
        for following in request_iterator:
            yield pb.Response(payload=following.payload)
        self.steps[request.step](context)


class AioScriptedServicer(scripted_pb2_grpc.ScriptedServicer):
    """The same in coroutine functions and async generators.

    Args:
        steps: by name; plain or coroutine functions.
    """

    def __init__(self, steps: Mapping[str, Step]) -> None:
        self.steps = dict(steps)

    async def _run(self, name: str, context: Any) -> Any:
        result = self.steps[name](context)
        return await result if inspect.isawaitable(result) else result

    async def UnaryUnary(self, request: pb.Request, context: Any) -> Any:  # noqa: N802, D102
        return _answer(await self._run(request.step, context))

    async def UnaryStream(self, request: pb.Request, context: Any) -> AsyncIterator[pb.Response]:  # noqa: N802, D102
        for response in _numbered(request):
            yield response
        await self._run(request.step, context)

    async def StreamUnary(self, request_iterator: AsyncIterator[pb.Request], context: Any) -> Any:  # noqa: N802, D102
        requests = [request async for request in request_iterator]
        return _answer(await self._run(requests[0].step, context))

    async def StreamStream(  # noqa: N802, D102
        self, request_iterator: AsyncIterator[pb.Request], context: Any
    ) -> AsyncIterator[pb.Response]:
        request = await anext(request_iterator)
        for response in _numbered(request):
            yield response
        async for following in request_iterator:
            yield pb.Response(payload=following.payload)
        await self._run(request.step, context)


def _numbered(request: pb.Request) -> Iterator[pb.Response]:
    return (pb.Response(payload=request.payload, number=number) for number in range(1, request.count + 1))


def _answer(result: Any) -> Any:
    return result if isinstance(result, pb.Response) or result is NO_RESPONSE else pb.Response()


NO_RESPONSE = object()
"""A step that returns this makes its method answer with something that no serializer takes."""

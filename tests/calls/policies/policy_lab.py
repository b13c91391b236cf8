"""A flaky server, and one way to call it from both worlds: every test of policies is written once.

A call names its acts: what the server does with the first attempt, the second, and so on; the last act is repeated.

    caller.connect(ClientPolicy())
    got = caller.unary(fail(), fail(), ok(b"3"))
    assert got.value == b"3" and len(got.seen) == 3
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import pytest

from bookshop.v1 import bookshop_pb2  # noqa: F401  # registers the descriptors, whose idempotency levels are looked up
from grpc_faultwire import RetryScope, StatusError
from grpc_faultwire import aio as aio_world
from grpc_faultwire import sync as sync_world
from grpc_faultwire.flow import ATTEMPTS_KEY
from grpc_faultwire.records import Attempt, CallInfo, Event, Outcome
from grpc_faultwire.redaction import Redactor
from grpc_faultwire.status import encode
from grpc_faultwire.trailers import PUSHBACK_KEY

READ = "/bookshop.v1.Bookshop/GetBook"
"""Unary; its proto says NO_SIDE_EFFECTS."""
READS = "/bookshop.v1.Bookshop/ListBooks"
"""A response stream, NO_SIDE_EFFECTS."""
WRITE = "/flaky.v1.Flaky/Write"
"""Unary; nobody says that it is idempotent."""
WRITES = "/flaky.v1.Flaky/Writes"
"""A request stream; nobody says that it is idempotent."""
EXCHANGE = "/bookshop.v1.Bookshop/QuotePrices"
"""Both streams, NO_SIDE_EFFECTS."""


ERRORS: dict[str, Any] = {cls().code().name: cls for cls in StatusError.__subclasses__()}


@dataclass(frozen=True, kw_only=True)
class Act:
    """What the server does with one attempt, in this order: wait, headers, messages, hang, the status."""

    wait: float = 0.0
    beside: int = 0
    """Unary: wait until so many attempts of the call have arrived, this one included."""
    headers: bool = False
    messages: tuple[bytes, ...] = ()
    hang: bool = False
    code: str = "OK"
    value: bytes = b"ok"
    message: str = "not now"
    pushback: str | None = None
    retry_info: float | None = None
    scope: RetryScope | None = None
    early: bool = False
    """Request streams: fail at the first request, without waiting for the others."""


def ok(value: bytes = b"ok", *messages: bytes, **more: Any) -> Act:
    """Answer; a response stream answers ``messages``."""
    return Act(value=value, messages=messages, **more)


def fail(code: str = "UNAVAILABLE", *messages: bytes, **more: Any) -> Act:
    """Fail; a response stream answers ``messages`` first."""
    return Act(code=code, messages=messages, **more)


def hang(*messages: bytes, **more: Any) -> Act:
    """Answer nothing (more) until the attempt is cancelled."""
    return Act(hang=True, messages=messages, **more)


@dataclass
class Seen:
    """One attempt, as the server saw it."""

    number: int
    metadata: list[tuple[str, Any]]
    remaining: float | None
    at: float = field(default_factory=time.monotonic)
    requests: list[bytes] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    """Set when the RPC has ended, or been cancelled."""

    def get(self, key: str) -> Any:
        """Return the metadata's value, or None."""
        return dict(self.metadata).get(key)


class Flaky(grpc.GenericRpcHandler):
    """Does what each call's acts say. The key of a call travels in its metadata."""

    def __init__(self) -> None:
        self._acts: dict[str, tuple[Act, ...]] = {}
        self._seen: dict[str, list[Seen]] = {}
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self.active = 0

    def plan(self, acts: Iterable[Act]) -> str:
        """Take in what is to be done with a call, and return its key."""
        key = f"call-{next(self._numbers)}"
        self._acts[key], self._seen[key] = tuple(acts) or (ok(),), []
        return key

    def seen(self, key: str) -> list[Seen]:
        """Return the attempts that have arrived."""
        return self._seen[key]

    def arrived(self, key: str, count: int = 1, timeout: float = 5) -> list[Seen]:
        """Wait for so many attempts, and return them."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._seen[key]) >= count, timeout), f"{key} has not arrived"
            return list(self._seen[key])

    def quiet(self, timeout: float = 5) -> bool:
        """Wait until nothing is going on."""
        with self._changed:
            return self._changed.wait_for(lambda: not self.active, timeout)

    def service(self, handler_call_details: Any) -> Any:
        handlers: dict[str, Any] = {
            READ: grpc.unary_unary_rpc_method_handler(lambda r, c: self._one(iter([r]), c)),
            WRITE: grpc.unary_unary_rpc_method_handler(lambda r, c: self._one(iter([r]), c)),
            READS: grpc.unary_stream_rpc_method_handler(lambda r, c: self._many(iter([r]), c)),
            WRITES: grpc.stream_unary_rpc_method_handler(self._one),
            EXCHANGE: grpc.stream_stream_rpc_method_handler(self._many),
        }
        return handlers.get(handler_call_details.method)

    def _one(self, requests: Iterator[bytes], context: Any) -> bytes:
        act, seen = self._begin(context)
        with self._during():
            self._read(act, seen, requests)
            self._act(act, seen, context)
            self._status(act, context)
            return act.value

    def _many(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        act, seen = self._begin(context)
        with self._during():
            self._read(act, seen, requests)
            seen.over.wait(act.wait)
            if act.headers:
                context.send_initial_metadata((("early", "1"),))
            yield from act.messages
            if act.hang:
                seen.over.wait(10)
            self._status(act, context)

    def _begin(self, context: Any) -> tuple[Act, Seen]:
        pairs = [(key, value) for key, value in context.invocation_metadata() if key != "user-agent"]
        key = dict(pairs)["key"]
        with self._changed:
            # By what the caller says, or gRPC's core where it retries: hedges may overtake each other on their way.
            before = dict(pairs).get(ATTEMPTS_KEY) or dict(pairs).get("grpc-previous-rpc-attempts")
            number = int(before or 0) + 1
            seen = Seen(number, pairs, context.time_remaining())
            self._seen[key].append(seen)
            self._seen[key].sort(key=lambda one: one.number)
            self._changed.notify_all()
        if not context.add_callback(seen.over.set):
            seen.over.set()
        acts = self._acts[key]
        return acts[min(number, len(acts)) - 1], seen

    @contextlib.contextmanager
    def _during(self) -> Iterator[None]:
        with self._changed:
            self.active += 1
        try:
            yield
        finally:
            with self._changed:
                self.active -= 1
                self._changed.notify_all()

    def _read(self, act: Act, seen: Seen, requests: Iterator[bytes]) -> None:
        with contextlib.suppress(grpc.RpcError):
            for request in requests:
                seen.requests.append(request)
                if act.early:
                    return

    def _act(self, act: Act, seen: Seen, context: Any) -> None:
        self._together(act.beside, context)
        seen.over.wait(act.wait)
        if act.headers:
            context.send_initial_metadata((("early", "1"),))
        if act.hang:
            seen.over.wait(10)

    def _together(self, count: int, context: Any) -> None:
        if count:
            # Else the answer to one attempt may cancel another on its way.
            self.arrived(dict(context.invocation_metadata())["key"], count, timeout=30)

    def _status(self, act: Act, context: Any) -> None:
        if act.code == "OK":
            return
        trailers: list[tuple[str, Any]] = []
        if act.retry_info is not None or act.scope is not None:
            error = ERRORS[act.code](act.message, retry_delay=act.retry_info, retry_scope=act.scope)
            reply = encode(error, service="flaky.v1.Flaky", method="Do", redactor=Redactor(), now=0.0, jitter=0.0)
            # Our own server says the same by pushback too; what the details say is to be tested alone.
            trailers = [pair for pair in reply.trailers if pair[0] != PUSHBACK_KEY]
        if act.pushback is not None:
            trailers.append((PUSHBACK_KEY, act.pushback))
        context.set_trailing_metadata(tuple(trailers))
        context.abort(grpc.StatusCode[act.code], act.message)


class Ledger:
    """An observer that keeps the books: every call that starts must end once."""

    def __init__(self) -> None:
        self.started = 0
        self.ended: list[list[Outcome]] = []
        self.events: list[Event] = []
        self._changed = threading.Condition()

    def on_start(self, call: CallInfo) -> int:
        with self._changed:
            self.started += 1
            self.ended.append([])
            return self.started - 1

    def on_event(self, token: int, event: Event) -> None:
        self.events.append(event)

    def on_end(self, token: int, outcome: Outcome) -> None:
        with self._changed:
            self.ended[token].append(outcome)
            self._changed.notify_all()

    def outcomes(self, timeout: float = 10) -> list[Outcome]:
        """Wait until all calls have ended, check that each ended once, and return how."""
        with self._changed:
            self._changed.wait_for(lambda: all(self.ended), timeout)
            assert Counter(map(len, self.ended)) in ({1: self.started}, {}), "a call did not end once"
            return [ends[0] for ends in self.ended]

    def forget(self) -> None:
        """Let go of how calls ended: errors know the frames through which they were raised."""
        self.started = 0
        self.ended.clear()
        self.events.clear()

    def said(self, name: str, key: str) -> list[Any]:
        """Return an attribute of all the events that end with this name."""
        return [event.attributes.get(key) for event in self.events if event.name.endswith(name)]


@dataclass
class Got:
    """What a call came to."""

    key: str
    seen: list[Seen]
    seconds: float
    value: Any = None
    messages: list[bytes] = field(default_factory=list)
    error: Any = None
    """What was raised: a StatusError, or anything else."""
    call: Any = None
    """`with_call`: the call object that came with the value."""

    @property
    def history(self) -> list[Attempt]:
        """The attempts, as the error tells them."""
        assert isinstance(self.error, StatusError), self.error
        return list(self.error.attempts)


class Handle:
    """A call that goes on."""

    def __init__(self, caller: Caller, key: str, call: Any, answer: Callable[[Any, Got], Any]) -> None:
        self.key = key
        self.call = call
        self.caller = caller
        self._answer = answer
        self._since = time.monotonic()

    def result(self) -> Got:
        """Wait for the end."""
        return self.caller._got(self.key, self.call, self._answer, self._since)

    def cancel(self) -> bool:
        """Cancel it."""
        return bool(self.caller.run(lambda: self.call.cancel()))

    def done(self) -> bool:
        """Whether it has ended."""
        return bool(self.caller.run(lambda: self.call.done()))

    def drop(self) -> None:
        """Let go of it, where its world would."""

        def let_go() -> None:
            self.call = None
            gc.collect()

        self.caller.run(let_go)


class Caller:
    """Calls the flaky server from one world. Everything blocks, so that both worlds look the same to a test.

    Attributes:
        world: "sync" or "aio".
        server: what it calls.
        ledger: observes every call.
        channel: what `connect` made.
    """

    world = "sync"

    def __init__(self, server: Flaky, address: str) -> None:
        self.server = server
        self.address = address
        self.ledger = Ledger()
        self.channel: Any = None
        self._channels: list[Any] = []

    def connect(
        self,
        policy: Any = None,
        *,
        observers: Iterable[Any] = (),
        options: Any = None,
        told: bool = False,
        door: str = "wrapped",
        **settings: Any,
    ) -> Caller:
        """Wrap a new channel.

        Args:
            policy: its policy.
            observers: besides the ledger.
            options: the bare channel's arguments.
            told: whether `wrap_channel` is told them.
            door: "official" for ``client_interceptors`` in place of `wrap_channel`.
            settings: those of `wrap_channel`, such as ``state``.
        """
        if told:
            settings["options"] = options

        def make() -> Any:
            settings["observers"] = [self.ledger, *observers]
            if door == "official":
                return self._intercepted(options, policy, **settings)
            return self._wrap(self._bare(options), policy, **settings)

        self.channel = self.run(make)
        self._channels.append(self.channel)
        return self

    # Calls. Each takes the acts, and a call's own options: path, timeout, metadata, wait_for_ready.

    def unary(self, *acts: Act, **options: Any) -> Got:
        """Call and wait."""
        return self._call(self._unary, acts, options)

    def with_call(self, *acts: Act, **options: Any) -> Got:
        """Call and wait, and keep the call object."""
        return self._call(self._with_call, acts, options)

    def future(self, *acts: Act, request: bytes = b"request", **options: Any) -> Handle:
        """Call, and return what goes on."""
        key, options = self._options(acts, READ, options)
        call = self.run(lambda: self._begin("unary_unary", options.pop("path"), request, options))
        return Handle(self, key, call, self._result)

    def stream(self, *acts: Act, **options: Any) -> Got:
        """Call, and read all the responses; those that came before an error are kept."""
        return self.begin_stream(*acts, **options).result()

    def begin_stream(self, *acts: Act, request: bytes = b"request", **options: Any) -> Handle:
        """Call, and return the stream: read it with `read`."""
        key, options = self._options(acts, READS, options)
        call = self.run(lambda: self._begin("unary_stream", options.pop("path"), request, options))
        return Handle(self, key, call, self._collect)

    def client_stream(self, requests: Iterable[bytes], *acts: Act, **options: Any) -> Got:
        """Stream the requests, and wait for the response."""
        return self.begin_client_stream(requests, *acts, **options).result()

    def begin_client_stream(self, requests: Iterable[bytes], *acts: Act, **options: Any) -> Handle:
        """Call, and return what goes on while the requests are sent."""
        key, options = self._options(acts, WRITES, options)
        call = self.run(lambda: self._begin("stream_unary", options.pop("path"), iter(requests), options))
        return Handle(self, key, call, self._result)

    def exchange(self, requests: Iterable[bytes], *acts: Act, **options: Any) -> Got:
        """Stream the requests, and read all the responses."""
        return self.begin_exchange(requests, *acts, **options).result()

    def begin_exchange(self, requests: Iterable[bytes], *acts: Act, **options: Any) -> Handle:
        """Call, and return the stream of responses, while the requests are sent."""
        key, options = self._options(acts, EXCHANGE, options)
        call = self.run(lambda: self._begin("stream_stream", options.pop("path"), iter(requests), options))
        return Handle(self, key, call, self._collect)

    # What the worlds do differently.

    def run(self, function: Callable[[], Any]) -> Any:
        """Run a function where calls are made; in aio it may be a coroutine function."""
        return function()

    def read(self, handle: Handle) -> bytes | None:
        """Return the next response of a stream; None at its end."""
        return next(handle.call, None)

    def close(self) -> None:
        """Close the channel that was connected last."""
        self.channel.close()

    def forget(self) -> None:
        """Close the channels, and let go of them and of how calls ended, once all have."""
        self.ledger.outcomes()
        while self._channels:
            self.channel = self._channels.pop()
            self.close()
        self.channel = None
        self.ledger.forget()

    def stop(self) -> None:
        """End everything."""
        for channel in self._channels:
            channel.close()

    def _bare(self, options: Any) -> Any:
        return grpc.insecure_channel(self.address, options=options)

    def _wrap(self, *args: Any, **settings: Any) -> Any:
        return sync_world.wrap_channel(*args, **settings)

    def _intercepted(self, arguments: Any, policy: Any, **settings: Any) -> Any:
        return grpc.intercept_channel(self._bare(arguments), *sync_world.client_interceptors(policy, **settings))

    def _begin(self, shape: str, path: str, request: Any, options: dict[str, Any]) -> Any:
        method = getattr(self.channel, shape)(path)
        return method.future(request, **options) if shape.endswith("unary") else method(request, **options)

    def _unary(self, path: str, request: Any, options: dict[str, Any], got: Got) -> Any:
        got.value = self.channel.unary_unary(path)(request, **options)

    def _with_call(self, path: str, request: Any, options: dict[str, Any], got: Got) -> Any:
        got.value, got.call = self.channel.unary_unary(path).with_call(request, **options)

    def _result(self, call: Any, got: Got) -> Any:
        got.value = call.result()

    def _collect(self, call: Any, got: Got) -> Any:
        for message in call:
            got.messages.append(message)

    # Shared.

    def _options(self, acts: tuple[Act, ...], path: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        key = self.server.plan(acts)
        metadata = (("key", key), *options.pop("metadata", ()))
        return key, {"path": path, "timeout": 10, "metadata": metadata, **options}

    def _call(self, method: Any, acts: tuple[Act, ...], options: dict[str, Any]) -> Got:
        request = options.pop("request", b"request")
        key, options = self._options(acts, READ, options)
        path = options.pop("path")
        return self._got(key, None, lambda _call, got: method(path, request, options, got), time.monotonic())

    def _got(self, key: str, call: Any, answer: Callable[[Any, Got], Any], since: float) -> Got:
        got = Got(key, self.server.seen(key), 0.0)
        try:
            self.run(lambda: answer(call, got))
        except (Exception, asyncio.CancelledError, futures.CancelledError) as error:
            got.error = error
        got.seconds = time.monotonic() - since
        return got


class AioCaller(Caller):
    """The same from an event loop in a thread of its own."""

    world = "aio"

    def __init__(self, server: Flaky, address: str) -> None:
        super().__init__(server, address)
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="aio caller")
        self._thread.start()

    def run(self, function: Callable[[], Any]) -> Any:
        done: futures.Future[Any] = futures.Future()

        async def main() -> None:
            try:
                result = function()
                done.set_result(await result if asyncio.iscoroutine(result) else result)
            except BaseException as error:
                done.set_exception(error)

        # In the context of the test, as if it ran in the loop.
        tasks: list[Any] = []
        self.loop.call_soon_threadsafe(
            lambda: tasks.append(self.loop.create_task(main())), context=contextvars.copy_context()
        )
        return done.result(30)

    def read(self, handle: Handle) -> bytes | None:
        async def one() -> bytes | None:
            message = await handle.call.read()
            return None if message is grpc.aio.EOF else message

        return self.run(one)  # type: ignore[no-any-return]

    def close(self) -> None:
        self.run(self.channel.close)

    def stop(self) -> None:
        for channel in self._channels:
            self.run(channel.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def _bare(self, options: Any) -> Any:
        return grpc.aio.insecure_channel(self.address, options=options)

    def _wrap(self, *args: Any, **settings: Any) -> Any:
        return aio_world.wrap_channel(*args, **settings)

    def _intercepted(self, arguments: Any, policy: Any, **settings: Any) -> Any:
        ours = aio_world.client_interceptors(policy, **settings)
        return grpc.aio.insecure_channel(self.address, options=arguments, interceptors=ours)

    def _begin(self, shape: str, path: str, request: Any, options: dict[str, Any]) -> Any:
        return getattr(self.channel, shape)(path)(request, **options)

    async def _unary(self, path: str, request: Any, options: dict[str, Any], got: Got) -> None:
        got.value = await self.channel.unary_unary(path)(request, **options)

    async def _with_call(self, path: str, request: Any, options: dict[str, Any], got: Got) -> None:
        # aio has no with_call: its call object is awaited, and asked afterwards.
        call = self.channel.unary_unary(path)(request, **options)
        got.value, got.call = await call, Finished(await call.code(), await call.details())

    async def _result(self, call: Any, got: Got) -> None:
        got.value = await call

    async def _collect(self, call: Any, got: Got) -> None:
        async for message in call:
            got.messages.append(message)


class Finished:
    """An aio call that has ended, asked as a sync one."""

    def __init__(self, code: Any, details: Any) -> None:
        self._code, self._details = code, details

    def code(self) -> Any:
        return self._code

    def details(self) -> Any:
        return self._details


WORLDS = [pytest.param(Caller, id="sync"), pytest.param(AioCaller, id="aio")]

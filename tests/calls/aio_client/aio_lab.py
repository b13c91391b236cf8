"""A grpc.aio server that does what the metadata of a call say and keeps what it saw, and a channel to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from grpc_faultwire.aio import client_interceptors, wrap_channel
from grpc_faultwire.errors import StatusError
from grpc_faultwire.plan import Decisions

UU, US, SU, SS = "unary_unary", "unary_stream", "stream_unary", "stream_stream"
KINDS = (UU, US, SU, SS)
OLD = tuple(map(int, grpc.__version__.split(".")[:2])) < (1, 80)
"""Whether this grpcio is one of the oldest that are supported, which does some things otherwise."""
SERVICE = "lab.Lab"
TRAILERS = (("x-trailer", "t"), ("x-trailer-bin", b"\x00\xff"))


class Ends:
    """An observer that counts, and keeps how calls ended."""

    def __init__(self) -> None:
        self.started = 0
        self.outcomes: list[Any] = []
        self.attempts: list[tuple[str, int]] = []
        self.messages: Counter[str] = Counter()
        self.per_call: Counter[int] = Counter()

    def on_start(self, call: Any) -> int:
        self.started += 1
        return self.started

    def on_attempt_start(self, token: int, attempt: Any) -> None:
        self.attempts.append(("start", attempt.number))

    def on_attempt_end(self, token: int, attempt: Any) -> None:
        self.attempts.append(("end", attempt.number))

    def on_message(self, token: int, direction: str) -> None:
        self.messages[direction] += 1

    def on_end(self, token: int, outcome: Any) -> None:
        self.per_call[token] += 1
        self.outcomes.append(outcome)

    @property
    def hows(self) -> list[str]:
        return [outcome.how for outcome in self.outcomes]

    def assert_exactly_once(self) -> None:
        assert dict(self.per_call) == dict.fromkeys(range(1, self.started + 1), 1)
        assert Counter(what for what, _ in self.attempts)["start"] == Counter(what for what, _ in self.attempts)["end"]


class Lab:
    """One server and one channel to it."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.active = 0
        self.ends = Ends()
        self.address = ""
        self.channel: Any = None
        self.bare = False
        self.calls_by_key: Counter[str] = Counter()
        self.gate = asyncio.Event()
        """What the step "gate" waits for: headers and the end of a stream race within grpc.aio unless kept apart."""

    # Client side.

    def method(self, kind: str, **serializers: Any) -> Any:
        return getattr(self.channel, kind)(f"/{SERVICE}/{kind}", **serializers)

    def call(
        self, kind: str, script: str = "", requests: Any = (b"a", b"b"), metadata: Any = (), **options: Any
    ) -> Any:
        """Start a call; ``requests`` are sent by iterator, or written by the caller if None."""
        if kind in (SU, SS) and script and requests is not None and not {"drain", "echo"} & set(script.split()):
            # A server that ends a call while requests are on their way is a race, which grpc.aio itself loses at times.
            script = script if "read:" in script else f"drain {script}"
        given = ("script", script), *metadata
        if kind in (UU, US):
            return self.method(kind)(b"a", metadata=given, **options)
        return self.method(kind)(iter(requests) if isinstance(requests, tuple) else requests, metadata=given, **options)

    def to(self, address: str) -> Any:
        """Return a channel to another address, wrapped if this lab's is."""
        channel = grpc.aio.insecure_channel(address)
        return channel if self.bare else wrap_channel(channel, observers=[self.ends])

    async def quiet(self, seconds: float = 2.0) -> None:
        """Wait until the server has nothing left to do."""
        for _ in range(int(seconds / 0.002)):
            if self.active == 0:
                break
            await asyncio.sleep(0.002)

    async def settled(self) -> None:
        """Wait until every call has ended, and check that each did so once."""
        await self.quiet()
        for _ in range(1000):
            if len(self.ends.outcomes) >= self.ends.started:
                break
            await asyncio.sleep(0.002)
        await asyncio.sleep(0)
        self.ends.assert_exactly_once()

    async def until(self, event: Any, seconds: float = 2.0) -> None:
        """Wait until the server has seen something."""
        for _ in range(int(seconds / 0.002)):
            if event in self.seen:
                return
            await asyncio.sleep(0.002)
        raise AssertionError(f"the server has not seen {event}, but {self.seen}")

    # Server side.

    async def run(self, kind: str, context: Any) -> Any:
        metadata = tuple(context.invocation_metadata() or ())
        script = dict(metadata).get("script", "")
        self.seen.append(("start", kind, [pair for pair in metadata if pair[0].startswith("x-")]))
        self.active += 1
        try:
            answer = await self._steps(script, kind, context)
        except BaseException as raised:
            self.seen.append(("raised", type(raised).__name__))
            raise
        else:
            self.seen.append("ok")
            return answer
        finally:
            self.active -= 1

    async def _steps(self, script: str, kind: str, context: Any) -> bytes:
        count = 0
        for step in script.split():
            name, _, argument = step.partition(":")
            if name == "read" or name == "drain":
                while name == "drain" or int(argument) > count:
                    request = await context.read()
                    if request is grpc.aio.EOF:
                        break
                    count += 1
                    self.seen.append(request)
            elif name == "fail":
                code, _, times = argument.partition("x")
                self.calls_by_key[script] += 1
                if self.calls_by_key[script] <= int(times):
                    await context.abort(grpc.StatusCode[code], f"failure {self.calls_by_key[script]}")
            elif name == "echo":
                while (request := await context.read()) is not grpc.aio.EOF:
                    self.seen.append(request)
                    await context.write(request)
            else:
                await getattr(self, f"_{name}")(context, argument)
        if kind in (SU, SS) and not script:
            while (request := await context.read()) is not grpc.aio.EOF:
                self.seen.append(request)
                count += 1
        if not script and kind in (US, SS):
            await self._reply(context, "3")
        return b"%d requests" % count

    async def _initial(self, context: Any, argument: str) -> None:
        await context.send_initial_metadata((("x-initial", "i"),))

    async def _gate(self, context: Any, argument: str) -> None:
        await self.gate.wait()

    async def _sleep(self, context: Any, argument: str) -> None:
        await asyncio.sleep(float(argument))

    async def _hang(self, context: Any, argument: str) -> None:
        await asyncio.sleep(30)

    async def _reply(self, context: Any, argument: str) -> None:
        for number in range(int(argument)):
            await context.write(b"reply %d" % number)

    async def _trail(self, context: Any, argument: str) -> None:
        context.set_trailing_metadata(TRAILERS)

    async def _abort(self, context: Any, argument: str) -> None:
        await context.abort(grpc.StatusCode[argument], "the server says so", TRAILERS)

    async def _raise(self, context: Any, argument: str) -> None:
        raise ValueError("in the handler")


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, lab: Lab) -> None:
        async def unary_unary(request: bytes, context: Any) -> bytes:
            lab.seen.append(request)
            return await lab.run(UU, context)

        async def unary_stream(request: bytes, context: Any) -> None:
            lab.seen.append(request)
            await lab.run(US, context)

        async def stream_unary(requests: Any, context: Any) -> bytes:
            return await lab.run(SU, context)

        async def stream_stream(requests: Any, context: Any) -> None:
            await lab.run(SS, context)

        self._known = {
            f"/{SERVICE}/{UU}": grpc.unary_unary_rpc_method_handler(unary_unary),
            f"/{SERVICE}/{US}": grpc.unary_stream_rpc_method_handler(unary_stream),
            f"/{SERVICE}/{SU}": grpc.stream_unary_rpc_method_handler(stream_unary),
            f"/{SERVICE}/{SS}": grpc.stream_stream_rpc_method_handler(stream_stream),
        }

    def service(self, handler_call_details: Any) -> Any:
        return self._known.get(handler_call_details.method)


@contextlib.asynccontextmanager
async def lab(
    how: str = "wrapped", policy: Any = None, interceptors: Any = (), observers: Any = (), servicers: Any = ()
) -> AsyncIterator[Lab]:
    """Serve, and connect: ``how`` is "bare", "wrapped", or "official" for the official interceptors."""
    made = Lab()
    made.bare = how != "wrapped"
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((_Handlers(made), *servicers))
    made.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    watching = [made.ends, *observers]
    given = [*interceptors, *(client_interceptors(policy, observers=watching) if how == "official" else ())]
    made.channel = grpc.aio.insecure_channel(made.address, interceptors=given or None)
    if how == "wrapped":
        made.channel = wrap_channel(made.channel, policy, observers=watching)
    try:
        yield made
    finally:
        await made.channel.close()
        await made.quiet(0.5)
        await server.stop(None)
        # A cancelled call may have got here only now; what the server saw of it is complete when it has ended.
        await made.quiet()


async def consume(kind: str, call: Any) -> Any:
    """Return the response, or all of them."""
    return await call if kind in (UU, SU) else [response async for response in call]


async def outcome(awaitable: Any) -> Any:
    """Return what came of it, in words that are the same for grpc's errors and ours."""
    try:
        return "returned", await awaitable
    except BaseException as raised:
        return described(raised)


def called(function: Any, *arguments: Any, **named: Any) -> Any:
    """The same for a plain function."""
    try:
        return "returned", function(*arguments, **named)
    except BaseException as raised:
        return described(raised)


def described(raised: BaseException) -> Any:
    """An exception in words."""
    if not isinstance(raised, grpc.aio.AioRpcError):
        return "raised", type(raised).__name__
    metadata = [None if one is None else tuple(one) for one in (raised.initial_metadata(), raised.trailing_metadata())]
    kind = "AioRpcError" if isinstance(raised, StatusError) else type(raised).__name__
    return "raised", kind, raised.code(), raised.details(), metadata, type(raised.debug_error_string()).__name__


async def status(call: Any) -> Any:
    """Everything that a call says of itself once it is done."""
    answers = [
        await outcome(getattr(call, name)()) for name in ("code", "details", "initial_metadata", "trailing_metadata")
    ]
    debug = await outcome(call.debug_error_string())
    return call.done(), call.cancelled(), answers, type(debug[1]).__name__


class Scripted:
    """A policy that decides by a table: the delays after failed attempts, in order, for UNAVAILABLE only."""

    def __init__(self, delays: list[float], refuse: Any = None, *, reckless: bool = False) -> None:
        self.reckless = reckless
        self.delays = delays
        self.refuse = refuse
        self.finished = 0

    def for_method(self, call: Any) -> Any:
        return self

    def begin(self, flow: Any) -> Any:
        return _Decisions(self, flow)


class _Decisions(Decisions):
    def __init__(self, script: Scripted, flow: Any) -> None:
        self._script = script
        self._flow = flow

    def admit(self, attempt: Any, now: float) -> None:
        if self._script.refuse is not None and attempt.number >= self._script.refuse[0]:
            raise self._script.refuse[1]("refused")

    def decide(self, attempt: Any, now: float) -> float | None:
        if attempt.error is None or attempt.error.code() is not grpc.StatusCode.UNAVAILABLE:
            return None
        if self._flow.committed and not self._script.reckless:
            return None
        return self._script.delays[attempt.number - 1] if attempt.number <= len(self._script.delays) else None

    def release(self, attempt: Any, now: float) -> None:
        """Nothing is held."""

    def finish(self) -> None:
        self._script.finished += 1

"""The official door: interceptors for ``grpc.aio.insecure_channel``, where a channel cannot be wrapped."""

from __future__ import annotations

import asyncio
import random as random_numbers
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import grpc.aio

from grpc_faultwire.aio.calls import Call, StreamStreamCall, StreamUnaryCall, UnaryStreamCall, UnaryUnaryCall
from grpc_faultwire.aio.channel import Methods
from grpc_faultwire.aio.method import Method
from grpc_faultwire.aio.native import LOCALLY_CANCELLED
from grpc_faultwire.aio.running import Running, Send
from grpc_faultwire.audience import Audience
from grpc_faultwire.flow import Flow
from grpc_faultwire.local_errors import cancelled, failed
from grpc_faultwire.plan import PolicySource
from grpc_faultwire.records import Attempt, How, Kind
from grpc_faultwire.sources import source_of
from grpc_faultwire.status import from_rpc_error

if TYPE_CHECKING:
    from grpc_faultwire.config import ClientPolicy
    from grpc_faultwire.state import PolicyState

C = TypeVar("C", bound=Call)


def client_interceptors(
    policy: ClientPolicy | PolicySource | None = None,
    *,
    observers: Iterable[Any] = (),
    state: PolicyState | None = None,
    target: str = "",
    clock: Callable[[], float] = time.monotonic,
    random: Callable[[], float] = random_numbers.random,
    options: Iterable[tuple[str, Any]] = (),
) -> list[grpc.aio.ClientInterceptor]:
    """Return interceptors for ``grpc.aio.insecure_channel`` that do what `wrap_channel` does, as far as grpc lets them.

    Prefer `wrap_channel`. Through this door:

    * a call that streams requests is never sent again, since its requests cannot be kept;
    * faults of serializers stay hidden: the server gets an empty request, or the caller None as a response;
    * a call that is cancelled before the interceptor's turn was never begun, and no observer hears of it;
    * ``time_remaining()`` raises NotImplementedError, ``read()`` after an error gives EOF, mixing iteration with reads
      or writes is not noticed, and ``cancelled()`` is late: the call objects are grpc's, with ours inside;
    * closing the channel does not end a call that waits to be sent again: it fails when its time has come;
    * it costs a task for each call.

    Args:
        policy: as for `wrap_channel`.
        observers: as for `wrap_channel`.
        state: as for `wrap_channel`.
        target: what observers and policies call the target; grpc does not tell interceptors.
        clock: as for `wrap_channel`.
        random: as for `wrap_channel`.
        options: as for `wrap_channel`: the arguments that the channel is made with.

    Returns:
        Four interceptors, one for each kind of call: grpc.aio takes an object for its first kind only.
    """
    observers = tuple(observers)
    source = source_of(policy, state, observers)
    audience = Audience(observers)
    methods = Methods(source, audience=audience, target=target, clock=clock, random=random, options=options)
    return [
        UnaryUnaryInterceptor(methods),
        UnaryStreamInterceptor(methods),
        StreamUnaryInterceptor(methods),
        StreamStreamInterceptor(methods),
    ]


class Interceptor:
    """What the four have in common; see `client_interceptors`.

    Args:
        methods: how calls are made.
    """

    def __init__(self, methods: Methods) -> None:
        self._methods = methods

    async def _begin(self, kind: Kind, face: type[C], continuation: Any, details: Any, request: Any) -> C:
        method = self._methods.find(details.method, kind, asyncio.get_running_loop())

        def proceed(request: Any, timeout: float | None, metadata: Any) -> Any:
            return continuation(details._replace(timeout=timeout, metadata=metadata), request)

        if details.wait_for_ready is None:
            details = details._replace(wait_for_ready=method.wait_for_ready)
        running = InterceptedRunning(method, proceed, details.timeout)
        if kind.request_streaming:
            # Another attempt would find the caller's iterator empty, and its server would answer as if that were all.
            running.flow.commit()
            if method.counts:
                request = _counted(request, running.flow)
        await running.open(request, details.metadata)
        return face(running)


class InterceptedRunning(Running):
    """A call behind an interceptor: an attempt gets its call object from a coroutine."""

    __slots__ = ("_proceeding",)

    _hears_of_responses = False

    def __init__(self, method: Method, send: Send, timeout: float | None) -> None:
        super().__init__(method, send, timeout)
        self._proceeding: set[asyncio.Task[None]] = set()

    async def open(self, request: Any, metadata: Any) -> None:
        """Send the first attempt."""
        task = asyncio.current_task()
        if task is not None:
            task.add_done_callback(self._left)
        attempt = self.first(request, metadata)
        if attempt is not None:
            await self._proceed(attempt, "abandoned")

    def resend(self, attempt: Attempt) -> None:
        """Send another attempt."""
        task = self.loop.create_task(self._proceed(attempt), context=self._context)
        self._proceeding.add(task)
        task.add_done_callback(self._proceeding.discard)

    def _forget(self) -> None:
        super()._forget()
        for task in self._proceeding:
            task.cancel()

    def _on_done(self, call: Any) -> None:
        # Where an interceptor returned an iterator of responses, grpc calls back with the call that is behind it.
        ours = self.call
        super()._on_done(ours if ours is not None and ours.done() else call)

    def _left(self, task: asyncio.Task[Any]) -> None:
        """End the call if the task of the interceptors was cancelled: none of them has kept it."""
        if task.cancelled():
            self.end(cancelled(LOCALLY_CANCELLED, grpc.aio.Metadata()), "abandoned")

    async def _proceed(self, attempt: Attempt, left: How = "cancelled") -> None:
        if self._send is None:
            return
        try:
            with self.flow.activate():
                proceeding = self._send(self._following, timeout=attempt.timeout, metadata=self.outgoing(attempt))
            call = await proceeding
        except asyncio.CancelledError:
            self.end(cancelled(LOCALLY_CANCELLED, grpc.aio.Metadata()), left)
            raise
        except grpc.aio.AioRpcError as raised:
            self.lost(attempt, from_rpc_error(raised))
        except Exception as raised:
            self.end(failed(raised, grpc.aio.Metadata()), "failed")
            raise
        else:
            self.adopt(attempt, call)


class UnaryUnaryInterceptor(Interceptor, grpc.aio.UnaryUnaryClientInterceptor):
    """For calls with one request and one response."""

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> UnaryUnaryCall:
        """See grpc.aio.UnaryUnaryClientInterceptor."""
        return await self._begin(Kind.UNARY, UnaryUnaryCall, continuation, client_call_details, request)


class UnaryStreamInterceptor(Interceptor, grpc.aio.UnaryStreamClientInterceptor):
    """For calls with one request and a stream of responses."""

    async def intercept_unary_stream(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> UnaryStreamCall:
        """See grpc.aio.UnaryStreamClientInterceptor."""
        return await self._begin(Kind.SERVER_STREAM, UnaryStreamCall, continuation, client_call_details, request)


class StreamUnaryInterceptor(Interceptor, grpc.aio.StreamUnaryClientInterceptor):
    """For calls with a stream of requests and one response."""

    async def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> StreamUnaryCall:
        """See grpc.aio.StreamUnaryClientInterceptor."""
        return await self._begin(
            Kind.CLIENT_STREAM, StreamUnaryCall, continuation, client_call_details, request_iterator
        )


class StreamStreamInterceptor(Interceptor, grpc.aio.StreamStreamClientInterceptor):
    """For calls with a stream of requests and a stream of responses."""

    async def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> StreamStreamCall:
        """See grpc.aio.StreamStreamClientInterceptor."""
        return await self._begin(
            Kind.BIDI_STREAM, StreamStreamCall, continuation, client_call_details, request_iterator
        )


async def _counted(requests: Any, flow: Flow) -> AsyncIterator[Any]:
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            flow.message("sent")
            yield request
    else:
        for request in requests:
            flow.message("sent")
            yield request

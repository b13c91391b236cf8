"""`wrap_channel`: a grpc.aio.Channel whose calls give typed errors, obey policies and are observed."""

from __future__ import annotations

import asyncio
import logging
import random as random_numbers
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import grpc
import grpc.aio

from grpc_faultwire.aio.method import Method
from grpc_faultwire.aio.multicallables import (
    StreamStreamMultiCallable,
    StreamUnaryMultiCallable,
    UnaryStreamMultiCallable,
    UnaryUnaryMultiCallable,
)
from grpc_faultwire.aio.recovering import Backoffs
from grpc_faultwire.aio.serializers import Serializer, deserializing, serializing
from grpc_faultwire.audience import Audience
from grpc_faultwire.core_retries import retried_by_core
from grpc_faultwire.plan import Plan, PolicySource
from grpc_faultwire.records import CallInfo, Kind, Side
from grpc_faultwire.sources import source_of

if TYPE_CHECKING:
    from grpc_faultwire.config import ClientPolicy
    from grpc_faultwire.state import PolicyState

_LOGGER = logging.getLogger(__name__)

MAX_METHODS = 1000
"""Methods that are remembered; programs that call by made-up names start anew then."""


def wrap_channel(
    channel: grpc.aio.Channel,
    policy: ClientPolicy | PolicySource | None = None,
    *,
    observers: Iterable[Any] = (),
    state: PolicyState | None = None,
    target: str | None = None,
    clock: Callable[[], float] = time.monotonic,
    random: Callable[[], float] = random_numbers.random,
    options: Iterable[tuple[str, Any]] = (),
) -> Channel:
    """Return a channel that behaves as this one, but for its errors, which are `StatusError`s.

    Interceptors that the channel was made with see every attempt. Two things differ from grpc.aio on purpose: a
    serializer that raises fails its call (grpc.aio sends an empty request, or gives None for a response), and a stream
    of responses that nobody holds any more is cancelled.

    Args:
        channel: a channel; it is closed with the result.
        policy: what is done about failures: a `ClientPolicy`. None: errors are decoded, calls observed, nothing else.
        observers: see `Observer`; told of every call, in this order.
        state: budgets and circuit breakers to share with other channels. None: the channel has its own.
        target: what observers and policies call the target. None: what the channel was made for, if it tells.
        clock: returns seconds that never go back.
        random: returns numbers in [0, 1), for jitter.
        options: the arguments that the channel was made with. A channel does not tell them; given here, a service
            config in them that retries what the policy retries too is warned of, once. One that comes from a name
            resolver cannot be seen: pass ``("grpc.service_config_disable_resolution", 1)`` to the channel against it.

    Raises:
        ValueError: a state without a `ClientPolicy`.
        TypeError: it is no grpc.aio channel; `grpc_faultwire.sync.wrap_channel` wraps the other kind.
    """
    if isinstance(channel, grpc.Channel):
        raise TypeError(f"{type(channel).__name__} is a sync channel: use grpc_faultwire.sync.wrap_channel")
    observers = tuple(observers)
    methods = Methods(
        source_of(policy, state, observers),
        audience=Audience(observers),
        target=target or target_of(channel),
        clock=clock,
        random=random,
        options=options,
    )
    return Channel(channel, methods)


def target_of(channel: Any) -> str:
    """Return what a channel was made for; "" if it does not tell."""
    try:
        target: bytes = channel._channel.target
        return target.decode()
    except Exception:  # noqa: BLE001  # private to grpc, so nothing may depend on it
        return ""


class Methods:
    """The methods of a channel, each made when it is first asked for.

    Args:
        policy: as for `wrap_channel`, and so are the others.
        audience: the observers.
        target: what the channel was made for.
        clock: returns seconds that never go back.
        random: returns numbers in [0, 1).
        options: the channel's arguments, as far as they are known.
    """

    def __init__(
        self,
        policy: PolicySource | None,
        *,
        audience: Audience,
        target: str,
        clock: Callable[[], float],
        random: Callable[[], float],
        options: Iterable[tuple[str, Any]] = (),
    ) -> None:
        self._backoffs: Backoffs = set()
        self._policy = policy
        self._audience = audience
        self._target = target
        self._clock = clock
        self._random = random
        self._options = tuple(options)
        self._known: dict[tuple[str, Kind], Method] = {}

    def find(self, path: str | bytes, kind: Kind, loop: asyncio.AbstractEventLoop) -> Method:
        """Return the method with this path.

        Args:
            path: "/shop.v1.Shop/GetBook".
            kind: its shape.
            loop: the channel's.
        """
        name = path.decode() if isinstance(path, bytes) else path
        method = self._known.get((name, kind))
        if method is None:
            if len(self._known) >= MAX_METHODS:
                self._known.clear()
            method = self._known[name, kind] = Method(self._plan(name, kind), loop, self._backoffs)
        return method

    def _plan(self, path: str, kind: Kind) -> Plan:
        call = CallInfo.of(path, kind=kind, side=Side.CLIENT, target=self._target)
        policies = self._policy.for_method(call) if self._policy is not None else None
        if policies is not None and self._options and retried_by_core(self._options, path):
            # Once: what retries one method mostly retries them all.
            self._options = ()
            _LOGGER.warning(
                "The service config of the channel to %s retries %s too: attempts multiply", call.target, path
            )
        return Plan(call, clock=self._clock, audience=self._audience, policies=policies, random=self._random)

    def end_backoffs(self) -> None:
        """End the calls that wait to be sent again: the channel is closed."""
        while self._backoffs:
            self._backoffs.pop().close()


class Channel(grpc.aio.Channel):
    """A wrapped channel; see `wrap_channel`. Attributes that it lacks are those of the channel inside.

    Args:
        inner: the channel inside.
        methods: how calls are made.
    """

    def __init__(self, inner: grpc.aio.Channel, methods: Methods) -> None:
        self._inner = inner
        self._methods = methods

    if not TYPE_CHECKING:  # else a type checker would find nothing amiss in a misspelt name

        def __getattr__(self, name: str) -> Any:
            if name == "_inner":
                raise AttributeError(name)
            return getattr(self._inner, name)

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._methods.end_backoffs()
        return await self._inner.__aexit__(kind, error, traceback)

    async def close(self, grace: float | None = None) -> None:
        """See grpc.aio.Channel.close. Calls that wait to be sent again end at once, as no new RPC may begin."""
        if grace is None or grace >= 0:
            self._methods.end_backoffs()
        await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: FBT001, FBT002  # grpc's
        """See grpc.aio.Channel.get_state."""
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """See grpc.aio.Channel.wait_for_state_change."""
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """See grpc.aio.Channel.channel_ready."""
        await self._inner.channel_ready()

    def unary_unary(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Serializer | None = None,
        _registered_method: bool | None = False,  # noqa: FBT001, FBT002  # grpc's signature
    ) -> UnaryUnaryMultiCallable:
        """See grpc.aio.Channel.unary_unary."""
        signature = method, request_serializer, response_deserializer, _registered_method
        return UnaryUnaryMultiCallable(*self._make(self._inner.unary_unary, Kind.UNARY, signature))

    def unary_stream(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Serializer | None = None,
        _registered_method: bool | None = False,  # noqa: FBT001, FBT002  # grpc's signature
    ) -> UnaryStreamMultiCallable:
        """See grpc.aio.Channel.unary_stream."""
        signature = method, request_serializer, response_deserializer, _registered_method
        return UnaryStreamMultiCallable(*self._make(self._inner.unary_stream, Kind.SERVER_STREAM, signature))

    def stream_unary(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Serializer | None = None,
        _registered_method: bool | None = False,  # noqa: FBT001, FBT002  # grpc's signature
    ) -> StreamUnaryMultiCallable:
        """See grpc.aio.Channel.stream_unary."""
        signature = method, request_serializer, response_deserializer, _registered_method
        return StreamUnaryMultiCallable(*self._make(self._inner.stream_unary, Kind.CLIENT_STREAM, signature))

    def stream_stream(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Serializer | None = None,
        _registered_method: bool | None = False,  # noqa: FBT001, FBT002  # grpc's signature
    ) -> StreamStreamMultiCallable:
        """See grpc.aio.Channel.stream_stream."""
        signature = method, request_serializer, response_deserializer, _registered_method
        return StreamStreamMultiCallable(*self._make(self._inner.stream_stream, Kind.BIDI_STREAM, signature))

    def _make(
        self,
        maker: Any,
        kind: Kind,
        signature: tuple[str, Serializer | None, Serializer | None, bool | None],
    ) -> tuple[Any, Method]:
        path, serializer, deserializer, registered = signature
        loop: asyncio.AbstractEventLoop | None = getattr(self._inner, "_loop", None)
        method = self._methods.find(path, kind, asyncio.get_running_loop() if loop is None else loop)
        inner = maker(
            path,
            serializing(serializer, telling=method.wants_bytes),
            deserializing(deserializer, telling=not kind.response_streaming),
            _registered_method=registered,
        )
        return inner, method

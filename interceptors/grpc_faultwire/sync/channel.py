"""`wrap_channel`: a grpc.Channel whose calls give typed errors, obey policies and are observed."""

from __future__ import annotations

import logging
import random as random_numbers
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import grpc
import grpc.aio

from grpc_faultwire.audience import Audience
from grpc_faultwire.core_retries import retried_by_core
from grpc_faultwire.plan import Plan, PolicySource
from grpc_faultwire.records import CallInfo, Kind, Side
from grpc_faultwire.sources import source_of
from grpc_faultwire.sync.backoffs import Backoffs
from grpc_faultwire.sync.method import Method
from grpc_faultwire.sync.multicallables import (
    StreamStreamMultiCallable,
    StreamUnaryMultiCallable,
    UnaryStreamMultiCallable,
    UnaryUnaryMultiCallable,
)
from grpc_faultwire.sync.requests import keeping

if TYPE_CHECKING:
    from grpc_faultwire.config import ClientPolicy
    from grpc_faultwire.state import PolicyState

_LOGGER = logging.getLogger(__name__)

MAX_METHODS = 1000
"""Methods that are remembered; programs that call by made-up names start anew then."""


def wrap_channel(
    channel: grpc.Channel,
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

    Wrap the channel before or after ``grpc.intercept_channel`` or other instrumentation: what is wrapped sees every
    attempt, what wraps the result sees every call.

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
        TypeError: it is a grpc.aio channel, which `grpc_faultwire.aio.wrap_channel` wraps.
    """
    if isinstance(channel, grpc.aio.Channel):
        raise TypeError(f"{type(channel).__name__} is a grpc.aio channel: use grpc_faultwire.aio.wrap_channel")
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
    """Return what a channel was made for; "" if it does not tell. Interceptors' channels hide it."""
    for _ in range(32):
        target = getattr(channel, "_target", None)
        if isinstance(target, str):
            return target
        channel = getattr(channel, "_channel", None)
        if channel is None:
            break
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
        self.backoffs = Backoffs()
        self._policy = policy
        self._audience = audience
        self._target = target
        self._clock = clock
        self._random = random
        self._options = tuple(options)
        self._known: dict[tuple[str, Kind], Method] = {}

    def find(self, path: str | bytes, kind: Kind, *, replays: bool) -> Method:
        """Return the method with this path.

        Args:
            path: "/shop.v1.Shop/GetBook".
            kind: its shape.
            replays: whether requests can be kept as bytes, which needs a hand on the serializer.
        """
        name = path.decode() if isinstance(path, bytes) else path
        method = self._known.get((name, kind))
        if method is None:
            if len(self._known) >= MAX_METHODS:
                self._known.clear()
            method = self._known[name, kind] = self._make(name, kind, replays=replays)
        return method

    def _make(self, path: str, kind: Kind, *, replays: bool) -> Method:
        call = CallInfo.of(path, kind=kind, side=Side.CLIENT, target=self._target)
        policies = self._policy.for_method(call) if self._policy is not None else None
        plan = Plan(call, clock=self._clock, audience=self._audience, policies=policies, random=self._random)
        if policies is not None and self._options and retried_by_core(self._options, path):
            # Once: what retries one method mostly retries them all.
            self._options = ()
            _LOGGER.warning(
                "The service config of the channel to %s retries %s too: attempts multiply", call.target, path
            )
        return Method(plan, self.backoffs, replays=replays and policies is not None and kind.request_streaming)


class Channel(grpc.Channel):
    """A wrapped channel; see `wrap_channel`. Attributes that it lacks are those of the channel inside.

    Args:
        inner: the channel inside.
        methods: how calls are made.
    """

    def __init__(self, inner: grpc.Channel, methods: Methods) -> None:
        self._inner = inner
        self._methods = methods

    def __getattr__(self, name: str) -> Any:
        if name == "_inner":
            raise AttributeError(name)
        return getattr(self._inner, name)

    def subscribe(
        self,
        callback: Callable[[grpc.ChannelConnectivity], None],
        try_to_connect: bool | None = None,  # noqa: FBT001  # grpc's signature
    ) -> None:
        """See grpc.Channel.subscribe."""
        self._inner.subscribe(callback, bool(try_to_connect))

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        """See grpc.Channel.unsubscribe."""
        self._inner.unsubscribe(callback)

    def unary_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,  # noqa: FBT001, FBT002  # what grpc's generated code gives
    ) -> UnaryUnaryMultiCallable:
        """See grpc.Channel.unary_unary."""
        known = self._methods.find(method, Kind.UNARY, replays=True)
        inner = self._inner.unary_unary(
            method, request_serializer, response_deserializer, **_registered(_registered_method)
        )
        return UnaryUnaryMultiCallable(inner, known)

    def unary_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,  # noqa: FBT001, FBT002  # as above
    ) -> UnaryStreamMultiCallable:
        """See grpc.Channel.unary_stream."""
        known = self._methods.find(method, Kind.SERVER_STREAM, replays=True)
        inner = self._inner.unary_stream(
            method, request_serializer, response_deserializer, **_registered(_registered_method)
        )
        return UnaryStreamMultiCallable(inner, known)

    def stream_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,  # noqa: FBT001, FBT002  # as above
    ) -> StreamUnaryMultiCallable:
        """See grpc.Channel.stream_unary."""
        known = self._methods.find(method, Kind.CLIENT_STREAM, replays=True)
        serializer = keeping(request_serializer) if known.replays else request_serializer
        inner = self._inner.stream_unary(method, serializer, response_deserializer, **_registered(_registered_method))
        return StreamUnaryMultiCallable(inner, known)

    def stream_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,  # noqa: FBT001, FBT002  # as above
    ) -> StreamStreamMultiCallable:
        """See grpc.Channel.stream_stream."""
        known = self._methods.find(method, Kind.BIDI_STREAM, replays=True)
        serializer = keeping(request_serializer) if known.replays else request_serializer
        inner = self._inner.stream_stream(method, serializer, response_deserializer, **_registered(_registered_method))
        return StreamStreamMultiCallable(inner, known)

    def close(self) -> None:
        """Close the channel: calls in flight end with CANCELLED, and so do those that wait to be sent again."""
        self._methods.backoffs.close()
        self._inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        self.close()
        return False


def _registered(registered: bool | None) -> dict[str, Any]:  # noqa: FBT001  # as above
    # Not every channel of another library knows this argument of grpc's own.
    return {"_registered_method": registered} if registered else {}

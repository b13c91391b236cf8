"""The official door: interceptors for ``grpc.intercept_channel``, where a channel cannot be wrapped."""

from __future__ import annotations

import random as random_numbers
import time
from collections import namedtuple
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import grpc

from grpc_faultwire.audience import Audience
from grpc_faultwire.plan import PolicySource
from grpc_faultwire.records import Kind
from grpc_faultwire.sources import source_of
from grpc_faultwire.sync.channel import Methods

if TYPE_CHECKING:
    from grpc_faultwire.config import ClientPolicy
    from grpc_faultwire.state import PolicyState


def client_interceptors(
    policy: ClientPolicy | PolicySource | None = None,
    *,
    observers: Iterable[Any] = (),
    state: PolicyState | None = None,
    target: str = "",
    clock: Callable[[], float] = time.monotonic,
    random: Callable[[], float] = random_numbers.random,
    options: Iterable[tuple[str, Any]] = (),
) -> list[ClientInterceptor]:
    """Return interceptors for ``grpc.intercept_channel`` that do what `wrap_channel` does, as far as grpc lets them.

    Prefer `wrap_channel`. Through this door:

    * a call that streams requests is never sent again, since its requests cannot be kept;
    * a blocking call is not hedged: grpc makes its attempts in the caller's thread, one after the other; futures are;
    * closing the channel does not wake a call that waits to be sent again: it fails when its time has come;
    * serializers are grpc's, and each call makes grpc's multi-callable anew, which costs time;
    * what interceptors outside ours make of an error is theirs: grpc hands errors to them as results.

    Args:
        policy: as for `wrap_channel`.
        observers: as for `wrap_channel`.
        state: as for `wrap_channel`.
        target: what observers and policies call the target; grpc does not tell interceptors.
        clock: as for `wrap_channel`.
        random: as for `wrap_channel`.
        options: as for `wrap_channel`: the arguments that the channel is made with.

    Returns:
        One interceptor, which serves all kinds of calls.
    """
    observers = tuple(observers)
    source = source_of(policy, state, observers)
    audience = Audience(observers)
    methods = Methods(source, audience=audience, target=target, clock=clock, random=random, options=options)
    return [ClientInterceptor(methods)]


_Details = namedtuple(  # noqa: PYI024  # grpc's interface has no such class to give types to
    "_Details", ("method", "timeout", "metadata", "credentials", "wait_for_ready", "compression")
)


class _ClientCallDetails(_Details, grpc.ClientCallDetails):
    """What a call is made with."""


class ClientInterceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """An interceptor for calls of all kinds; see `client_interceptors`.

    Args:
        methods: how calls are made.
    """

    def __init__(self, methods: Methods) -> None:
        self._methods = methods

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """See grpc.UnaryUnaryClientInterceptor."""
        return self._begin(Kind.UNARY, continuation, client_call_details, request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """See grpc.UnaryStreamClientInterceptor."""
        return self._begin(Kind.SERVER_STREAM, continuation, client_call_details, request)

    def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        """See grpc.StreamUnaryClientInterceptor."""
        return self._begin(Kind.CLIENT_STREAM, continuation, client_call_details, request_iterator)

    def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        """See grpc.StreamStreamClientInterceptor."""
        return self._begin(Kind.BIDI_STREAM, continuation, client_call_details, request_iterator)

    def _begin(self, kind: Kind, continuation: Any, details: Any, request: Any) -> Any:
        def send(request: Any, *, timeout: float | None, metadata: Any, wait_for_ready: bool | None = None) -> Any:
            changed = _ClientCallDetails(
                details.method,
                timeout,
                metadata,
                getattr(details, "credentials", None),
                wait_for_ready,
                getattr(details, "compression", None),
            )
            return continuation(changed, request)

        method = self._methods.find(details.method, kind, replays=False)
        wait = getattr(details, "wait_for_ready", None)
        timeout, metadata = getattr(details, "timeout", None), getattr(details, "metadata", None)
        return method.begin(send, request, timeout, metadata, (None, wait, None))

"""What the server interceptors of both worlds have in common: their settings, and the handlers they have wrapped."""

from __future__ import annotations

import abc
import random as random_module
import time
from collections.abc import Callable, Iterable
from typing import Any

import grpc

from grpc_faultwire.audience import Audience
from grpc_faultwire.exposure import Exposure
from grpc_faultwire.messages import reading
from grpc_faultwire.observers.logging import LoggingObserver
from grpc_faultwire.records import CallInfo, Kind, Side
from grpc_faultwire.redaction import Redactor
from grpc_faultwire.server_call import Served, Settings
from grpc_faultwire.translation import Translator
from grpc_faultwire.truncation import BUDGET

MAX_METHODS = 1000
"""How many wrapped handlers are remembered; a generic handler may answer to any name."""

_MAKE = {
    Kind.UNARY: ("unary_unary", grpc.unary_unary_rpc_method_handler),
    Kind.SERVER_STREAM: ("unary_stream", grpc.unary_stream_rpc_method_handler),
    Kind.CLIENT_STREAM: ("stream_unary", grpc.stream_unary_rpc_method_handler),
    Kind.BIDI_STREAM: ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


_Wrapped = tuple[Any, Any, CallInfo]
"""A handler, what it became, and what observers know its method by."""


class Interception(abc.ABC):
    """Turns what handlers raise into errors that leave the server whole, and ends every RPC.

    Args:
        translator: from exceptions to errors. Default: ``Translator()``, which masks what nobody declared.
        observers: watch every RPC. A `LoggingObserver` is added unless there is one: what is masked must be found.
        exposure: who may see stack traces. Default: nobody.
        redactor: decides what may leave. Default: the default redactor.
        budget: bytes that message and details of an error may take as they travel, 1024 to 8192. Default 6144: what the
            strictest common peers accept, with room for the trailers that proxies add.
        clock: returns seconds that never go back.
        wall_clock: returns seconds since the epoch.
        random: returns a number from 0 up to 1, for jitter.

    Raises:
        ValueError: a budget outside its range.
    """

    def __init__(
        self,
        translator: Translator | None = None,
        *,
        observers: Iterable[Any] = (),
        exposure: Exposure | None = None,
        redactor: Redactor | None = None,
        budget: int = BUDGET,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        redactor = redactor or Redactor()
        watching = tuple(observers)
        if not any(isinstance(observer, LoggingObserver) for observer in watching):
            watching = (*watching, LoggingObserver(redactor=redactor))
        self._settings = Settings(
            translator=translator or Translator(),
            audience=Audience(watching),
            redactor=redactor,
            exposure=exposure or Exposure(),
            budget=budget,
            clock=clock,
            wall_clock=wall_clock,
            random=random,
        )
        self._remembered: dict[str, _Wrapped] = {}

    def _wrapped(self, path: str, handler: Any) -> Any:
        """Return a handler wrapped; the same handler of a method is wrapped once.

        An interceptor inside may make a new handler for every call: then only the newest is remembered.
        """
        known = self._remembered.get(path)
        if known is not None and known[0] is handler:
            return known[1]
        wrapped = self._wrap(path, handler, known[2] if known is not None else None)
        if len(self._remembered) >= MAX_METHODS and path not in self._remembered:
            self._remembered.pop(next(iter(self._remembered)), None)
        self._remembered[path] = wrapped
        return wrapped[1]

    def _wrap(self, path: str, handler: Any, known: CallInfo | None) -> _Wrapped:
        # A handler is anything with these attributes: other interceptors make proxies of them.
        kind = Kind.of(request_streaming=handler.request_streaming, response_streaming=handler.response_streaming)
        name, make = _MAKE[kind]
        # Observers know a method by its CallInfo.
        info = known if known is not None and known.kind is kind else CallInfo.of(path, kind=kind, side=Side.SERVER)
        behavior = self._behavior(getattr(handler, name), Served(info, self._settings, handler.response_serializer))
        return handler, make(behavior, reading(handler.request_deserializer), handler.response_serializer), info

    def _failing(self, path: str, exception: BaseException) -> Any:
        """Return a handler that ends its RPC with what this exception becomes, whatever the caller's kind of call."""
        info = CallInfo.of(path, kind=Kind.BIDI_STREAM, side=Side.SERVER, known=False)

        def fail(_request: Any, _context: Any) -> Any:
            raise exception

        return grpc.stream_stream_rpc_method_handler(self._behavior(fail, Served(info, self._settings, None)))

    @abc.abstractmethod
    def _behavior(self, behavior: Callable[..., Any], served: Served) -> Callable[..., Any]:
        """Return this world's wrapper of a handler's behavior."""

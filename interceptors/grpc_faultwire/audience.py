"""The observers of a channel or a server, told together: a fault in one never reaches the call or the others."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Literal

from grpc_faultwire.records import Attempt, CallInfo, Observer, Outcome

_LOGGER = logging.getLogger(__name__)
_NOTHING: AbstractContextManager[None] = nullcontext()

Methods = tuple[tuple[int, str, Callable[..., Any]], ...]
"""A method of those observers that have it: the observer's place among them all, the method's name, the method."""

Tokens = list[Any]
"""What ``on_start`` returned, one for each observer."""


class Audience:
    """Observers whose methods were looked up once, so that a method nobody implements costs nothing.

    Args:
        observers: objects with any of `Observer`'s methods; inheriting from it implements none.
    """

    def __init__(self, observers: Iterable[Any] = ()) -> None:
        everyone = tuple(observers)
        self._size = len(everyone)
        self._intercepting = _implementing(everyone, "intercepting")
        self._start = _implementing(everyone, "on_start")
        self._extract = _implementing(everyone, "extract")
        self._inject = _implementing(everyone, "inject")
        self._activate = _implementing(everyone, "activate")
        self._end = _implementing(everyone, "on_end")
        self._succeeded = tuple(one for one in self._end if not getattr(one[2], "errors_only", False))
        self._active_from = min((_active_from(everyone[one[0]]) for one in self._succeeded), default=float("inf"))
        # Partials, as they cost no call of their own.
        self.ended: Callable[[Tokens, Outcome], None] = functools.partial(self._tell_end, self._end)
        """Tells that the call has ended."""
        self.succeeded: Callable[[Tokens, Outcome], None] = functools.partial(self._tell_end, self._succeeded)
        """Tells that the call has ended with OK, and that nothing was recovered from."""
        self._alone_intercepting = _alone(self._intercepting)
        self._alone_activate = _alone(self._activate)
        self._message = _implementing(everyone, "on_message")
        self.on_attempt_start = _implementing(everyone, "on_attempt_start")
        """Who wants to hear that attempts begin, for `tell`; and so on."""
        self.on_attempt_end = _implementing(everyone, "on_attempt_end")
        self.on_event = _implementing(everyone, "on_event")
        # Read for every call, so they are no properties.
        self.intercepts = bool(self._intercepting)
        """Whether anybody wants to be active while interceptors further in are asked for a handler."""
        self.counts_messages = bool(self._message)
        """Whether anybody wants to hear of messages."""
        self.activates = bool(self._activate)
        """Whether anybody wants to be active around the steps of a call."""
        self.extracts = bool(self._extract)
        """Whether anybody wants the metadata that calls came with."""
        self.counts_successes = bool(self._succeeded)
        """Whether anybody wants to hear of calls that ended with OK."""
        self.hears_ends = bool(self._end)
        """Whether anybody wants to hear that calls end."""
        self.injects = bool(self._inject)
        """Whether anybody has metadata to send along."""
        self._faulty: set[tuple[int, str]] = set()
        self._lock = threading.Lock()

    def intercepting(self) -> AbstractContextManager[Any]:
        """Return a context manager to enter while interceptors further in are asked for a handler."""
        if self._alone_intercepting is not None:
            index, name, method = self._alone_intercepting
            try:
                return method()
            except Exception as fault:  # noqa: BLE001  # an observer never fails a call
                self._log(index, name, fault)
                return _NOTHING
        return _Entrance(self, self._intercepting, None) if self._intercepting else _NOTHING

    def start(self, call: CallInfo) -> Tokens:
        """Tell of a call that begins, and return the tokens that all the rest is told with."""
        tokens: Tokens = [call] * self._size
        for index, name, method in self._start:
            try:
                tokens[index] = method(call)
            except Exception as fault:  # noqa: BLE001  # an observer never fails a call
                tokens[index] = None
                self._log(index, name, fault)
        return tokens

    def extract(self, tokens: Tokens, context: Any) -> None:
        """Tell of the metadata that a call came with; its context is asked for them only if somebody wants them."""
        if self._extract:
            self.tell(self._extract, tokens, context.invocation_metadata() or ())

    def message(self, tokens: Tokens, direction: Literal["sent", "received"]) -> None:
        """Tell of a message."""
        for index, name, method in self._message:
            try:
                method(tokens[index], direction)
            except Exception as fault:  # noqa: BLE001  # as above
                self._log(index, name, fault)

    def _tell_end(self, methods: Methods, tokens: Tokens, outcome: Outcome) -> None:
        """Tell that the call has ended.

        The observers are active meanwhile: a log line or an exemplar finds the span that another observer has made.
        Where all is well and was quick, they are only if somebody wants that.
        """
        if self.activates and (
            outcome.error is not None or outcome.recovered is not None or outcome.seconds >= self._active_from
        ):
            with self.activate(tokens):
                self.tell(methods, tokens, outcome)
            return
        for index, name, method in methods:  # tell(), written out: every call comes here
            try:
                method(tokens[index], outcome)
            except Exception as fault:  # noqa: BLE001  # as above
                self._log(index, name, fault)

    def injected(self, tokens: Tokens, attempt: Attempt) -> list[tuple[str, str | bytes]]:
        """Return the metadata that observers send along with an attempt."""
        pairs: list[tuple[str, str | bytes]] = []
        for index, name, method in self._inject:
            try:
                pairs.extend(method(tokens[index], attempt))
            except Exception as fault:  # noqa: BLE001  # as above
                self._log(index, name, fault)
        return pairs

    def activate(self, tokens: Tokens) -> AbstractContextManager[Any]:
        """Return a context manager that makes the call's observers active in this thread or task."""
        if self._alone_activate is not None:
            index, name, method = self._alone_activate
            try:
                return method(tokens[index])
            except Exception as fault:  # noqa: BLE001  # as above
                self._log(index, name, fault)
                return _NOTHING
        return _Entrance(self, self._activate, tokens) if self._activate else _NOTHING

    def tell(self, methods: Methods, tokens: Tokens, what: Any) -> None:
        """Tell those who want to hear of something."""
        for index, name, method in methods:
            try:
                method(tokens[index], what)
            except Exception as fault:  # noqa: BLE001  # as above
                self._log(index, name, fault)

    def _log(self, index: int, name: str, fault: Exception) -> None:
        with self._lock:
            known = (index, name) in self._faulty
            self._faulty.add((index, name))
        if not known:
            message = "The observer %d failed in %s; its further faults there are not logged"
            _LOGGER.error(message, index, name, exc_info=fault)


class _Entrance:
    """Enters what a method of every observer gave; leaves it in the opposite order."""

    __slots__ = ("_audience", "_entered", "_methods", "_tokens")

    def __init__(self, audience: Audience, methods: Methods, tokens: Tokens | None) -> None:
        self._audience = audience
        self._methods = methods
        self._tokens = tokens
        self._entered: list[tuple[int, str, AbstractContextManager[Any]]] = []

    def __enter__(self) -> None:
        for index, name, method in self._methods:
            try:
                manager = method() if self._tokens is None else method(self._tokens[index])
                manager.__enter__()
            except Exception as fault:  # noqa: BLE001  # an observer never fails a call
                self._audience._log(index, name, fault)
            else:
                self._entered.append((index, name, manager))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # What a manager returns is not looked at: an observer must not swallow an exception either.
        while self._entered:
            index, name, manager = self._entered.pop()
            try:
                manager.__exit__(kind, error, traceback)
            except Exception as fault:  # noqa: BLE001  # as above
                if fault is not error:
                    self._audience._log(index, name, fault)


_Method = tuple[int, str, Callable[..., AbstractContextManager[Any]]]


def _alone(methods: Methods) -> _Method | None:
    """Return the only observer's method, if its context managers need no guard."""
    return methods[0] if len(methods) == 1 and getattr(methods[0][2], "unguarded", False) else None


def _active_from(observer: Any) -> float:
    asked = getattr(observer, "active_from", 0.0)
    return float(asked) if isinstance(asked, int | float) else 0.0


def _implementing(observers: tuple[Any, ...], name: str) -> Methods:
    inherited = getattr(Observer, name)
    return tuple(
        (index, name, getattr(observer, name))
        for index, observer in enumerate(observers)
        if callable(getattr(observer, name, None)) and getattr(type(observer), name, None) is not inherited
    )

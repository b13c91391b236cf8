"""The observers of a channel or a server, told together: a fault in one never reaches the call or the others."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Literal

from grpc_faultwire.records import Attempt, CallInfo, Event, Observer, Outcome

_LOGGER = logging.getLogger(__name__)
_NOTHING: AbstractContextManager[None] = nullcontext()

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
        self._attempt_start = _implementing(everyone, "on_attempt_start")
        self._inject = _implementing(everyone, "inject")
        self._activate = _implementing(everyone, "activate")
        self._message = _implementing(everyone, "on_message")
        self._attempt_end = _implementing(everyone, "on_attempt_end")
        self._event = _implementing(everyone, "on_event")
        self._end = _implementing(everyone, "on_end")
        self._succeeded = tuple(pair for pair in self._end if not getattr(pair[1], "errors_only", False))
        self._active_from = min((_active_from(everyone[index]) for index, _ in self._succeeded), default=float("inf"))
        # Partials, as they cost no call of their own.
        self.ended: Callable[[Tokens, Outcome], None] = functools.partial(self._tell_end, self._end)
        """Tells that the call has ended, as `end` does, of an outcome that is made already."""
        self.succeeded: Callable[[Tokens, Outcome], None] = functools.partial(self._tell_end, self._succeeded)
        """Tells that the call has ended with OK, and that nothing was recovered from."""
        self._alone_intercepting = _alone(self._intercepting)
        self._alone_activate = _alone(self._activate)
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
        self.hears_attempts = bool(self._attempt_start)
        """Whether anybody wants to hear that attempts begin."""
        self.hears_attempts_end = bool(self._attempt_end)
        """Whether anybody wants to hear that attempts end."""
        self.hears_events = bool(self._event)
        """Whether anybody wants to hear of policies' events."""
        self.injects = bool(self._inject)
        """Whether anybody has metadata to send along."""
        self._faulty: set[tuple[int, str]] = set()
        self._lock = threading.Lock()

    def intercepting(self) -> AbstractContextManager[Any]:
        """Return a context manager to enter while interceptors further in are asked for a handler."""
        if self._alone_intercepting is not None:
            index, method = self._alone_intercepting
            try:
                return method()
            except Exception as fault:  # noqa: BLE001  # an observer never fails a call
                self._log(index, "intercepting", fault)
                return _NOTHING
        return _Entrance(self, "intercepting", self._intercepting, None) if self._intercepting else _NOTHING

    def start(self, call: CallInfo) -> Tokens:
        """Tell of a call that begins, and return the tokens that all the rest is told with."""
        tokens: Tokens = [call] * self._size
        for index, method in self._start:
            try:
                tokens[index] = method(call)
            except Exception as fault:  # noqa: BLE001  # an observer never fails a call
                tokens[index] = None
                self._log(index, "on_start", fault)
        return tokens

    def extract(self, tokens: Tokens, context: Any) -> None:
        """Tell of the metadata that a call came with; its context is asked for them only if somebody wants them."""
        if self._extract:
            self._tell("extract", self._extract, tokens, context.invocation_metadata() or ())

    def attempt_start(self, tokens: Tokens, attempt: Attempt) -> None:
        """Tell of an attempt that begins."""
        if self._attempt_start:
            self._tell("on_attempt_start", self._attempt_start, tokens, attempt)

    def attempt_end(self, tokens: Tokens, attempt: Attempt) -> None:
        """Tell of an attempt that has ended."""
        if self._attempt_end:
            self._tell("on_attempt_end", self._attempt_end, tokens, attempt)

    def message(self, tokens: Tokens, direction: Literal["sent", "received"]) -> None:
        """Tell of a message."""
        for index, method in self._message:
            try:
                method(tokens[index], direction)
            except Exception as fault:  # noqa: BLE001  # as above
                self._log(index, "on_message", fault)

    def event(self, tokens: Tokens, event: Event) -> None:
        """Tell what a policy decided."""
        if self._event:
            self._tell("on_event", self._event, tokens, event)

    def end(self, tokens: Tokens, outcome: Callable[[], Outcome]) -> None:
        """Tell that the call has ended; the outcome is made only if somebody wants it.

        The observers are active meanwhile: a log line or an exemplar finds the span that another observer has made.
        Where all is well and was quick, they are only if somebody wants that.
        """
        if self._end:
            self._tell_end(self._end, tokens, outcome())

    def _tell_end(self, methods: _Methods, tokens: Tokens, outcome: Outcome) -> None:
        if self.activates and (
            outcome.error is not None or outcome.recovered is not None or outcome.seconds >= self._active_from
        ):
            with self.activate(tokens):
                self._tell("on_end", methods, tokens, outcome)
            return
        for index, method in methods:
            try:
                method(tokens[index], outcome)
            except Exception as fault:  # noqa: BLE001  # as above
                self._log(index, "on_end", fault)

    def injected(self, tokens: Tokens, attempt: Attempt) -> list[tuple[str, str | bytes]]:
        """Return the metadata that observers send along with an attempt."""
        pairs: list[tuple[str, str | bytes]] = []
        for index, method in self._inject:
            try:
                pairs.extend(method(tokens[index], attempt))
            except Exception as fault:  # noqa: BLE001  # as above
                self._log(index, "inject", fault)
        return pairs

    def activate(self, tokens: Tokens) -> AbstractContextManager[Any]:
        """Return a context manager that makes the call's observers active in this thread or task."""
        if self._alone_activate is not None:
            index, method = self._alone_activate
            try:
                return method(tokens[index])
            except Exception as fault:  # noqa: BLE001  # as above
                self._log(index, "activate", fault)
                return _NOTHING
        return _Entrance(self, "activate", self._activate, tokens) if self._activate else _NOTHING

    def _tell(self, name: str, methods: _Methods, tokens: Tokens, what: Any) -> None:
        for index, method in methods:
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

    __slots__ = ("_audience", "_entered", "_methods", "_name", "_tokens")

    def __init__(self, audience: Audience, name: str, methods: _Methods, tokens: Tokens | None) -> None:
        self._audience = audience
        self._name = name
        self._methods = methods
        self._tokens = tokens
        self._entered: list[tuple[int, AbstractContextManager[Any]]] = []

    def __enter__(self) -> None:
        for index, method in self._methods:
            try:
                manager = method() if self._tokens is None else method(self._tokens[index])
                manager.__enter__()
            except Exception as fault:  # noqa: BLE001  # an observer never fails a call
                self._audience._log(index, self._name, fault)
            else:
                self._entered.append((index, manager))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # What a manager returns is not looked at: an observer must not swallow an exception either.
        while self._entered:
            index, manager = self._entered.pop()
            try:
                manager.__exit__(kind, error, traceback)
            except Exception as fault:  # noqa: BLE001  # as above
                if fault is not error:
                    self._audience._log(index, self._name, fault)


_Method = tuple[int, Callable[..., AbstractContextManager[Any]]]
_Methods = tuple[tuple[int, Callable[..., Any]], ...]


def _alone(methods: _Methods) -> _Method | None:
    """Return the only observer's method, if its context managers need no guard."""
    return methods[0] if len(methods) == 1 and getattr(methods[0][1], "unguarded", False) else None


def _active_from(observer: Any) -> float:
    asked = getattr(observer, "active_from", 0.0)
    return float(asked) if isinstance(asked, int | float) else 0.0


def _implementing(observers: tuple[Any, ...], name: str) -> _Methods:
    inherited = getattr(Observer, name)
    return tuple(
        (index, getattr(observer, name))
        for index, observer in enumerate(observers)
        if callable(getattr(observer, name, None)) and getattr(type(observer), name, None) is not inherited
    )

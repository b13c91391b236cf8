"""The observers of a plan, resolved once: what nobody implements costs nothing, and a fault in one fails no call."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from grpc_faultwire.records import Attempt, CallInfo, Event, Observer, Outcome

logger = logging.getLogger("grpc_faultwire")

Tokens = Sequence[Any]
"""What each observer's on_start returned, in the observers' order."""

_Method = tuple[int, Callable[..., Any]]


class Watchers:
    """Calls observers, in their order.

    Args:
        observers: objects with any of Observer's methods.
    """

    __slots__ = (
        "_activate",
        "_attempt_end",
        "_attempt_start",
        "_end",
        "_event",
        "_faults",
        "_inject",
        "_message",
        "_observers",
        "_start",
        "activates",
        "attempts",
        "injects",
        "messages",
    )

    def __init__(self, observers: Iterable[Any]) -> None:
        self._observers = tuple(observers)
        self._faults: set[tuple[int, str]] = set()
        self._start = self._implementing("on_start")
        self._attempt_start = self._implementing("on_attempt_start")
        self._attempt_end = self._implementing("on_attempt_end")
        self._inject = self._implementing("inject")
        self._activate = self._implementing("activate")
        self._message = self._implementing("on_message")
        self._event = self._implementing("on_event")
        self._end = self._implementing("on_end")
        self.activates = bool(self._activate)
        self.messages = bool(self._message)
        self.attempts = bool(self._attempt_start or self._attempt_end)
        self.injects = bool(self._inject)

    def _implementing(self, name: str) -> tuple[_Method, ...]:
        return tuple(
            (index, getattr(observer, name))
            for index, observer in enumerate(self._observers)
            if getattr(type(observer), name, None) not in (None, getattr(Observer, name))
        )

    def start(self, call: CallInfo) -> Tokens:
        """Begin a call; the tokens come back with everything else about it."""
        tokens: list[Any] = [None] * len(self._observers)
        for index, on_start in self._start:
            try:
                tokens[index] = on_start(call)
            except Exception:  # noqa: BLE001  # whatever a user's observer raises
                self._fault(index, "on_start")
        return tokens

    def attempt_start(self, tokens: Tokens, attempt: Attempt) -> None:
        """Begin an attempt."""
        self._tell(self._attempt_start, "on_attempt_start", tokens, attempt)

    def attempt_end(self, tokens: Tokens, attempt: Attempt) -> None:
        """End an attempt."""
        self._tell(self._attempt_end, "on_attempt_end", tokens, attempt)

    def inject(self, tokens: Tokens, attempt: Attempt) -> list[tuple[str, str | bytes]]:
        """Return the metadata that observers send with an attempt."""
        metadata: list[tuple[str, str | bytes]] = []
        for index, inject in self._inject:
            try:
                metadata.extend(inject(tokens[index], attempt))
            except Exception:  # noqa: BLE001  # whatever a user's observer raises
                self._fault(index, "inject")
        return metadata

    def message(self, tokens: Tokens, direction: str) -> None:
        """Count a message."""
        self._tell(self._message, "on_message", tokens, direction)

    def event(self, tokens: Tokens, event: Event) -> None:
        """Tell what was decided."""
        self._tell(self._event, "on_event", tokens, event)

    def end(self, tokens: Tokens, outcome: Outcome) -> None:
        """End a call."""
        self._tell(self._end, "on_end", tokens, outcome)

    def active(self, tokens: Tokens) -> AbstractContextManager[None]:
        """Return what is entered around each step of a handler or stream."""
        return self._entered(tokens) if self.activates else _NOTHING

    @contextlib.contextmanager
    def _entered(self, tokens: Tokens) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for index, activate in self._activate:
                try:
                    stack.enter_context(activate(tokens[index]))
                except Exception:  # noqa: BLE001  # whatever a user's observer raises
                    self._fault(index, "activate")
            yield

    def _tell(self, methods: tuple[_Method, ...], name: str, tokens: Tokens, what: Any) -> None:
        for index, method in methods:
            try:
                method(tokens[index], what)
            except Exception:  # noqa: BLE001  # whatever a user's observer raises
                self._fault(index, name)

    def _fault(self, index: int, name: str) -> None:
        if (index, name) not in self._faults:
            self._faults.add((index, name))
            logger.exception("%s.%s raised; this is logged once", type(self._observers[index]).__name__, name)


_NOTHING = contextlib.nullcontext()

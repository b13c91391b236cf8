"""What a call does between attempts: it waits, gets fresh credentials, asks its fallbacks."""

from __future__ import annotations

import contextvars
import logging
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from grpc_faultwire.aio.answer import Answer, is_stream
from grpc_faultwire.aio.consulting import Then, consult
from grpc_faultwire.aio.waiting import Waiting
from grpc_faultwire.errors import StatusError
from grpc_faultwire.faults import warn_once
from grpc_faultwire.plan import UNANSWERED

_LOGGER = logging.getLogger(__name__)

Backoffs = set[Any]
"""The calls of a channel that wait for something else than the wire, so that closing the channel ends them."""


class Recovering(Waiting):
    """Part of `Running`, which sets the attributes."""

    __slots__ = ("_backoffs", "_context", "_following", "_last", "_request", "_timer")

    _backoffs: Backoffs
    _context: contextvars.Context | None
    """The caller's, for what is done later; None of a call that is one attempt."""
    _request: Any
    _following: Any
    _last: Any
    _timer: Any

    @abstractmethod
    def again(self) -> None:
        """Send the next attempt."""

    @abstractmethod
    def go_on(self, delay: float | None) -> None:
        """Do what the flow has decided about the next attempt."""

    @abstractmethod
    def conclude(self, error: StatusError | None) -> None:
        """Let everybody know that the call has ended."""

    def schedule(self, delay: float, function: Callable[[], None]) -> None:
        """Do something in so many seconds, in place of what was scheduled before, unless the call ends."""
        self.unschedule()
        self._backoffs.add(self)
        self._timer = self.loop.call_later(delay, self._due, function, context=self._context)

    def unschedule(self) -> None:
        """Do not do what was scheduled."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._backoffs.discard(self)

    def _due(self, function: Callable[[], None]) -> None:
        self._timer = None
        self._backoffs.discard(self)
        function()

    def _consult(self, ask: Callable[[], Any], then: Then) -> None:
        task = consult(ask, then, loop=self.loop, context=self._context or contextvars.copy_context())
        if task is not None:
            self._backoffs.add(self)
            self._timer = task

    def refresh(self) -> None:
        """Send the next attempt: with fresh credentials if its error asked for them, and where a stream broke off."""
        refresh = self.flow.refresh
        if refresh is None:
            self._resume()
        else:
            self._consult(refresh, self._refreshed)

    def _refreshed(self, pairs: Any, raised: BaseException | None) -> None:
        if self.ended:
            return
        self._due(lambda: None)
        try:
            if pairs is not None:
                self.flow.credentials = tuple((key, value) for key, value in pairs)
        except (TypeError, ValueError) as wrong:
            raised = wrong
        if raised is None:
            self._resume()
        else:
            self._give_up(getattr(self.flow.refresh, "func", None), raised, "Credentials could not be refreshed")

    def _resume(self) -> None:
        resume, request, last = self.flow.resume, self._request, self._last
        if resume is None or last is UNANSWERED:
            self.again()
        else:
            self._consult(lambda: resume(request, last), self._resumed)

    def _resumed(self, following: Any, raised: BaseException | None) -> None:
        if self.ended:
            return
        self._due(lambda: None)
        if raised is None:
            self._following = following
            self.again()
        else:
            self._give_up(self.flow.resume, raised, "A stream could not be resumed")

    def _give_up(self, function: Any, raised: BaseException, what: str) -> None:
        warn_once(_LOGGER, function, raised, what)
        self.flow.give_up()
        self.go_on(None)

    def fall_back(self) -> None:
        """Ask the fallbacks; the call ends with their answer, or its error."""
        request, self.call = self._request, None
        self._consult(lambda: self.flow.fall_back(request), self._fallen)

    def _fallen(self, answer: Any, raised: BaseException | None) -> None:
        if raised is not None or (self.flow.plan.call.kind.response_streaming and not is_stream(answer)):
            answer = UNANSWERED
        if not self.flow.fallen(answer):
            return
        self._due(lambda: None)
        if self.flow.error is None:
            self.call = Answer(answer)
        self.conclude(self.flow.error)

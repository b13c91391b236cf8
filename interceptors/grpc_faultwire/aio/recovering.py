"""What a call does between attempts: it waits, gets fresh credentials, asks its fallbacks."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from grpc_faultwire.aio.answer import Answer
from grpc_faultwire.aio.consulting import Then, consult
from grpc_faultwire.aio.waiting import Waiting
from grpc_faultwire.errors import StatusError
from grpc_faultwire.fallback import UNANSWERED
from grpc_faultwire.flow import Flow

_LOGGER = logging.getLogger(__name__)

Backoffs = set[Any]
"""The calls of a channel that wait for something else than the wire, so that closing the channel ends them."""


class Recovering(Waiting):
    """Part of `Running`. Made in the context of the caller, which all that follows runs in.

    Args:
        flow: what is decided.
        loop: the channel's.
        backoffs: the channel's.
    """

    __slots__ = ("_backoffs", "_context", "_request", "_timer")

    def __init__(self, flow: Flow, loop: asyncio.AbstractEventLoop, backoffs: Backoffs) -> None:
        super().__init__(flow, loop)
        self._backoffs = backoffs
        self._context = contextvars.copy_context()
        self._request: Any = None
        self._timer: Any = None

    @abstractmethod
    def again(self) -> None:
        """Send the next attempt."""

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
        task = consult(ask, then, loop=self.loop, context=self._context)
        if task is not None:
            self._backoffs.add(self)
            self._timer = task

    def refresh(self) -> None:
        """Send the next attempt, with fresh credentials if its error asked for them."""
        refresh = self.flow.refresh
        if refresh is None:
            self.again()
        else:
            self._consult(refresh, self._refreshed)

    def _refreshed(self, pairs: Any, raised: BaseException | None) -> None:
        if self.ended:
            return
        self._due(lambda: None)
        try:
            if raised is None:
                self.flow.credentials = tuple((key, value) for key, value in pairs or ())
        except (TypeError, ValueError) as wrong:
            raised = wrong
        if raised is None:
            self.again()
            return
        _LOGGER.warning("Credentials were not refreshed; the call ends with its own error", exc_info=raised)
        self.flow.close(self.flow.attempts[-1].error, "done")
        self.conclude(self.flow.error)

    def fall_back(self) -> None:
        """Ask the fallbacks; the call ends with their answer, or its error."""
        request, self.call = self._request, None
        self._consult(lambda: self.flow.fall_back(request), self._fallen)

    def _fallen(self, answer: Any, raised: BaseException | None) -> None:
        if not self.flow.fallen(UNANSWERED if raised is not None else answer):
            return
        self._due(lambda: None)
        if self.flow.error is None:
            self.call = Answer(answer)
        self.conclude(self.flow.error)

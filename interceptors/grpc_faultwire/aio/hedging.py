"""The attempts of a hedged call: several may be in flight, and the first good answer, or a fatal error, ends it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc

from grpc_faultwire.aio.native import failure, is_local
from grpc_faultwire.errors import StatusError
from grpc_faultwire.getters import at_once
from grpc_faultwire.records import Attempt

if TYPE_CHECKING:
    from grpc_faultwire.aio.running import Running


class Hedges:
    """Part of `Running`, for unary calls that may be hedged. The call has no attempt of its own until one has won.

    Args:
        running: the call.
    """

    __slots__ = ("_flying", "_judging", "_running")

    def __init__(self, running: Running) -> None:
        self._running = running
        self._flying: list[tuple[Attempt, Any]] = []
        self._judging: set[asyncio.Task[None]] = set()

    @property
    def flying(self) -> bool:
        """Whether any attempt is in flight."""
        return bool(self._flying)

    def add(self, attempt: Attempt, call: Any) -> None:
        """Go on with another attempt, which is on the wire."""
        self._flying.append((attempt, call))
        self._await_next()
        call.add_done_callback(self._on_done)

    def lost(self, attempt: Attempt, error: StatusError) -> None:
        """Go on after an attempt that failed before it had a call object."""
        self._settle(attempt, None, error)

    def cut(self) -> None:
        """Cancel all that is in flight: the call has ended."""
        flying, self._flying = self._flying, []
        for _, call in flying:
            if not self._running.loop.is_closed():
                call.cancel()

    # When the next one is due.

    def _await_next(self) -> None:
        due = self._running.flow.hedge_in()
        if due is not None:
            self._running.schedule(due, self._hedge)

    def _hedge(self) -> None:
        attempt = self._running.flow.hedge()
        if attempt is not None:
            self._running.resend(attempt)

    # Ends.

    def _on_done(self, call: Any) -> None:
        attempt = self._landed(call)
        if attempt is None or self._running.ended:
            return
        try:
            error = None if at_once(call.code()) is grpc.StatusCode.OK else at_once(failure(call))
        except Exception:  # noqa: BLE001  # an interceptor's call that has to wait, or raises: failure() knows what to do
            task = self._running.loop.create_task(self._judge_later(attempt, call))
            self._judging.add(task)
            task.add_done_callback(self._judging.discard)
            return
        self._judge(attempt, call, error)

    async def _judge_later(self, attempt: Attempt, call: Any) -> None:
        self._judge(attempt, call, await failure(call))

    def _judge(self, attempt: Attempt, call: Any, error: StatusError | None) -> None:
        running = self._running
        if running.ended:
            return
        if error is None:
            running.win(attempt, call)
        elif is_local(error):
            # Not by us: its channel was closed.
            running.end(error, "cancelled")
        else:
            self._settle(attempt, call, error)

    def _settle(self, attempt: Attempt, call: Any, error: StatusError) -> None:
        running = self._running
        if running.flow.refresh is None:
            # What was due is so no more: the policy says anew.
            running.unschedule()
        delay = running.flow.settle(attempt, error)
        if delay is not None:
            running.schedule(delay, running.refresh)
        elif running.flow.how is None and running.flow.falling is None:
            self._await_next()
        else:
            # So that who awaits it finds grpc's own error, the cause of ours.
            running.call = call
            running.go_on(None)

    def _landed(self, call: Any) -> Attempt | None:
        for index, (attempt, flying) in enumerate(self._flying):
            if flying is call:
                del self._flying[index]
                return attempt
        return None

"""Those who wait for the attempts of a call: tasks that want its response, its next message, or to know of its end."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import Any

import grpc.aio

from grpc_faultwire.aio.listeners import Listeners
from grpc_faultwire.aio.native import is_doubtful, is_usage
from grpc_faultwire.errors import StatusError
from grpc_faultwire.flow import Flow
from grpc_faultwire.local_errors import failed
from grpc_faultwire.records import How
from grpc_faultwire.status import from_rpc_error


class Waiting(Listeners):
    """Part of `Running`, which sets the attributes.

    Attributes:
        flow: what is decided.
        call: grpc's call object of the attempt in flight; None between attempts, while hedges are out, and if there
            was none.
        ended: whether the call has ended for its caller.
        error: what it ended with; None while it goes on, and after OK.
    """

    __slots__ = ("call", "ended", "error", "flow")

    flow: Flow
    call: Any
    ended: bool
    error: StatusError | None

    @abstractmethod
    def cancel(self) -> bool:
        """Cancel the call; False if it has ended."""

    @abstractmethod
    def end(self, error: StatusError, how: How) -> bool:
        """End the call from outside; False if it has ended."""

    @abstractmethod
    def judge(self, call: Any, error: StatusError | None) -> None:
        """Go on after the attempt in flight has ended."""

    @abstractmethod
    def fail(self, error: StatusError) -> None:
        """Go on after the attempt in flight has failed."""

    async def next_call(self) -> Any:
        """Wait for another attempt, and return grpc's call object; cancels the RPC if the waiting task is cancelled.

        Raises:
            StatusError: the call has ended.
            asyncio.CancelledError: it was cancelled.
        """
        while self.call is None:
            if self.ended:
                self.raise_end(None)
            await self._turn_or_cancel()
        return self.call

    async def after(self, call: Any, raised: BaseException) -> bool:
        """Look what it means that grpc's call object raised something.

        Returns:
            True: raise it again. False: another attempt takes over.

        Raises:
            StatusError: the call has ended with this error.
        """
        if isinstance(raised, grpc.aio.AioRpcError):
            if call is self.call and not self.ended:
                self._learn(call, from_rpc_error(raised))
            while (self.call is None or self.call is call) and not self.ended:
                await self._turn_or_cancel()
            if self.ended:
                self.raise_end(raised)
            return False
        if isinstance(raised, asyncio.CancelledError):
            if self.flow.how == "failed":
                self.raise_end(raised)
            if call is not self.call and _is_cancelled():
                # This attempt had just failed: cancelling it was too late, and nothing else told its call.
                self.cancel()
        elif not is_usage(raised):
            # Metadata or a request that grpc cannot send: it raises in its own task, and there never is a status.
            self.end(failed(raised, grpc.aio.Metadata()), "failed")
        return True

    async def _turn_or_cancel(self) -> None:
        try:
            await self.turn()
        except asyncio.CancelledError:
            self.cancel()
            raise

    def _learn(self, call: Any, error: StatusError) -> None:
        if not call.done():
            # An interceptor of the bare channel, or its iterator, raised it on its own.
            self.fail(error)
            call.cancel()
        elif not is_doubtful(error):
            self.judge(call, error)

    def raise_end(self, cause: BaseException | None) -> None:
        """Raise what the call ended with, if it did not end with OK.

        A copy: with its traceback it would keep this call, which keeps the error.

        Args:
            cause: grpc's own error.
        """
        if self.error is None:
            return
        if self.flow.how in ("cancelled", "abandoned"):
            raise asyncio.CancelledError
        # No variable holds it: its traceback leads back to this frame.
        raise self.error.__copy__() from self.error.__cause__ or cause  # noqa: RSE102  # it is a method that is called


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

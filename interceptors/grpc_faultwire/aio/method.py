"""How the calls of one method are made."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from grpc_faultwire.aio.running import Backoffs, Running, Send
from grpc_faultwire.flow import Flow, Plan

R = TypeVar("R", bound=Running)


class Method:
    """How the calls of one method are made.

    Args:
        plan: what is decided about them.
        loop: the channel's.
        backoffs: the channel's.
    """

    __slots__ = ("_counts", "_loop", "backoffs", "plan")

    def __init__(self, plan: Plan, loop: asyncio.AbstractEventLoop, backoffs: Backoffs) -> None:
        self.plan = plan
        self.backoffs = backoffs
        self._loop = loop
        # The requests of a stream are counted where they are serialized.
        self._counts = plan.audience.counts_messages and not plan.call.kind.request_streaming

    @property
    def wants_bytes(self) -> bool:
        """Whether the requests of a stream are counted, or kept for another attempt."""
        plan = self.plan
        return plan.call.kind.request_streaming and (plan.audience.counts_messages or plan.policies is not None)

    def begin(self, send: Send, request: Any, timeout: float | None, metadata: Any) -> Running:
        """Begin a call: its first attempt is on the wire, unless a policy refused it.

        Raises:
            Exception: what grpc raises at once, such as UsageError on a closed channel.
        """
        running = self.prepare(Running, send, timeout)
        running.start(request, metadata)
        return running

    def prepare(self, running: type[R], send: Send, timeout: float | None) -> R:
        """Begin a call, of which nothing is on the wire yet."""
        flow = Flow(self.plan, timeout)
        if self._counts:
            flow.message("sent")
        return running(flow, send, self._loop, self.backoffs)

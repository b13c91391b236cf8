"""How the calls of one method are made."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from grpc_faultwire.aio.recovering import Backoffs
from grpc_faultwire.plan import Plan

if TYPE_CHECKING:
    from grpc_faultwire.aio.running import Running


class Method:
    """How the calls of one method are made.

    Args:
        plan: what is decided about them.
        loop: the channel's.
        backoffs: the channel's.

    Attributes:
        plan: the same, and so are the others.
        answering: the call whose response is about to be deserialized: it lives till then, though nobody may hold it.
        activates: whether observers are to be activated.
        counts: whether messages are to be counted.
        hedges: whether several attempts may be in flight.
        injects: whether observers have metadata to send along.
        retries: whether there may be several attempts.
        learns: whether a fallback wants to know good answers.
        message: tells observers of a message.
        replay_bytes: of a request stream that are kept for another attempt.
        streams_requests: whether the caller sends a stream.
        streams_responses: whether the server does.
        wait_for_ready: for calls that do not say.
    """

    __slots__ = (
        "activates",
        "answering",
        "backoffs",
        "counts",
        "hedges",
        "injects",
        "learns",
        "loop",
        "message",
        "plan",
        "replay_bytes",
        "retries",
        "streams_requests",
        "streams_responses",
        "wait_for_ready",
    )

    def __init__(self, plan: Plan, loop: asyncio.AbstractEventLoop, backoffs: Backoffs) -> None:
        self.plan = plan
        self.loop = loop
        self.backoffs = backoffs
        self.answering: Running | None = None
        self.activates = plan.audience.activates
        self.counts = plan.audience.counts_messages
        self.message = plan.audience.message
        self.injects = plan.audience.injects
        self.streams_requests = plan.call.kind.request_streaming
        self.streams_responses = plan.call.kind.response_streaming
        self.hedges = plan.hedges
        self.retries = plan.policies is not None
        self.learns = plan.learn is not None
        self.replay_bytes = plan.replay_bytes
        self.wait_for_ready = plan.wait_for_ready

    @property
    def wants_bytes(self) -> bool:
        """Whether the requests of a stream are counted, or kept for another attempt."""
        return self.streams_requests and (self.counts or self.retries)

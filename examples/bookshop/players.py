"""Plays a scene in either world, and keeps what came of it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.rpc import status_pb2

from bookshop.v1 import bookshop_pb2 as pb
from examples.bookshop.processes import Log
from examples.bookshop.scenes import Scene
from grpc_faultwire import StatusError
from grpc_faultwire.truncation import base64_size

METHODS = pb.DESCRIPTOR.services_by_name["Bookshop"].methods_by_name


@dataclass(kw_only=True)
class Evidence:
    """What came of a scene in one world.

    Attributes:
        world: "sync" or "aio".
        error: what was caught; None: nothing was.
        received: the messages that came before it, and before that the answers of earlier calls.
        seconds: how long the last call took.
        logged: the server's line about it; "": there is none.
    """

    world: str
    error: StatusError | None = None
    received: list[Any] = field(default_factory=list)
    seconds: float = 0.0
    logged: str = ""

    @property
    def trailers(self) -> dict[str, Any]:
        return dict(self.error.trailing_metadata() or ())

    @property
    def status(self) -> status_pb2.Status:
        """What came in the details trailer, as it came."""
        return status_pb2.Status.FromString(self.trailers.get("grpc-status-details-bin", b""))

    @property
    def wire(self) -> str:
        """Everything that came with the status, to look for what should not be there."""
        texts = (
            value if isinstance(value, str) else value.decode(errors="replace") for value in self.trailers.values()
        )
        return "\n".join((self.error.message, *texts))

    @property
    def details_size(self) -> int:
        """Bytes of message and details as they travel: in base64."""
        return len(self.error.message.encode()) + base64_size(self.status.ByteSize())

    def alike(self, scene: Scene) -> tuple[Any, ...] | None:
        """What must be the same in both worlds. Without Faultwire not even the message is."""
        error = self.error
        if error is None or scene.plain:
            return error and (type(error),)
        return type(error), error.message, error.reason, error.metadata, error.category, error.retry_scope

    def find_log(self, log: Log, since: int, scene: Scene) -> None:
        """Find the server's line by the id that the caller got; without one there is only the time to go by."""
        mark = (self.error.error_id if self.error else "") or scene.log_mark
        self.logged = log.find(lambda line: mark in line, since=since)


def play_sync(stub: Any, scene: Scene) -> Evidence:
    evidence = Evidence(world="sync")
    try:
        for _ in range(scene.calls):
            started = time.perf_counter()
            answer = getattr(stub, scene.method)(_request(scene, iter(scene.requests)), timeout=scene.timeout)
            for message in answer if METHODS[scene.method].server_streaming else (answer,):
                evidence.received.append(message)
    except StatusError as error:
        evidence.error = error
    evidence.seconds = time.perf_counter() - started
    return evidence


async def play_aio(stub: Any, scene: Scene) -> Evidence:
    evidence = Evidence(world="aio")
    try:
        for _ in range(scene.calls):
            started = time.perf_counter()
            call = getattr(stub, scene.method)(_request(scene, _each(scene.requests)), timeout=scene.timeout)
            if METHODS[scene.method].server_streaming:
                async for message in call:
                    evidence.received.append(message)
            else:
                evidence.received.append(await call)
    except StatusError as error:
        evidence.error = error
    evidence.seconds = time.perf_counter() - started
    return evidence


def _request(scene: Scene, requests: Any) -> Any:
    return requests if METHODS[scene.method].client_streaming else scene.requests[0]


async def _each(requests: Sequence[Any]) -> AsyncIterator[Any]:
    for request in requests:
        yield request

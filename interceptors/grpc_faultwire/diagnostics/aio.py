"""`Diagnostics` for grpc.aio's servers."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from typing import Any, NoReturn

from faultwire.v1 import diagnostics_pb2 as pb
from faultwire.v1 import diagnostics_pb2_grpc
from grpc_faultwire.diagnostics.desk import Desk, logger
from grpc_faultwire.errors import StatusError


class DiagnosticsServicer(diagnostics_pb2_grpc.DiagnosticsServicer):
    """As `grpc_faultwire.diagnostics.sync.DiagnosticsServicer`, for grpc.aio.

    Args:
        arguments: see `Desk`: ``groups``, ``states``, ``authorise``, which may be a coroutine function.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self._desk = Desk(*arguments, **settings)

    async def GetSnapshot(self, request: pb.GetSnapshotRequest, context: Any) -> pb.Snapshot:  # noqa: N802  # the proto's name
        """Return what is known now."""
        await self._admit(context, "read")
        return self._desk.snapshot(request.max_groups)

    async def WatchSnapshots(  # noqa: N802
        self, request: pb.WatchSnapshotsRequest, context: Any
    ) -> AsyncIterator[pb.Snapshot]:
        """Return what is known now, and again and again until the caller leaves."""
        await self._admit(context, "read")
        try:
            self._desk.watch()
        except StatusError as error:
            await _refuse(context, error)
        try:
            while True:
                yield self._desk.snapshot(request.max_groups)
                await asyncio.sleep(self._desk.interval(request))
        finally:
            self._desk.unwatch()

    async def ForceBreaker(self, request: pb.ForceBreakerRequest, context: Any) -> pb.Breaker:  # noqa: N802
        """Hold a breaker open or closed, or let it decide again."""
        await self._admit(context, "force")
        try:
            return self._desk.force(request)
        except StatusError as error:
            await _refuse(context, error)

    async def _admit(self, context: Any, action: str) -> None:
        answer = self._desk.ask(context, action)
        if inspect.isawaitable(answer):
            try:
                answer = await answer
            except Exception:  # noqa: BLE001  # whatever a user's hook raises, its answer is no
                logger.exception("the authorisation hook raised; the caller was refused")
                answer = False
        if answer is not True:
            await _refuse(context, self._desk.refusal())


async def _refuse(context: Any, error: StatusError) -> NoReturn:
    # By the context: an exception would need an interceptor of ours on this server.
    await context.abort(error.code(), error.message)
    raise AssertionError("abort raises")

"""`Diagnostics` for grpc's synchronous servers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, NoReturn

from faultwire.v1 import diagnostics_pb2 as pb
from faultwire.v1 import diagnostics_pb2_grpc
from grpc_faultwire.diagnostics.desk import Desk
from grpc_faultwire.errors import StatusError


class DiagnosticsServicer(diagnostics_pb2_grpc.DiagnosticsServicer):
    """The admin service; give it to ``faultwire.v1.diagnostics_pb2_grpc.add_DiagnosticsServicer_to_server``.

    Every call asks the authorisation hook; without one every call is refused, and so it is if the hook raises.

    Args:
        arguments: see `Desk`: ``groups``, ``states``, ``authorise``.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self._desk = Desk(*arguments, **settings)
        self._lock = threading.Lock()

    def GetSnapshot(self, request: pb.GetSnapshotRequest, context: Any) -> pb.Snapshot:  # noqa: N802  # the proto's name
        """Return what is known now."""
        self._admit(context, "read")
        return self._desk.snapshot(request.max_groups)

    def WatchSnapshots(self, request: pb.WatchSnapshotsRequest, context: Any) -> Iterator[pb.Snapshot]:  # noqa: N802
        """Return what is known now, and again and again until the caller leaves."""
        self._admit(context, "read")
        left = threading.Event()
        if not context.add_callback(left.set):
            return
        try:
            with self._lock:
                self._desk.watch()
        except StatusError as error:
            _refuse(context, error)
        try:
            yield self._desk.snapshot(request.max_groups)
            while not left.wait(self._desk.interval(request)):
                yield self._desk.snapshot(request.max_groups)
        finally:
            with self._lock:
                self._desk.unwatch()

    def ForceBreaker(self, request: pb.ForceBreakerRequest, context: Any) -> pb.Breaker:  # noqa: N802
        """Hold a breaker open or closed, or let it decide again."""
        self._admit(context, "force")
        try:
            return self._desk.force(request)
        except StatusError as error:
            _refuse(context, error)

    def _admit(self, context: Any, action: str) -> None:
        # Only True is a yes: a coroutine, which a hook for aio returns, is true as well.
        if self._desk.ask(context, action) is not True:
            _refuse(context, self._desk.refusal())


def _refuse(context: Any, error: StatusError) -> NoReturn:
    # By the context: an exception would need an interceptor of ours on this server.
    context.abort(error.code(), error.message)
    raise AssertionError("abort raises")

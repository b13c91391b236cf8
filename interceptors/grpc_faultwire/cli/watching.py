"""The snapshots of a server as they come, and again after it was away."""

from __future__ import annotations

import queue
import random
import threading
from typing import Any, Self

import grpc

from faultwire.v1 import diagnostics_pb2 as pb
from faultwire.v1 import diagnostics_pb2_grpc
from grpc_faultwire.cli.connection import Metadata
from grpc_faultwire.details import duration
from grpc_faultwire.errors import DeadlineExceeded, StatusError, Unavailable
from grpc_faultwire.policies import RetryPolicy
from grpc_faultwire.status import from_rpc_error

FINAL = frozenset(
    {
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.INVALID_ARGUMENT,
    }
)
"""Codes after which it makes no sense to try again."""
RECONNECT = RetryPolicy(initial_backoff=0.5, max_backoff=10.0)
"""The waits between attempts to reach a server again."""

_SENTENCES = {
    grpc.StatusCode.UNIMPLEMENTED: "serves no diagnostics: add faultwire.v1.Diagnostics to it (docs/batches.md)",
    grpc.StatusCode.PERMISSION_DENIED: "refuses this caller: its authorisation hook must say yes; -H sends metadata",
    grpc.StatusCode.UNAUTHENTICATED: "does not know this caller: -H 'authorization: …' sends what it wants to see",
    grpc.StatusCode.UNAVAILABLE: "cannot be reached",
    grpc.StatusCode.DEADLINE_EXCEEDED: "does not answer in time",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "is watched by too many already",
}


class Lost:
    """The news that the server has gone.

    Attributes:
        error: why.
        delay: seconds until the next attempt to reach it. None: there is none.
    """

    def __init__(self, error: StatusError, delay: float | None) -> None:
        self.error = error
        self.delay = delay


class Watcher:
    """Watches a server in a thread of its own.

    Args:
        channel: to the server.
        metadata: sent with every call.
        interval: seconds between snapshots.
        groups: how many groups of errors.
        patience: seconds that a first snapshot may take.

    Attributes:
        news: snapshots and `Lost`, as they come.
    """

    def __init__(
        self, channel: grpc.Channel, metadata: Metadata, *, interval: float, groups: int, patience: float
    ) -> None:
        self.news: queue.SimpleQueue[pb.Snapshot | Lost] = queue.SimpleQueue()
        self._stub = diagnostics_pb2_grpc.DiagnosticsStub(channel)
        self._metadata = metadata
        self._request = pb.WatchSnapshotsRequest(max_groups=groups, interval=duration(interval))
        self._patience = patience
        self._over = threading.Event()
        self._call: Any = None
        self._seen = False
        self._failed = 0
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        self._over.set()
        if self._call is not None:
            self._call.cancel()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.is_set():
            error = self._follow()
            if self._over.is_set():
                return
            self._failed += 1
            again = self._seen and error.code() not in FINAL
            delay = RECONNECT.backoff(self._failed, random.random()) if again else None
            self.news.put(Lost(error, delay))
            if delay is None:
                return
            self._over.wait(delay)

    def _follow(self) -> StatusError:
        """Hand on snapshots until they end; return why they do."""
        self._call = self._stub.WatchSnapshots(self._request, metadata=self._metadata)
        if self._over.is_set():
            self._call.cancel()
        # A watch has no deadline, but its first snapshot has: a server may take the call and say nothing.
        timer = threading.Timer(self._patience, self._call.cancel)
        timer.daemon = True
        timer.start()
        came = False
        try:
            for snapshot in self._call:
                timer.cancel()
                came = self._seen = True
                self._failed = 0
                self.news.put(snapshot)
        except grpc.RpcError as error:
            late = error.code() is grpc.StatusCode.CANCELLED and not came
            return DeadlineExceeded("No snapshot came.") if late else from_rpc_error(error)
        finally:
            timer.cancel()
        return Unavailable("The server ended the watch.")


def sentence(target: str, error: StatusError) -> str:
    """Say why a server tells nothing."""
    known = _SENTENCES.get(error.code())
    said = f" ({error.code().name}: {error.message})" if error.message else f" ({error.code().name})"
    return f"{target} {known or 'does not tell'}{said}"

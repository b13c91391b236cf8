"""The calls of a channel that wait to be sent again."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from grpc_faultwire.errors import StatusError
from grpc_faultwire.local_errors import cancelled

if TYPE_CHECKING:
    from grpc_faultwire.sync.running import Running


class Backoffs:
    """The calls of a channel that wait to be sent again, so that closing the channel ends them."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self._lock = threading.Lock()
        self._waiting: set[Running] = set()

    def add(self, running: Running) -> bool:
        """Take a call in; False if the channel is closed."""
        with self._lock:
            if not self.closed.is_set():
                self._waiting.add(running)
            return not self.closed.is_set()

    def discard(self, running: Running) -> None:
        """Forget a call that waits no longer."""
        with self._lock:
            self._waiting.discard(running)

    def close(self) -> None:
        """End all that wait, and wake the threads that wait for themselves."""
        with self._lock:
            self.closed.set()
            waiting, self._waiting = self._waiting, set()
        for running in waiting:
            running.end(closed_channel(), "done")


def closed_channel() -> StatusError:
    """Make the error with which grpc ends the calls of a channel that is closed."""
    return cancelled("Channel closed!", ())

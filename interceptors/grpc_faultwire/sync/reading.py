"""A call whose attempt in flight is read by threads that wait: for responses, or for initial metadata.

Who decides when an attempt has ended? grpc's callback, in the channel's thread; but a thread that waits inside the
attempt decides in its place as long as something may take its place: else both would go on, and a message would be
delivered twice.
"""

from __future__ import annotations

from typing import Any

import grpc

from grpc_faultwire.records import Attempt
from grpc_faultwire.sync.native import raised_by
from grpc_faultwire.sync.running import ENDED, Running


class Reading(Running):
    """A future or a stream."""

    _readers = 0
    _left = False
    _only: tuple[Attempt, Any] | None = None
    """The attempt whose responses the caller gets to the end: nobody need be told any more that it is being read."""

    def _left_to_reader(self) -> bool:
        if not self._readers or not self.flow.recoverable:
            return False
        self._left = True
        return True

    def next(self) -> Any:
        """Return the next response, or ENDED."""
        audience = self.flow.plan.audience
        while (entered := self._only or self._enter()) is not None:
            attempt, inner = entered
            only = entered is self._only
            try:
                response = self._read(inner) if audience.activates else next(inner)
            except StopIteration:
                self._leave(attempt, inner, only=only)
                self._settle(attempt, None)
            except grpc.RpcError as raised:
                error = raised_by(inner, raised)
                self._leave(attempt, inner, only=only)
                self._settle(attempt, error)
            except BaseException:
                self._leave(attempt, inner, only=only)
                raise
            else:
                if only or self._delivered(attempt, inner, response):
                    if audience.counts_messages:
                        audience.message(self.flow.tokens, "received")
                    return response
            self._await_change(attempt)
        return next(self._answers, ENDED)

    def _read(self, inner: Any) -> Any:
        with self.flow.activate():
            return next(inner)

    def _delivered(self, attempt: Attempt, inner: Any, response: Any) -> bool:
        """Whether the caller gets a response; not if another attempt has taken over."""
        delivered = self.flow.deliver()
        if delivered and self.flow.resume is not None:
            self._last = response
        self._leave(attempt, inner)
        if delivered and not self.flow.retriable:
            self._only = attempt, inner
        return delivered

    def initial_metadata(self) -> Any:
        """Return the initial metadata, once they are there; None if the call has ended without."""
        while (entered := self._enter()) is not None:
            attempt, inner = entered
            delivered = False
            try:
                metadata = inner.initial_metadata()
                if self.flow.recoverable and inner.done():
                    self._left = True
                else:
                    delivered = self.flow.deliver()
            finally:
                self._leave(attempt, inner)
            if delivered:
                return metadata
            self._await_change(attempt)
        return None if self.inner is None or self.flow.error is not None else self.inner.initial_metadata()

    def _enter(self) -> tuple[Attempt, Any] | None:
        """Become a reader of the attempt in flight, waiting for it if need be; None if the call has ended."""
        with self._changed:
            while not self.done:
                if self._attempt is not None:
                    self._readers += 1
                    return self._attempt, self.inner
                self._changed.wait()
        return None

    def _leave(self, attempt: Attempt, inner: Any, *, only: bool = False) -> None:
        if only:
            self._only = None
            return
        with self._changed:
            self._readers -= 1
            decide = self._left and not self._readers
            if decide:
                self._left = False
        if decide:
            self._decide(attempt, inner)
            self._fire_elsewhere()

    def _await_change(self, attempt: Attempt) -> None:
        """Wait until whoever ends the call, or goes on to another attempt, has done so."""
        with self._changed:
            self._changed.wait_for(lambda: self.done or self._attempt is not attempt)
        self._fire_elsewhere()

"""The requests of a call that streams them: counted, and kept so that another attempt can send them again."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from grpc_faultwire.flow import Flow
from grpc_faultwire.records import Attempt

Serializer = Callable[[Any], Any]


class Counted:
    """The caller's iterator, for one attempt; each request is told to the observers."""

    def __init__(self, source: Iterator[Any], flow: Flow) -> None:
        self._source = source
        self._flow = flow

    def of(self, _attempt: Attempt) -> Iterator[Any]:
        """Return the requests of the only attempt."""
        return self

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        request = next(self._source)
        self._flow.message("sent")
        return request


class _Kept:
    """One request: the caller's object at first, its bytes as soon as there are any."""

    __slots__ = ("data", "message", "serialized")

    def __init__(self, message: Any) -> None:
        self.message = message
        self.data: Any = None
        self.serialized = False


def keeping(serializer: Serializer | None) -> Serializer:
    """Return a serializer for the requests that `Requests` gives to grpc.

    Bytes are kept, not messages: callers use a message again once it has been sent.
    """

    def serialize(request: _Sent) -> Any:
        kept, requests = request
        return requests.serialize(kept, serializer)

    return serialize


class Requests:
    """The caller's one iterator, for as many attempts as there will be.

    grpc reads each attempt's requests in a thread of its own, and the thread of an attempt that has failed may still be
    inside the caller's iterator: what it gets there is kept for its successor.

    Args:
        source: the caller's.
        flow: the call; it is committed when the requests become too many to keep.
        limit: bytes to keep.
    """

    def __init__(self, source: Iterator[Any], flow: Flow, limit: int) -> None:
        self._source = source
        self._flow = flow
        self._limit = limit
        self._size = 0
        self._dropped = 0
        self._kept: deque[_Kept] = deque()
        self._fault: BaseException | None = None
        self._newest: Attempt | None = None
        self._lock = threading.Lock()
        self._pulling = threading.Lock()

    def of(self, attempt: Attempt) -> Iterator[_Sent]:
        """Return all the requests, for one attempt."""
        self._newest = attempt
        return _Replay(self, attempt)

    def at(self, position: int, attempt: Attempt) -> _Kept:
        """Return the request at a position, counted from 0; the caller's iterator is asked if it is a new one."""
        kept = self._find(position, attempt)
        if kept is not None:
            return kept
        with self._pulling:
            kept = self._find(position, attempt)
            return kept if kept is not None else self._pull()

    def serialize(self, kept: _Kept, serializer: Serializer | None) -> Any:
        """Return the bytes of a request."""
        with self._lock:
            if not kept.serialized:
                kept.data = kept.message if serializer is None else serializer(kept.message)
                kept.message, kept.serialized = None, True
                self._size += len(kept.data) if isinstance(kept.data, bytes) else 0
            data, full = kept.data, self._size > self._limit
        if full:
            self._flow.commit()
        return data

    def _find(self, position: int, attempt: Attempt) -> _Kept | None:
        with self._lock:
            if self._flow.committed and attempt is self._newest:
                while self._kept and self._dropped < position:
                    self._kept.popleft()
                    self._dropped += 1
            index = position - self._dropped
            if index < 0:
                raise StopIteration
            return self._kept[index] if index < len(self._kept) else None

    def _pull(self) -> _Kept:
        if self._fault is not None:
            # A generator that has raised would now end as if nothing had happened, and the server would take the
            # requests so far for all of them.
            raise self._fault
        try:
            kept = _Kept(next(self._source))
        except StopIteration:
            self._fault = StopIteration()
            raise
        except BaseException as fault:
            self._fault = fault
            raise
        with self._lock:
            self._kept.append(kept)
        self._flow.message("sent")
        return kept


class _Replay:
    """An attempt's requests, from the first. It ends when the attempt has ended."""

    def __init__(self, requests: Requests, attempt: Attempt) -> None:
        self._requests = requests
        self._attempt = attempt
        self._position = 0

    def __iter__(self) -> Iterator[_Sent]:
        return self

    def __next__(self) -> _Sent:
        if self._attempt.ended is not None:
            raise StopIteration
        kept = self._requests.at(self._position, self._attempt)
        self._position += 1
        return kept, self._requests


_Sent = tuple[_Kept, Requests]
"""What grpc gets: a request, and where it is kept. Those that are kept do not know it, or all would be a cycle."""

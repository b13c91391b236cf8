"""What a caller learns of a batch whose items are answered one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import grpc
from google.protobuf.message import Message

from grpc_faultwire.batch import fields
from grpc_faultwire.batch.reading import ItemFailure, Report
from grpc_faultwire.errors import StatusError
from grpc_faultwire.status import from_rpc_error


class StreamReport:
    """Reads the outcome of items from a stream's responses, each with a status of its own.

    A response has a ``google.rpc.Status`` field and, unless responses come in the order of the items, one named
    ``index`` or ``indexes``.

    Args:
        total: how many items were sent. None: as many as were answered.
        status: the name of the status field. None: the only one.
    """

    def __init__(self, total: int | None = None, *, status: str | None = None) -> None:
        self._total = total
        self._field = status
        self._answered: set[int] = set()
        self._failures: list[ItemFailure] = []
        self._next = 0

    def read(self, response: Message) -> list[tuple[int, StatusError | None]]:
        """Return the items that a response is about, each with its error; None: it is well.

        Raises:
            TypeError: the response has no status field, or several.
        """
        status = getattr(response, fields.find(response, self._field, fields.is_status).name)
        found: list[tuple[int, StatusError | None]] = []
        for index in self._indexes(response):
            if index in self._answered or not 0 <= index < (self._total or index + 1):
                continue  # a second answer changes nothing, and one to no item is none
            self._answered.add(index)
            failure = ItemFailure(index, "", status)
            if status.code:
                self._failures.append(failure)
            found.append((index, failure.error if status.code else None))
        return found

    def watch(self, responses: Iterable[Any], each: Callable[[Any], Any] | None = None) -> Report:
        """Read all responses of a sync stream, and return the report; the stream's error is in it.

        Args:
            responses: a call.
            each: called with every response.
        """
        try:
            for response in responses:
                self.read(response)
                if each is not None:
                    each(response)
        except grpc.RpcError as error:
            return self.report(from_rpc_error(error))
        return self.report()

    def report(self, error: StatusError | None = None) -> Report:
        """Return the outcome so far.

        Args:
            error: what the stream ended with. None: it has not failed.
        """
        total = max(self._answered, default=-1) + 1 if self._total is None else self._total
        unknown = [index for index in range(total) if index not in self._answered]
        return Report(self._failures, total=total, unknown=unknown, error=error)

    def _indexes(self, response: Message) -> Sequence[int]:
        if not fields.has(response, fields.is_index):
            self._next += 1
            return (self._next - 1,)
        field = fields.find(response, None, fields.is_index)
        value = getattr(response, field.name)
        return tuple(value) if field.is_repeated else (value,)

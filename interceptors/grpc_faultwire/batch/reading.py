"""What a caller learns of a batch: `batch_report`, and its failures as typed errors.

Nothing here raises over what a peer sent: counts that contradict the items, items named twice and indexes that cannot
be are set right, in the way that claims the least success.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import status_pb2

from faultwire.v1 import errors_pb2
from grpc_faultwire.batch import fields
from grpc_faultwire.batch.overall import NOT_ATTEMPTED
from grpc_faultwire.errors import StatusError, Unknown
from grpc_faultwire.redaction import escaped
from grpc_faultwire.status import DETAILS_KEY, decode, from_rpc_error

_CODES = {code.value[0]: code for code in grpc.StatusCode}


def error_of(status: status_pb2.Status) -> StatusError:
    """Return the typed error of a google.rpc.Status that is no RPC's own, such as an item's."""
    trailers = ((DETAILS_KEY, status.SerializeToString()),)
    error = decode(_CODES.get(status.code), status.message, trailing_metadata=trailers)
    error._trailing_metadata = None
    return error


class ItemFailure:
    """An item that failed.

    Attributes:
        index: in the request, from 0.
        key: what the caller called it; "" if it has none.
        status: what its server said.
    """

    __slots__ = ("__dict__", "index", "key", "status")

    def __init__(self, index: int, key: str, status: status_pb2.Status) -> None:
        self.index = index
        self.key = key
        self.status = status

    @cached_property
    def error(self) -> StatusError:
        """What it failed with, typed; a note on it says which item it was."""
        error = error_of(self.status)
        error.add_note(place(self.index, self.key))
        return error

    def __repr__(self) -> str:
        return f"<{place(self.index, self.key)}: {self.error}>"


def place(index: int, key: str = "") -> str:
    """Return which item it is, for people."""
    return f"item {index} ({escaped(key)})" if key else f"item {index}"


class BatchError(ExceptionGroup[StatusError]):
    """The errors of a batch's items: ``except* NotFound`` takes those of a class.

    Attributes:
        report: what is known of the batch: a `Report`, or a `BatchResult`.
    """

    report: Any = None

    def derive(self, errors: Sequence[Any], /) -> BatchError:  # type: ignore[override]  # members are StatusErrors
        """Return a group of some of the members."""
        return batch_error(self.message, errors, self.report)


def batch_error(message: str, errors: Sequence[StatusError], report: Any) -> BatchError:
    """Return the errors of a batch as one group."""
    error = BatchError(message, errors)
    error.report = report
    return error


class Report:
    """The outcome of a batch.

    Attributes:
        total: how many items there were. None: the response does not say.
        failed: how many failed; at least as many as are named.
        not_attempted: how many had no turn. Of a partial success they are among `failures`, to be sent again.
        rolled_back: how many were well, and were undone because others failed.
        atomic: whether nothing was kept.
        failures: those that are named, by index.
        unknown: of a stream, the items that were never answered.
        error: what the RPC failed with; None if it did not.
    """

    def __init__(
        self,
        failures: Iterable[ItemFailure],
        *,
        total: int | None = None,
        counts: errors_pb2.BatchReport | None = None,
        unknown: Sequence[int] = (),
        error: StatusError | None = None,
    ) -> None:
        self.failures = _first_of_each(failures)
        self.error = error
        self.unknown = tuple(unknown)
        self.total = total
        self.atomic = False
        self.rolled_back = 0
        skipped = sum(one.status.code == _ABORTED and one.error.reason == NOT_ATTEMPTED for one in self.failures)
        self.not_attempted = skipped
        self.failed = len(self.failures) - skipped
        if counts is not None:
            self.total = counts.total if total is None else total
            self.atomic = counts.atomic
            self.failed = max(counts.failed, self.failed)
            self.not_attempted = max(counts.not_attempted, skipped)
            self.rolled_back = counts.rolled_back
        self._listed_skips = not self.atomic

    @property
    def unnamed(self) -> int:
        """How many failures are counted and not named: a report has a size limit."""
        listed = self.failed + (self.not_attempted if self._listed_skips else 0)
        return max(0, listed - len(self.failures))

    @property
    def succeeded(self) -> int | None:
        """How many items are well. None: the response does not say how many there were."""
        if self.total is None or (self.error is not None and not self.atomic and not self.failures):
            return None
        if self.atomic and self.failed:
            return 0
        return max(0, self.total - self.failed - self.not_attempted - len(self.unknown))

    @property
    def ok(self) -> bool:
        """Whether every item is known to be well."""
        return not (self.failed or self.not_attempted or self.unknown or self.error)

    def raise_if_failed(self) -> None:
        """Raise the errors of all items that are named, in one group.

        Raises:
            BatchError: items failed.
            StatusError: the RPC failed, and says nothing of items.
        """
        if self.ok:
            return
        errors = [failure.error for failure in self.failures]
        if not errors and self.error is not None:
            raise self.error
        if not errors:
            errors.append(Unknown(f"{self.failed or len(self.unknown)} items; none is named"))
        raise batch_error(self._sentence(), errors, self)

    def _sentence(self) -> str:
        of = "" if self.total is None else f" of {self.total}"
        more = "".join(
            f", {number} {what}"
            for number, what in (
                (self.not_attempted, "were not attempted"),
                (self.rolled_back, "were rolled back"),
                (len(self.unknown), "were never answered"),
                (self.unnamed, "are not named"),
            )
            if number
        )
        return f"{self.failed}{of} items failed{more}"

    def __iter__(self) -> Iterator[ItemFailure]:
        return iter(self.failures)


_ABORTED = grpc.StatusCode.ABORTED.value[0]


def _first_of_each(failures: Iterable[ItemFailure]) -> tuple[ItemFailure, ...]:
    found: dict[int, ItemFailure] = {}
    for failure in failures:
        if failure.index >= 0 and failure.status.code:
            found.setdefault(failure.index, failure)
    return tuple(found[index] for index in sorted(found))


def batch_report(answer: Message | grpc.RpcError, *, total: int | None = None, field: str | None = None) -> Report:
    """Return the outcome of a batch, from its response or from its error.

    Args:
        answer: a response with a ``map<int32, google.rpc.Status>`` or a `BatchReport` field; or any error of an RPC.
            One that says nothing of items is the report's `error`.
        total: how many items were sent, for responses that do not say.
        field: the name of the field. None: the only one of such a type.

    Raises:
        TypeError: the response has no such field, or several.
    """
    if isinstance(answer, grpc.RpcError):
        error = from_rpc_error(answer)
        found = error.batch
        return Report(_named(found) if found else (), total=total, counts=found, error=error)
    place_of = fields.find(answer, field, fields.is_outcome)
    value = getattr(answer, place_of.name)
    if fields.is_report(place_of):
        return Report(_named(value), total=total, counts=value)
    return Report((ItemFailure(index, "", status) for index, status in value.items()), total=total)


def _named(report: errors_pb2.BatchReport) -> Iterator[ItemFailure]:
    for failure in report.failures:
        yield ItemFailure(failure.index, failure.key, failure.status)
    for group in report.groups:
        keys = dict(enumerate(group.keys))
        for position, index in enumerate(group.indexes):
            yield ItemFailure(index, keys.get(position, ""), group.status)

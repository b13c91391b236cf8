"""What became of a batch: every index ends in exactly one of ok, failed and unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from grpc_faultwire.batch.reading import batch_error, place
from grpc_faultwire.errors import StatusError

State = Literal["ok", "failed", "unknown"]


@dataclass(frozen=True, slots=True)
class ItemEnd:
    """An item that did not end well.

    Attributes:
        index: in the caller's sequence, from 0.
        error: what it failed with last, typed.
        attempts: how often it was sent; 0: never.
    """

    index: int
    error: StatusError
    attempts: int


class Progress(NamedTuple):
    """How far a batch is. Every item that was taken is in exactly one of the five.

    Attributes:
        total: how many items there are. None: not known yet.
        ok: carried out.
        failed: known not to be carried out, and not sent again.
        unknown: sent, and never answered: perhaps carried out.
        in_flight: sent, and not answered yet.
        waiting: to be sent again.
        requests: how many requests were sent.
    """

    total: int | None
    ok: int
    failed: int
    unknown: int
    in_flight: int
    waiting: int
    requests: int


class BatchResult:
    """What became of a batch.

    Attributes:
        total: how many items there were, as far as they were taken.
        exhausted: whether all items were taken. False: the batch was cancelled, and its iterable may hold more.
        values: what the server gave for items that are well, by index; empty if responses hold no such thing.
        failures: the items that are known to have failed, or were never sent, by index.
        unknown: the items that were sent and never acknowledged, by index: they may have been carried out, or not.
        requests: how many requests were sent.
        retried: how many items were sent in requests beyond their first.
    """

    def __init__(
        self,
        *,
        total: int,
        exhausted: bool,
        values: Mapping[int, Any],
        failures: Mapping[int, ItemEnd],
        unknown: Mapping[int, ItemEnd],
        requests: int,
        retried: int,
    ) -> None:
        self.total = total
        self.exhausted = exhausted
        self.values = values
        self.failures = failures
        self.unknown = unknown
        self.requests = requests
        self.retried = retried

    @property
    def succeeded(self) -> int:
        """How many items are well."""
        return self.total - len(self.failures) - len(self.unknown)

    @property
    def ok(self) -> bool:
        """Whether all items are well."""
        return self.exhausted and not self.failures and not self.unknown

    def state(self, index: int) -> State:
        """Return how an item ended.

        Raises:
            IndexError: there is no such item.
        """
        if not 0 <= index < self.total:
            raise IndexError(f"there is no item {index}: there were {self.total}")
        if index in self.failures:
            return "failed"
        return "unknown" if index in self.unknown else "ok"

    def raise_if_failed(self) -> None:
        """Raise the errors of all items that are not known to be well, in one group.

        Raises:
            BatchError: items failed, or it is not known whether they did.
        """
        ends = sorted((*self.failures.values(), *self.unknown.values()), key=lambda end: end.index)
        if not ends:
            return
        sentence = f"{len(self.failures)} of {self.total} items failed"
        if self.unknown:
            sentence += f", {len(self.unknown)} were never acknowledged"
        raise batch_error(sentence, [_noted(end) for end in ends], self)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} of {self.total}: {self.succeeded} ok, {len(self.failures)} failed, "
            f"{len(self.unknown)} unknown, {self.requests} requests>"
        )


def _noted(end: ItemEnd) -> StatusError:
    # The items of a request that failed as a whole share its error; each gets a copy that says which item it is.
    note = place(end.index)
    if any(str(one).startswith(note) for one in getattr(end.error, "__notes__", ())):
        return end.error
    error = end.error.replace()
    error.__notes__ = [note]
    return error

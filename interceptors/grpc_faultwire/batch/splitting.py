"""How a sequence becomes requests: by number of items and by bytes, taken only when there is room to send."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

from google.protobuf.message import Message


class Sent:
    """An item on its way, from when it is first taken until it has ended.

    Attributes:
        index: in the caller's sequence, from 0.
        item: the caller's.
        size: serialized bytes, with what a repeated field adds.
        attempts: how often it was sent.
        due: when it may be sent again, on the monotonic clock.
        error: what it failed with last.
        certain: whether that error says that the item was not carried out; else nobody can know.
        share: tokens of the budget that are set aside for its next attempt.
    """

    __slots__ = ("attempts", "certain", "due", "error", "index", "item", "share", "size")

    def __init__(self, index: int, item: Any, size: int) -> None:
        self.index = index
        self.item = item
        self.size = size
        self.attempts = 0
        self.due = 0.0
        self.error: Any = None
        self.certain = True
        self.share = 0.0


def size_of(item: Any) -> int:
    """Return the serialized bytes of a protobuf message, bytes or text.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(item, Message):
        return item.ByteSize()
    if isinstance(item, bytes | str):
        return len(item) if isinstance(item, bytes) else len(item.encode())
    raise TypeError(f"the size of {type(item).__name__} is not known: give a size function")


class Splitter:
    """Takes items from an iterable, a request's worth at a time.

    Args:
        items: the caller's.
        max_items: in a request.
        max_bytes: of all items in a request. One that is larger goes alone.
        size: from an item to its serialized bytes.

    Attributes:
        taken: how many items were taken so far.
        total: how many there are. None: not known yet.
        exhausted: whether nothing was left in the iterable.
        fault: what the iterable, or the size function, raised; that ends it.
    """

    def __init__(
        self, items: Iterable[Any], *, max_items: int, max_bytes: int, size: Callable[[Any], int] = size_of
    ) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._size = size
        self._items: Iterator[Any] = iter(items)
        self._ahead: Sent | None = None
        self._sized = isinstance(items, Sized)
        self.exhausted = False
        self.fault: Exception | None = None
        self.taken = 0
        self.total = len(items) if isinstance(items, Sized) else None
        self._look()

    @property
    def done(self) -> bool:
        """Whether all items were taken."""
        return self._ahead is None

    def take(self) -> list[Sent]:
        """Return the items of the next request; empty at the end."""
        taken: list[Sent] = []
        used = 0
        while self._ahead is not None and self._fits(len(taken), used + self._ahead.size):
            used += self._ahead.size
            taken.append(self._ahead)
            self.taken += 1
            self._look()
        return taken

    def take_from(self, waiting: list[Sent]) -> list[Sent]:
        """Remove a request's worth from the front of a list, and return it."""
        used = number = 0
        while number < len(waiting) and self._fits(number, used + waiting[number].size):
            used += waiting[number].size
            number += 1
        taken, waiting[:] = waiting[:number], waiting[number:]
        return taken

    def fills(self, waiting: list[Sent]) -> bool:
        """Tell whether a list has more than a request's worth, or exactly that."""
        return len(waiting) >= self._max_items or sum(one.size for one in waiting) >= self._max_bytes

    def _fits(self, number: int, used: int) -> bool:
        return number == 0 or (number < self._max_items and used <= self._max_bytes)

    def rest(self) -> Iterator[Sent]:
        """Take what is left, if its number is known, else only what was taken from the iterable already."""
        while (ahead := self._ahead) is not None:
            self.taken += 1
            if self._sized:
                self._look()
            else:
                self._ahead = None
            yield ahead

    def _look(self) -> None:
        try:
            for item in self._items:
                size = self._size(item)
                # Beside its bytes an item of a repeated field takes a tag and its length.
                self._ahead = Sent(self.taken, item, size + 1 + max(1, (size.bit_length() + 6) // 7))
                return
        except Exception as fault:  # noqa: BLE001  # told once the items that were taken before have ended
            self.fault = fault
        else:
            self.exhausted = True
            self.total = self.taken
        self._ahead = None

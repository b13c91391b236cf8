"""Space-Saving: the most frequent of endlessly many kinds, in bounded memory (Metwally, Agrawal, El Abbadi, 2005).

With m counters and n events: the counts add up to n; a count is at least the true one, and exceeds it by no more than
its own `over`, which is at most n / m; every kind that makes up more than n / m of the events has a counter.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Counter(Generic[K, V]):
    """One of the counters.

    Attributes:
        kind: what it counts.
        count: how many there were, at most.
        over: how many of them may have been of kinds whose place it took.
        value: what its user keeps with it.
    """

    __slots__ = ("count", "kind", "over", "value")

    def __init__(self, kind: K, over: int, value: V) -> None:
        self.kind = kind
        self.count = over
        self.over = over
        self.value = value


class SpaceSaving(Generic[K, V]):
    """Counts kinds with a fixed number of counters. Not synchronised.

    Args:
        size: how many counters.

    Attributes:
        total: how many events were counted, whatever their kind.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"size is {size!r}; it must be 1 or more")
        self._size = size
        self._counters: dict[K, Counter[K, V]] = {}
        self.total = 0

    def __len__(self) -> int:
        return len(self._counters)

    def add(self, kind: K, value: V) -> Counter[K, V]:
        """Count one more of a kind, and return its counter.

        Args:
            kind: which.
            value: what is kept with the counter, if it is a new one.
        """
        counter = self._counters.get(kind)
        if counter is None:
            counter = self._counters[kind] = Counter(kind, self._make_room(), value)
        counter.count += 1
        self.total += 1
        return counter

    def top(self, number: int | None = None) -> list[Counter[K, V]]:
        """Return the counters, the highest first.

        Args:
            number: how many at the most. None: all.
        """
        return sorted(self._counters.values(), key=lambda counter: -counter.count)[:number]

    def _make_room(self) -> int:
        """Give up the lowest counter if there is no other left; return what it had counted."""
        if len(self._counters) < self._size:
            return 0
        # A search through some hundred counters takes less than the error that it is for.
        lowest = min(self._counters.values(), key=lambda counter: counter.count)
        del self._counters[lowest.kind]
        return lowest.count

"""Which of many alike are worth saying: the first five, then every power of two, or one a minute. No count is lost."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple

FIRST = 5
"""How many of a kind are all said."""
MAX_KINDS = 1024
"""How many kinds are remembered; the one seen least recently goes first."""


class Turn(NamedTuple):
    """What to do about one more of a kind.

    Attributes:
        say: whether it is worth saying.
        suppressed: how many of its kind were not said since the last that was; 0 if this one is not said either.
    """

    say: bool
    suppressed: int


class Summary(NamedTuple):
    """What was not said of a kind, and will not come up by itself soon."""

    kind: str
    suppressed: int


class _Kind:
    __slots__ = ("count", "said_at", "suppressed")

    def __init__(self) -> None:
        self.count = 0
        self.said_at = float("-inf")
        self.suppressed = 0


class Repeats:
    """Counts by kind, from any thread.

    Args:
        period: seconds after which one is said again, whatever the count.
    """

    def __init__(self, period: float = 60.0) -> None:
        if period <= 0:
            raise ValueError(f"period is {period!r}; it must be more than 0 seconds")
        self._period = period
        self._kinds: OrderedDict[str, _Kind] = OrderedDict()
        self._pending: OrderedDict[str, None] = OrderedDict()
        self._dropped: list[Summary] = []
        self._lock = threading.Lock()

    def turn(self, kind: str, now: float) -> Turn:
        """Count one more of a kind."""
        with self._lock:
            known = self._kinds.get(kind)
            if known is None:
                known = self._add(kind)
            self._kinds.move_to_end(kind)
            known.count += 1
            count = known.count
            if count <= FIRST or not count & (count - 1) or now - known.said_at >= self._period:
                turn = Turn(say=True, suppressed=known.suppressed)
                known.suppressed, known.said_at = 0, now
                self._pending.pop(kind, None)
            else:
                known.suppressed += 1
                self._pending[kind] = None
                turn = Turn(say=False, suppressed=0)
            return turn

    def overdue(self, now: float) -> list[Summary]:
        """Return, once, what was not said of kinds that were forgotten or have not come up for a period."""
        with self._lock:
            found, self._dropped = self._dropped, []
            while self._pending:
                kind = next(iter(self._pending))
                known = self._kinds[kind]
                if now - known.said_at < self._period:
                    break
                del self._pending[kind]
                found.append(Summary(kind, known.suppressed))
                known.suppressed = 0
            return found

    def _add(self, kind: str) -> _Kind:
        if len(self._kinds) >= MAX_KINDS:
            name, oldest = self._kinds.popitem(last=False)
            self._pending.pop(name, None)
            if oldest.suppressed:
                self._dropped.append(Summary(name, oldest.suppressed))
        known = self._kinds[kind] = _Kind()
        return known

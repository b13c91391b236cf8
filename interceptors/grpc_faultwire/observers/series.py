"""Series of prometheus_client, changed in one step.

What prometheus_client checks whenever a series is changed, that it has its labels and that nothing negative is added,
was settled when the series was made. And one call changes a dozen series, each of which has a lock of its own: here
they are counted in one place, and each series reads its share when it is scraped. Where several processes write their
values to files (prometheus_client's multiprocess mode), each series is changed at once, as others read it there.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from prometheus_client.values import MutexValue

Add = Callable[[float], None]

Step = tuple[Any, float]
"""A counter or gauge, and what is added to it."""

Part = Callable[[], float]


def adding(*series: Any) -> Add:
    """Return what adds to counters and gauges, the same to each."""
    values: list[Any] = [getattr(one, "_value", None) for one in series]
    if len(values) == 1:
        add: Add = series[0].inc if values[0] is None else values[0].inc
        return add
    if not _are_shareable(values):
        return _all(tuple(adding(one) for one in series))
    total = _Total()
    for value in values:
        _share(value, total.read)
    return total.add


def observing(histograms: Sequence[Any], steps: Iterable[Step]) -> Add:
    """Return what takes an observation into histograms of the same buckets, and takes other steps meanwhile."""
    steps = tuple(steps)
    try:
        sums = [one._sum for one in histograms]
        buckets = [tuple(one._buckets) for one in histograms]
        bounds = histograms[0]._upper_bounds
    except AttributeError:  # pragma: no cover  # a prometheus_client that keeps them otherwise
        return _stepping(tuple(one.observe for one in histograms), steps)
    values: list[Any] = [getattr(one, "_value", None) for one, _ in steps]
    if not _are_shareable([*sums, *values, *(bucket for of_one in buckets for bucket in of_one)]):
        return _stepping(tuple(map(_into, sums, [bounds] * len(sums), buckets)), steps)
    tally = _Tally(bounds)
    for value in sums:
        _share(value, tally.sum)
    for of_one in buckets:
        for index, value in enumerate(of_one):
            _share(value, tally.bucket(index))
    for value, (_, amount) in zip(values, steps, strict=True):
        _share(value, tally.times(amount), first=amount < 0)
    return tally.add


class _Total:
    """An amount that is added to several series."""

    __slots__ = ("_amount", "_lock")

    def __init__(self) -> None:
        self._amount = 0.0
        self._lock = threading.Lock()

    def add(self, amount: float) -> None:
        lock = self._lock
        lock.acquire()  # by name, as every call comes here: with `with`, locking takes three times as long
        try:
            self._amount += amount
        finally:
            lock.release()

    def read(self) -> float:
        return self._amount


class _Tally:
    """Observations that are taken into several histograms, and counted elsewhere too."""

    __slots__ = ("_bounds", "_counts", "_lock", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * len(bounds)
        self._sum = 0.0
        self._lock = threading.Lock()

    def add(self, amount: float) -> None:
        index = bisect_left(self._bounds, amount)
        lock = self._lock
        lock.acquire()  # as above
        try:
            self._counts[index] += 1
            self._sum += amount
        finally:
            lock.release()

    def sum(self) -> float:
        return self._sum

    def bucket(self, index: int) -> Part:
        return lambda: self._counts[index]

    def times(self, amount: float) -> Part:
        return lambda: amount * sum(self._counts)


class _SharedValue(MutexValue):
    """A value that is counted elsewhere in part."""

    _parts: list[Part]

    def get(self) -> float:
        own: float = super().get()  # type: ignore[no-untyped-call]  # prometheus_client gives its values no types
        return own + self._elsewhere()

    def set(self, value: float, timestamp: float | None = None) -> None:
        super().set(value - self._elsewhere(), timestamp)  # type: ignore[no-untyped-call]  # as above

    def _elsewhere(self) -> float:
        return sum(part() for part in self._parts)


def _are_shareable(values: Iterable[Any]) -> bool:
    return all(type(value) in (MutexValue, _SharedValue) for value in values)


def _share(value: Any, part: Part, *, first: bool = False) -> None:
    """Let a value read a part of it elsewhere.

    Args:
        value: prometheus_client's. What others hold of it and add to it stays right.
        part: what to add to it.
        first: read this part before the others: a gauge that went up and down meanwhile is not seen below 0.
    """
    with value._lock:
        if not isinstance(value, _SharedValue):
            value._parts = []
            value.__class__ = _SharedValue
        parts = list(value._parts)
        parts.insert(0 if first else len(parts), part)
        value._parts = parts


def _into(total: Any, bounds: Any, buckets: tuple[Any, ...]) -> Add:
    def observe(amount: float) -> None:
        total.inc(amount)
        buckets[bisect_left(bounds, amount)].inc(1)

    return observe


def _all(adders: tuple[Add, ...]) -> Add:
    def add(amount: float) -> None:
        for one in adders:
            one(amount)

    return add


def _stepping(observers: tuple[Add, ...], steps: tuple[Step, ...]) -> Add:
    observe, taken = _all(observers), tuple((adding(one), amount) for one, amount in steps)

    def step(amount: float) -> None:
        observe(amount)
        for add, more in taken:
            add(more)

    return step

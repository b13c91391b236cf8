"""Series of prometheus_client, changed in one step.

What prometheus_client checks whenever a series is changed, that it has its labels and that nothing negative is added,
was settled when the series was made. On every RPC that would cost four calls of functions for one addition.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Any

from prometheus_client.values import MutexValue

Add = Callable[[float], None]

Step = tuple[Any, float]
"""A counter or gauge, and what is added to it."""


def adding(*series: Any) -> Add:
    """Return what adds to counters and gauges, the same to each."""
    values: list[Any] = [getattr(one, "_value", None) for one in series]
    if len(values) == 1:
        add: Add = series[0].inc if values[0] is None else values[0].inc
        return add
    if not all(type(value) is MutexValue for value in values):
        return _all(tuple(adding(one) for one in series))
    cells = tuple((value._lock, value) for value in values)

    def add_to_all(amount: float) -> None:
        for lock, value in cells:
            with lock:
                value._value += amount

    return add_to_all


def observing(series: Any, *steps: Step) -> Add:
    """Return what takes an observation into a histogram, and takes other steps meanwhile."""
    try:
        total, bounds, buckets = series._sum, series._upper_bounds, tuple(series._buckets)
    except AttributeError:  # pragma: no cover  # a prometheus_client that keeps them otherwise
        return _stepping(series.observe, steps)
    values: list[Any] = [getattr(one, "_value", None) for one, _ in steps]
    if not all(type(value) is MutexValue for value in (total, *buckets, *values)):
        return _stepping(_into(total.inc, bounds, tuple(bucket.inc for bucket in buckets)), steps)
    cells = tuple((value._lock, value, amount) for value, (_, amount) in zip(values, steps, strict=True))

    def observe(amount: float) -> None:
        bucket = buckets[bisect_left(bounds, amount)]
        with total._lock:
            total._value += amount
        with bucket._lock:
            bucket._value += 1
        for lock, value, step in cells:
            with lock:
                value._value += step

    return observe


def _into(add: Add, bounds: Any, count: tuple[Add, ...]) -> Add:
    def observe(amount: float) -> None:
        add(amount)
        count[bisect_left(bounds, amount)](1)

    return observe


def _all(adders: tuple[Add, ...]) -> Add:
    def add(amount: float) -> None:
        for one in adders:
            one(amount)

    return add


def _stepping(observe: Add, steps: tuple[Step, ...]) -> Add:
    taken = tuple((adding(one), amount) for one, amount in steps)

    def step(amount: float) -> None:
        observe(amount)
        for add, more in taken:
            add(more)

    return step if taken else observe

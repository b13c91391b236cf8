"""Series of prometheus_client, changed in one step.

What prometheus_client checks whenever a series is changed, that it has its labels and that nothing negative is added,
was settled when the series was made. On every RPC that would cost four calls of functions for one addition.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Any

Add = Callable[[float], None]


def adding(series: Any) -> Add:
    """Return what adds to a counter or gauge."""
    value = getattr(series, "_value", None)
    add: Add = series.inc if value is None else value.inc
    return add


def observing(series: Any) -> Add:
    """Return what takes an observation into a histogram."""
    try:
        add, bounds = series._sum.inc, series._upper_bounds
        count = tuple(bucket.inc for bucket in series._buckets)
    except AttributeError:  # pragma: no cover  # a prometheus_client that keeps them otherwise
        own: Add = series.observe
        return own

    def observe(amount: float) -> None:
        add(amount)
        count[bisect_left(bounds, amount)](1)

    return observe

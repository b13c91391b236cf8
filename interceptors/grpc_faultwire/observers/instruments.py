"""The metrics of `names`, as prometheus_client has them: made once for each registry, and shared by its observers."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from grpc_faultwire.observers import names, naming
from grpc_faultwire.observers.naming import Metric
from grpc_faultwire.records import Side

_shared: weakref.WeakKeyDictionary[CollectorRegistry, Instruments] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


class Instruments:
    """All metrics in one registry.

    Args:
        registry: where they are registered.
        buckets: upper bounds of the buckets of durations, in seconds.

    Attributes:
        sides: those of each side, by the names that the code has for them.
        common: those of both.
    """

    def __init__(self, registry: CollectorRegistry, buckets: tuple[float, ...]) -> None:
        self.buckets = buckets
        self.sides = {
            Side.SERVER: _make_all(names.SERVER_METRICS, registry, buckets),
            Side.CLIENT: _make_all(names.CLIENT_METRICS, registry, buckets),
        }
        self.common = _make_all(names.COMMON_METRICS, registry, buckets)


def instruments(registry: CollectorRegistry, buckets: tuple[float, ...]) -> Instruments:
    """Return a registry's, made on first use: two servers of a process may share it.

    Raises:
        ValueError: another library has a metric of the same name there, or other buckets were asked for before.
    """
    with _lock:
        found = _shared.get(registry)
        if found is None:
            found = _shared[registry] = Instruments(registry, buckets)
    if found.buckets != buckets:
        raise ValueError(f"buckets are {buckets}, but this registry has these metrics with {found.buckets}")
    return found


def _make_all(metrics: Mapping[str, Metric], registry: CollectorRegistry, buckets: tuple[float, ...]) -> dict[str, Any]:
    return {key: _make(metric, registry, buckets) for key, metric in metrics.items()}


def _make(metric: Metric, registry: CollectorRegistry, buckets: tuple[float, ...]) -> Counter | Gauge | Histogram:
    try:
        if metric.type == "counter":
            return Counter(metric.name, metric.help, metric.labels, registry=registry)
        if metric.type == "gauge":
            return Gauge(metric.name, metric.help, metric.labels, registry=registry, multiprocess_mode=metric.mode)
        chosen = buckets if metric.buckets is naming.SECONDS else metric.buckets
        return Histogram(metric.name, metric.help, metric.labels, registry=registry, buckets=chosen)
    except ValueError as taken:
        raise ValueError(
            f"{metric.name} is in this registry already, made by another library; give PrometheusObserver a registry "
            "of its own, or take the other one out"
        ) from taken

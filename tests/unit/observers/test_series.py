"""Series that are changed in one step: they show what they would if each had been changed alone."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from grpc_faultwire.observers.series import _share, adding, observing

BUCKETS = (0.1, 1.0)


def metrics() -> tuple[CollectorRegistry, Any, Any, Any, Any]:
    registry = CollectorRegistry()
    counter = Counter("c", "", ["label"], registry=registry).labels("x")
    gauge = Gauge("g", "", ["label"], registry=registry).labels("x")
    seconds = Histogram("s", "", ["label"], registry=registry, buckets=BUCKETS).labels("x")
    attempts = Histogram("a", "", ["label"], registry=registry, buckets=BUCKETS).labels("x")
    return registry, counter, gauge, seconds, attempts


def shown(registry: CollectorRegistry) -> dict[Any, float]:
    samples = [sample for metric in registry.collect() for sample in metric.samples]
    return {
        (sample.name, sample.labels.get("le")): sample.value
        for sample in samples
        if not sample.name.endswith("_created")
    }


@given(st.lists(st.tuples(st.sampled_from(["begin", "end", "fail", "alone"]), st.floats(0, 2))))
def test_they_show_what_each_alone_would(steps: list[tuple[str, float]]) -> None:
    """Whatever was counted in one place, or at a series itself, adds up."""
    registry, counter, gauge, seconds, attempts = metrics()
    expected, *plain = metrics()
    begin = adding(counter, gauge)
    end = observing([seconds, attempts], [(gauge, -1), (counter, 2)])
    fail = observing([seconds], [(gauge, -1)])
    for step, amount in steps:
        if step == "begin":
            begin(1)
            plain[0].inc(), plain[1].inc()
        elif step == "end":
            end(amount)
            plain[0].inc(2), plain[1].dec(), plain[2].observe(amount), plain[3].observe(amount)
        elif step == "fail":
            fail(amount)
            plain[1].dec(), plain[2].observe(amount)
        else:
            for one in (counter, plain[0]):
                one.inc(amount)
            for one in (seconds, plain[2]):
                one.observe(amount)
    assert shown(registry) == pytest.approx(shown(expected))


def test_a_series_can_be_reset() -> None:
    """Setting a value sets it, wherever parts of it were counted."""
    _, counter, gauge, _, _ = metrics()
    begin = adding(counter, gauge)
    begin(3)
    counter.reset()
    gauge.set(7)
    begin(1)
    assert (counter._value.get(), gauge._value.get()) == (1, 8)


def test_a_gauge_is_never_seen_below_zero() -> None:
    """A call that begins and ends while a scrape reads is not seen as ended alone."""
    _, counter, gauge, seconds, _ = metrics()

    def meanwhile() -> float:
        begin(1)
        end(0.5)
        return 0.0

    begin = adding(counter, gauge)
    _share(gauge._value, meanwhile)
    end = observing([seconds], [(gauge, -1)])
    _share(gauge._value, meanwhile)
    assert gauge._value.get() >= 0


def test_threads_lose_no_count() -> None:
    """Each of them adds under the lock."""
    registry, counter, gauge, seconds, _ = metrics()
    begin, end = adding(counter, gauge), observing([seconds], [(gauge, -1)])

    def call() -> None:
        for _ in range(5000):
            begin(1)
            end(0.5)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shown(registry)["s_count", None] == shown(registry)["c_total", None] == 20_000
    assert gauge._value.get() == 0

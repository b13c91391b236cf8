"""Items that fail inside an RPC that answers OK are seen: by observers, in metrics, on spans and in the log."""

from __future__ import annotations

import logging
from typing import Any

import grpc
import pytest
from batch_lab import CANARY, Shop, items, request, servicer
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry
from worlds import World

from faultwire.testing.v1 import batches_pb2_grpc
from grpc_faultwire import Severity
from grpc_faultwire.diagnostics import ErrorGroups
from grpc_faultwire.observers import LoggingObserver, OpenTelemetryObserver, PrometheusObserver, names

METHOD = {"grpc_service": "faultwire.testing.v1.Batches", "grpc_method": "Put"}


def stub(world: World, *observers: Any) -> batches_pb2_grpc.BatchesStub:
    address = world.serve(servicer(world, Shop()), world.interceptor(observers=[world.recorder, *observers]))
    return batches_pb2_grpc.BatchesStub(world.channel(address))


def told(world: World) -> list[dict[str, Any]]:
    world.recorder.wait()
    return [dict(event.attributes) for event in world.recorder.events if event.name == names.BATCH.name]


def test_a_partial_success_is_told_once(world: World) -> None:
    """Numbers by category: an event stays small however large its batch."""
    stub(world).Put(request(items("", "missing", "bug", "missing", "")), timeout=5)
    assert told(world) == [
        {
            "items": 5,
            "ok": 2,
            "failed": 3,
            "interrupted": 0,
            "not_attempted": 0,
            "rolled_back": 0,
            "failures": {"not_found": 2, "internal": 1},
            "categories": "not_found=2 internal=1",
            "severity": Severity.ERROR,
            "partial": True,
        }
    ]


def test_an_atomic_failure_says_who_was_rolled_back(world: World) -> None:
    """Its items are counted as well, and its RPC has an error of its own."""
    with pytest.raises(grpc.RpcError):
        stub(world).PutReported(request(items("", "missing", "")), timeout=5)
    [event] = told(world)
    assert (event["ok"], event["failed"], event["rolled_back"], event["partial"]) == (0, 1, 2, False)


def test_a_stream_that_breaks_tells_what_was_done(world: World) -> None:
    """The items before the break are known."""
    with pytest.raises(grpc.RpcError):
        list(stub(world).Exchange(iter(items("", "missing", "break")), timeout=5))
    [event] = told(world)
    assert (event["items"], event["ok"], event["failed"], event["partial"]) == (2, 1, 1, False)


def test_an_empty_batch_is_no_news(world: World) -> None:
    """Nothing was to be done."""
    stub(world).Put(request([]), timeout=5)
    assert told(world) == []


def test_metrics_span_and_log_have_it(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Each in its own way, and no item's text in any of them but the log's own line of a masked exception."""
    registry, spans, provider = CollectorRegistry(), InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    log = logging.getLogger("test.batches")
    observers = (
        PrometheusObserver(registry),
        OpenTelemetryObserver(tracer_provider=provider),
        LoggingObserver(log),
    )
    caplog.set_level(logging.INFO, "test.batches")
    stub(world, *observers).Put(request(items("", "missing", "wrong", "missing", "")), timeout=5)
    world.recorder.wait()

    def count(result: str, category: str) -> float | None:
        labels = METHOD | {"result": result, "category": category}
        return registry.get_sample_value("grpc_server_batch_items_total", labels)

    assert [count("ok", "none"), count("failed", "not_found"), count("failed", "validation")] == [2, 2, 1]
    assert count("failed", "internal") is None
    [event] = [one for span in spans.get_finished_spans() for one in span.events if one.name == "faultwire.batch"]
    assert event.attributes == {
        "faultwire.items": 5,
        "faultwire.ok": 2,
        "faultwire.failed": 3,
        "faultwire.interrupted": 0,
        "faultwire.not_attempted": 0,
        "faultwire.rolled_back": 0,
        "faultwire.categories": "not_found=2 validation=1",
    }
    [line] = [record.getMessage() for record in caplog.records if record.name == "test.batches"]
    assert line.startswith("event=batch method=faultwire.testing.v1.Batches/Put fingerprint=")
    assert ' items=5 failed=3 categories="not_found=2 validation=1"' in line
    assert CANARY not in line


def test_bugs_of_items_are_unhandled_exceptions_and_groups(world: World) -> None:
    """What nobody mapped is found where it is looked for, though its RPC answers OK; what callers do wrong is not."""
    registry, groups = CollectorRegistry(), ErrorGroups()
    stub(world, PrometheusObserver(registry), groups).Put(request(items("bug", "missing", "bug")), timeout=5)
    world.recorder.wait()
    labels = METHOD | {"exception_type": "KeyError"}
    assert registry.get_sample_value("grpc_server_unhandled_exceptions_total", labels) == 2
    [group] = groups.top()
    assert (group.count, group.sample.reason, group.call.method) == (2, "INTERNAL", "Put")
    assert CANARY not in repr(group)

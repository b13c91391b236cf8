"""A hundred thousand items: calls, bytes, memory and throughput."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from batch_lab import Caller, Servicer, Shop, request

from faultwire.testing.v1 import batches_pb2 as pb
from faultwire.testing.v1 import batches_pb2_grpc
from grpc_faultwire.batch import BatchPolicy
from grpc_faultwire.batch.reading import batch_report
from grpc_faultwire.batch.sync import BatchCaller
from grpc_faultwire.policies import RetryPolicy
from grpc_faultwire.sync import ServerInterceptor
from grpc_faultwire.testing import serve

SIZE = 1000
POLICY = BatchPolicy(max_items=SIZE, retry=RetryPolicy(initial_backoff=0.001))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def books(count: int) -> Iterator[Any]:
    return (
        pb.Item(key=f"{index:08d}", fate="" if index % 50 else "flaky", payload=b"x" * 100) for index in range(count)
    )


@pytest.mark.parametrize("side", ["sync", "aio"])
def test_a_hundred_thousand_items(side: str) -> None:
    """With 2 % to be sent again, calls and bytes are within 5 % of the least there could be."""
    shop = Shop()
    with serve([Servicer(shop)], max_workers=4) as server:
        result = Caller(side, server.address).send(books(100_000), POLICY)
    assert result.ok
    assert result.total == 100_000
    assert result.retried == 2_000
    once = len(pb.PutRequest(items=list(books(SIZE))).SerializeToString()) * 100
    least = once * 102 // 100
    assert 102 <= result.requests == shop.requests <= 102 * 1.05
    assert shop.bytes <= least * 1.05


class Quiet(Servicer):
    """Keeps nothing of what it is sent, so that what grows is the caller."""

    def Put(self, request: Any, context: Any) -> Any:
        return pb.PutResponse()


def test_memory_is_flat() -> None:
    """Ten times the items take no more memory at the peak, but for what little noise there is."""
    peaks = []
    with serve([Quiet(Shop())], max_workers=4) as server, grpc.insecure_channel(server.address) as channel:
        stub = batches_pb2_grpc.BatchesStub(channel)
        for count in (20_000, 20_000, 20_000, 200_000):
            tracemalloc.start()
            assert BatchCaller(stub.Put, request, POLICY).send(books(count)).ok
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[-1] < max(peaks[:-1]) * 1.5


def test_throughput_against_a_loop_by_hand() -> None:
    """A hand-written loop, one call after the other and each retried at once, is not faster by much.

    `python -m benchmarks batches` shows the figures.
    """
    with serve([Servicer(Shop())], max_workers=4) as server, grpc.insecure_channel(server.address) as channel:
        stub = batches_pb2_grpc.BatchesStub(channel)
        everything = list(books(100_000))
        began = time.perf_counter()
        by_hand(stub, everything)
        hand = time.perf_counter() - began
    with serve([Servicer(Shop())], max_workers=4) as server, grpc.insecure_channel(server.address) as channel:
        stub = batches_pb2_grpc.BatchesStub(channel)
        began = time.perf_counter()
        assert BatchCaller(stub.Put, request, POLICY).send(everything).ok
        ours = time.perf_counter() - began
    assert ours < hand * 2


def test_ten_thousand_failures_travel() -> None:
    """The error arrives whole, says exact counts, and names the first failures of each group."""
    fates = [pb.Item(key=str(index), fate="wrong" if index % 2 else "missing") for index in range(10_000)]
    with (
        serve([Servicer(Shop())], [ServerInterceptor()]) as server,
        grpc.insecure_channel(server.address) as channel,
        pytest.raises(grpc.RpcError) as raised,
    ):
        batches_pb2_grpc.BatchesStub(channel).PutReported(request(fates))
    report = batch_report(raised.value)
    assert (report.total, report.failed) == (10_000, 10_000)
    assert {0, 1} <= {one.index for one in report.failures}
    assert len(dict(raised.value.trailing_metadata())["grpc-status-details-bin"]) * 4 / 3 < 6144


def by_hand(stub: Any, everything: list[Any]) -> None:
    for start in range(0, len(everything), SIZE):
        chunk = everything[start : start + SIZE]
        while chunk:
            report = batch_report(stub.Put(request(chunk)))
            chunk = [chunk[failure.index] for failure in report.failures]

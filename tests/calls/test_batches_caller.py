"""Callers of batches, sync and aio: split, sent, and only what failed sent again; nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import Counter
from typing import Any

import grpc
import grpc.aio
import pytest
from batch_lab import FATES, Caller, Servicer, Shop, items, request, servicer
from google.rpc import status_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from worlds import World

from faultwire.testing.v1 import batches_pb2 as pb
from faultwire.testing.v1 import batches_pb2_grpc
from faultwire.v1 import errors_pb2
from grpc_faultwire import NotFound, Unavailable
from grpc_faultwire.batch import BatchPolicy, Progress, aio, batch_report, sync
from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.policies import BudgetPolicy, RetryBudget, RetryPolicy
from grpc_faultwire.state import PolicyState
from grpc_faultwire.testing import serve

ONE = errors_pb2.BatchReport(total=1, succeeded=1)
QUICK = RetryPolicy(initial_backoff=0.001, max_attempts=3)


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def address(world: World, shop: Shop) -> str:
    return world.serve(servicer(world, shop), max_workers=4)


@pytest.fixture(params=["sync", "aio"])
def side(request: pytest.FixtureRequest) -> str:
    side: str = request.param
    return side


def rich() -> RetryBudget:
    return RetryBudget(BudgetPolicy(capacity=1e6, initial=1e6))


def test_a_thousand_items_with_three_bad_ones(address: str, shop: Shop, side: str) -> None:
    """They cost one more call, with three items."""
    fates = [""] * 1000
    for index in (3, 500, 999):
        fates[index] = "flaky"
    result = Caller(side, address).send(items(*fates), values=lambda response: response.values)
    assert result.ok
    assert result.requests == shop.requests == 2
    assert result.retried == 3
    assert result.values == {index: f"value of k{index}" for index in range(1000)}
    assert Counter(shop.seen.values()) == {1: 997, 2: 3}


@given(
    fates=st.lists(st.sampled_from(FATES), max_size=25),
    size=st.integers(1, 8),
    concurrency=st.integers(1, 4),
    method=st.sampled_from(["Put", "Upload", "Exchange"]),
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_laws_on_real_servers(
    address: str, shop: Shop, side: str, fates: list[str], size: int, concurrency: int, method: str
) -> None:
    """Every index ends once, as its fate says, however it is split, concurrent, and whatever the method's shape."""
    shop.seen.clear()
    shop.done.clear()
    policy = BatchPolicy(max_items=size, concurrency=concurrency, retry=QUICK)
    make = request if method == "Put" else list
    result = Caller(side, address, method).send(items(*fates), policy, make=make, budget=rich())
    well = {"", "flaky"}
    assert [result.state(index) for index in range(len(fates))] == [
        "ok" if fate in well else "failed" for fate in fates
    ]
    wanted = {"flaky": 2, "never": 3}
    assert shop.seen == {f"k{index}": wanted.get(fate, 1) for index, fate in enumerate(fates)}
    assert shop.done == {f"k{index}": 1 for index, fate in enumerate(fates) if fate in well}
    assert {end.attempts for end in result.failures.values() if isinstance(end.error, Unavailable)} <= {3}


def test_only_the_bad_items_of_an_atomic_batch_fail(address: str, side: str) -> None:
    """The innocent are sent again without them."""
    result = Caller(side, address, "PutReported").send(
        items("", "missing", "", "wrong"), BatchPolicy(retry=QUICK), budget=rich()
    )
    assert [result.state(index) for index in range(4)] == ["ok", "failed", "ok", "failed"]
    assert result.requests == 2


def test_a_stream_that_breaks_keeps_what_was_answered(address: str, side: str) -> None:
    """Items answered before the break are well; the others are not said to be."""
    policy = BatchPolicy(retry=QUICK)
    batch = items("", "missing", "break", "")
    result = Caller(side, address, "Exchange").send(batch, policy, make=list, values=lambda one: one.value)
    assert [result.state(index) for index in range(4)] == ["ok", "failed", "failed", "failed"]
    assert result.values == {0: "value of k0"}
    report = Caller(side, address, "Exchange").report(batch)
    assert ([one.index for one in report.failures], report.unknown) == ([1], (2, 3))
    assert report.error is not None


def test_the_channels_policies_are_shared(address: str, shop: Shop, side: str) -> None:
    """Retries draw on the channel's budget in proportion; its breaker sees RPCs, not items; it does not retry too."""
    state = PolicyState()
    policy = ClientPolicy(budget=BudgetPolicy(initial=10))
    budget = state.budget("shop", policy.budget)  # type: ignore[arg-type]  # it is set above
    fates = ["never"] * 3 + [""] * 97
    caller = Caller(side, address, policy=policy, state=state, target="shop")
    result = caller.send(items(*fates), BatchPolicy(retry=QUICK), budget=budget)
    assert sorted(result.failures) == [0, 1, 2]
    assert shop.requests == 3
    assert budget.tokens == pytest.approx(10 + 3 - 2 * 5 * 3 / 100)
    [breaker] = state.snapshot(time.monotonic())
    assert (breaker.calls, breaker.failures) == (3, 0)


def test_an_unreachable_server(side: str) -> None:
    """Nothing was acknowledged, so nothing is called a success; idempotent items were tried again."""
    caller = Caller(side, "127.0.0.1:1")
    result = caller.send(items("", ""), BatchPolicy(retry=QUICK, attempt_timeout=5))
    assert set(result.unknown) == {0, 1}
    result = caller.send(items("", ""), BatchPolicy(retry=QUICK, idempotent=True, attempt_timeout=5), budget=rich())
    assert [end.attempts for end in result.unknown.values()] == [3, 3]
    assert result.requests == 3


def test_the_channel_does_not_retry_as_well(side: str) -> None:
    """A channel whose policy retries leaves a batch's requests to the batch, or the two would multiply."""
    caller = Caller(side, "127.0.0.1:1", policy=ClientPolicy(idempotent=True))
    result = caller.send(items(""), BatchPolicy(retry=QUICK, attempt_timeout=5))
    assert result.unknown[0].attempts == 1


def test_what_cannot_be_sent_or_read(address: str, side: str) -> None:
    """A request that cannot be made was never sent; an answer that cannot be read leaves its items unknown."""
    result = Caller(side, address).send(items(""), make=lambda chunk: 1 / 0)
    assert (result.failures[0].error.reason, type(result.failures[0].error.__cause__)) == (
        "REQUEST_UNSENDABLE",
        ZeroDivisionError,
    )
    result = Caller(side, address).send(items("", ""), values=lambda response: ["one", "two", "three"])
    assert set(result.unknown) == {0, 1}
    for other in (pb.PutResponse(failed_items={2: status_pb2.Status(code=5)}), pb.PutReportedResponse(report=ONE)):
        result = Caller(side, address).send(items("", ""), read=lambda _, other=other: batch_report(other))
        assert set(result.unknown) == {0, 1}


def test_progress_is_told(address: str, side: str) -> None:
    """After each request: how many items are well, failed, unknown, under way and waiting; it ends with all."""
    told: list[Progress] = []
    Caller(side, address).send(
        items("", "missing", "flaky", ""), BatchPolicy(max_items=2, retry=QUICK), on_progress=told.append, budget=rich()
    )
    assert told[-1] == Progress(total=4, ok=3, failed=1, unknown=0, in_flight=0, waiting=0, requests=3)
    assert all(one.ok + one.failed + one.unknown + one.in_flight + one.waiting <= 4 for one in told)


def test_errors_of_items_say_which(address: str, side: str) -> None:
    """The result raises a group; each member is typed, and says which item it was."""
    result = Caller(side, address).send(items("missing", "", "missing"))
    notes: list[str] = []
    try:
        result.raise_if_failed()
    except* NotFound as group:
        notes = [note for one in group.exceptions for note in one.__notes__]
    assert notes == ["item 0", "item 2"]


def test_a_faulty_iterable_is_told_at_the_end(address: str, shop: Shop, side: str) -> None:
    """What it raises comes out, after the items before it have been carried out."""

    def faulty() -> Any:
        yield from items("", "")
        raise OSError("the file has ended")

    with pytest.raises(OSError, match="the file has ended"):
        Caller(side, address).send(faulty(), BatchPolicy(max_items=1))
    assert sum(shop.done.values()) == 2


class Slow(Servicer):
    """Answers the first request, and keeps the others until the test lets them go."""

    def __init__(self, shop: Shop) -> None:
        super().__init__(shop)
        self.go = threading.Event()
        self.waiting = threading.Semaphore(0)
        self.left: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def Put(self, request: Any, context: Any) -> Any:
        self.shop.done.update(item.key for item in request.items)
        if request.items[0].key != "k0":
            context.add_callback(self.go.set)
            self.waiting.release()
            self.left.put(self.go.wait(10))
        return pb.PutResponse()


def check_cancelled(result: Any, shop: Shop) -> None:
    """What is called a success was carried out, what is called failed was not; the rest may be either."""
    states = [result.state(index) for index in range(6)]
    assert states[:2] == ["ok", "ok"]
    assert set(states[2:4]) == {"unknown"}
    assert states[4:] == ["failed", "failed"]
    assert not {"k4", "k5"} & set(shop.done)
    assert {end.error.reason for end in result.failures.values()} == {"ITEM_NOT_SENT"}


def test_a_cancelled_batch_tells_the_truth_in_sync(shop: Shop) -> None:
    """Cancelled from another thread: what was answered is well, what was sent is unknown, the rest was not sent."""
    slow = Slow(shop)
    with serve([slow]) as server, grpc.insecure_channel(server.address) as channel:
        stub = batches_pb2_grpc.BatchesStub(channel)
        batch = sync.BatchCaller(stub.Put, request, BatchPolicy(max_items=2, concurrency=1)).begin(items(*[""] * 6))
        thread = threading.Thread(target=lambda: slow.waiting.acquire(timeout=10) and batch.cancel())
        thread.start()
        check_cancelled(batch.run(), shop)
        thread.join()
        assert slow.left.get(timeout=15), "the call was not cancelled"


def test_a_cancelled_batch_tells_the_truth_in_aio(shop: Shop) -> None:
    """Its task cancelled: the batch still knows."""
    slow = Slow(shop)

    async def main(address: str) -> Any:
        async with grpc.aio.insecure_channel(address) as channel:
            stub = batches_pb2_grpc.BatchesStub(channel)
            policy = BatchPolicy(max_items=2, concurrency=1)
            batch = aio.BatchCaller(stub.Put, request, policy).begin(items(*[""] * 6))
            task = asyncio.create_task(batch.run())
            await asyncio.to_thread(slow.waiting.acquire, timeout=10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return batch.result()

    with serve([slow]) as server:
        check_cancelled(asyncio.run(main(server.address)), shop)
        assert slow.left.get(timeout=15), "the call was not cancelled"

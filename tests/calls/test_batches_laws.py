"""The laws of batches on real servers in both worlds: cancelled anywhere, on a scant budget, split in any way."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import grpc
import grpc.aio
import pytest
from batch_lab import FATES, Caller, Servicer, Shop, items, request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faultwire.testing.v1 import batches_pb2 as pb
from faultwire.testing.v1 import batches_pb2_grpc
from grpc_faultwire.batch import BatchPolicy, BatchResult, Progress, aio, sync
from grpc_faultwire.policies import BudgetPolicy, RetryBudget, RetryPolicy
from grpc_faultwire.testing import serve

QUICK = RetryPolicy(initial_backoff=0.001, max_attempts=3)
RICH = BudgetPolicy(capacity=1e6, initial=1e6)
RUNS = itertools.count()

laws = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
batches = st.lists(st.sampled_from(FATES), max_size=25)
policies = st.builds(
    BatchPolicy,
    max_items=st.integers(1, 8),
    concurrency=st.integers(1, 4),
    retry=st.just(QUICK),
    idempotent=st.booleans(),
)


class Watched(RetryBudget):
    """A budget that nobody overdraws."""

    def take(self, cost: float, /) -> bool:
        taken = super().take(cost)
        assert self.tokens >= 0
        return taken


@pytest.fixture(params=["sync", "aio"])
def side(request: pytest.FixtureRequest) -> str:
    side: str = request.param
    return side


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def address(shop: Shop) -> Any:
    with serve([Servicer(shop)], max_workers=4) as server:
        yield server.address


def stopped(side: str, address: str, batch: list[Any], policy: BatchPolicy, stop: int, budget: Any) -> BatchResult:
    """Send a batch that is cancelled once so many of its requests have been answered."""
    made: list[Any] = []

    def on_progress(progress: Progress) -> None:
        if progress.requests >= stop:
            made[0].cancel()

    def begin(module: Any, channel: Any) -> Any:
        method = batches_pb2_grpc.BatchesStub(channel).Put
        caller = module.BatchCaller(method, request, policy, budget=budget, on_progress=on_progress)
        made.append(caller.begin(batch))
        return made[0]

    async def main() -> BatchResult:
        async with grpc.aio.insecure_channel(address) as channel:
            return await begin(aio, channel).run()

    if side == "aio":
        return asyncio.run(main())
    with grpc.insecure_channel(address) as channel:
        return begin(sync, channel).run()


@given(batches, policies, st.integers(0, 8), st.floats(0, 12))
@laws
def test_a_batch_that_is_cancelled_anywhere_tells_the_truth(
    address: str, shop: Shop, side: str, fates: list[str], policy: BatchPolicy, stop: int, initial: float
) -> None:
    """Each index is in one state; what is called ok was carried out, and what is called failed was not."""
    # Keys of its own: requests that an earlier batch has cancelled may arrive as late as now.
    run = next(RUNS)
    batch = [pb.Item(key=f"{run}/{one.key}", fate=one.fate) for one in items(*fates)]
    budget = Watched(BudgetPolicy(initial=initial))
    result = stopped(side, address, batch, policy, stop, budget)
    assert result.total == len(fates)
    assert not set(result.failures) & set(result.unknown)
    for index, item in enumerate(batch):
        state = result.state(index)
        assert state != "ok" or shop.done[item.key] >= 1
        assert state != "failed" or shop.done[item.key] == 0
        assert shop.seen[item.key] <= QUICK.max_attempts
    assert 0 <= budget.tokens <= 100


@given(batches, policies, policies)
@laws
def test_results_do_not_depend_on_how_a_batch_is_split(
    address: str, shop: Shop, side: str, fates: list[str], one: BatchPolicy, other: BatchPolicy
) -> None:
    """Nor on how many requests are under way, nor on the world."""
    ends = []
    for policy in (one, other):
        shop.seen.clear()
        result = Caller(side, address).send(items(*fates), policy, budget=RetryBudget(RICH))
        failed = {index: (type(end.error), end.error.reason, end.attempts) for index, end in result.failures.items()}
        ends.append((result.succeeded, failed, dict(result.unknown), dict(shop.seen)))
    assert ends[0] == ends[1]

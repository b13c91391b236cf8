"""A thousand tasks at once, and storms of misuse."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import threading
import time
from typing import Any

import grpc
import grpc.aio
import pytest
from aio_policy_lab import SLOW_RETRY, Lab, Served, connected, result, until
from policy_lab import READ, READS, fail, hang, ok

from grpc_faultwire import Unavailable, fallback
from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.policies import BreakerPolicy, BreakerState, BudgetPolicy, HedgePolicy, RetryPolicy
from grpc_faultwire.testing import FakeClock


@pytest.mark.parametrize("permits", [1, 3])
def test_a_thousand_tasks_at_a_half_open_breaker(flaky: Served, permits: int) -> None:
    """As many calls pass as there are permits; cancelling them frees the permits for others."""
    breaker = BreakerPolicy(minimum_calls=5, half_open_calls=permits)
    clock = FakeClock()

    async def run() -> None:
        async with connected(flaky, ClientPolicy(retry=None, breaker=breaker), clock=clock) as lab:
            while not any(one.state is BreakerState.OPEN for one in lab.state.snapshot(clock())):
                with contextlib.suppress(Unavailable):
                    await lab.call(fail())
            clock.advance(5)
            for _ in range(2):
                await _flood(lab, permits)

    asyncio.run(run())


async def _flood(lab: Lab, permits: int) -> None:
    first = len(lab.keys)
    tasks = [asyncio.ensure_future(result(lab.call(hang()))) for _ in range(1000)]
    await until(lambda: sum(task.done() for task in tasks) >= 1000 - permits)
    await lab.arrived_in_all(first, permits)
    done, pending = await asyncio.wait(tasks, timeout=0.05)
    assert len(pending) == permits
    assert {task.exception().reason for task in done} == {"CIRCUIT_OPEN"}  # type: ignore[union-attr]
    assert sum(len(lab.server.seen(key)) for key in lab.keys[first:]) == permits
    for task in pending:
        task.cancel()
    await asyncio.wait(pending)
    await lab.over()


def test_a_thousand_cancelled_tasks_give_all_back(flaky: Served) -> None:
    """Tasks that are cancelled during their backoffs leave the budget as it was, and the loop empty."""

    async def run() -> None:
        policy = ClientPolicy(retry=SLOW_RETRY, breaker=None, budget=BudgetPolicy(capacity=10_000, initial=10_000))
        async with connected(flaky, policy) as lab:
            tasks = [asyncio.ensure_future(result(lab.call(fail()))) for _ in range(1000)]
            await until(lambda: lab.tokens() <= 9000, 20)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert lab.tokens() == 10_000
            assert await lab.ends() == ["cancelled"] * 1000

    asyncio.run(run())


# Storms.

ACTS = (
    ok(),
    fail(),
    fail("UNAVAILABLE", b"1"),
    fail("INTERNAL"),
    fail("NOT_FOUND"),
    fail("UNAUTHENTICATED"),
    ok(wait=0.01),
    fail(pushback="1"),
)


async def _misuse(lab: Lab, dice: random.Random) -> None:
    path = dice.choice((READ, READ, READS))
    call = lab.call(*dice.choices(ACTS, k=3), path=path, timeout=dice.choice((5, 5, 0.01)))
    way, limit = dice.randrange(5), dice.random() * 0.02
    with contextlib.suppress(grpc.RpcError, asyncio.CancelledError, TimeoutError):
        if way == 0:
            await asyncio.sleep(limit)
            call.cancel()
        elif way == 1:
            del call
        else:
            consumed = result(call)
            await (consumed if way == 2 else asyncio.wait_for(consumed, limit))


def _storm(served: Served, count: int, seed: int, how: str = "wrapped") -> None:
    dice = random.Random(seed)

    async def refresh(_error: Any) -> Any:
        await asyncio.sleep(dice.random() * 0.005)
        return [("authorization", "new")]

    async def answer(failed: fallback.Failed) -> Any:
        await asyncio.sleep(dice.random() * 0.005)
        return dice.choice((fallback.UNANSWERED, b"fallen" if failed.method == READ else [b"fallen"]))

    hedged = ClientPolicy(hedge=HedgePolicy(delay=0.004, max_attempts=3), fallbacks=(fallback.function(answer),))

    async def resume(request: Any, _last: Any) -> Any:
        await asyncio.sleep(dice.random() * 0.005)
        return request

    retried = ClientPolicy(
        retry=RetryPolicy(initial_backoff=0.002),
        refresh=refresh,
        resume=resume,
        fallbacks=(fallback.function(answer),),
    )

    async def run() -> None:
        for policy in (hedged, retried):
            async with connected(served, policy, how=how) as lab:
                for _ in range(count // 200):
                    await asyncio.gather(*(_misuse(lab, dice) for _ in range(100)))
                    gc.collect()
                await asyncio.sleep(0.1)
                await lab.ends()
                assert [breaker.probes for breaker in lab.state.snapshot(time.monotonic())] == [0]

    asyncio.run(run())
    gc.collect()


def test_storm(flaky: Served) -> None:
    """Four hundred hedged, refreshed and falling calls come to all kinds of ends; each has one."""
    _storm(flaky, 400, 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("how", ["wrapped", "official"])
def test_big_storm(flaky: Served, how: str, seed: int) -> None:
    """Two thousand calls for each seed, through both doors; no thread is left."""
    before = threading.active_count()
    _storm(flaky, 2000, seed, how)
    assert threading.active_count() <= before + 60  # the server's pool

"""Callers that are cancelled wherever they wait: only aio has these."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from aio_policy_lab import BUDGET, HEDGE, QUICK_RETRY, SLOW_RETRY, Lab, Served, connected, result, until
from policy_lab import READ, READS, Act, fail, hang

from grpc_faultwire import fallback
from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.policies import HedgePolicy, RetryPolicy


class Hook:
    """A hook that never comes back, and knows whether it was cancelled."""

    def __init__(self) -> None:
        self.asked = 0
        self.cancelled = 0

    async def __call__(self, *_given: Any) -> Any:
        self.asked += 1
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


@dataclass
class Place:
    """A place to wait at."""

    policy: Callable[[Hook], ClientPolicy]
    acts: tuple[Act, ...]
    attempts: int
    hooked: bool = False
    path: str = READ
    cost: float = 0.0
    """Tokens that stay spent: those of attempts that were sent."""


PLACES = {
    "first attempt": Place(lambda _: ClientPolicy(budget=BUDGET), (hang(),), 1),
    "retry sleep": Place(lambda _: ClientPolicy(budget=BUDGET, retry=SLOW_RETRY), (fail(),), 1),
    "pushback": Place(lambda _: ClientPolicy(budget=BUDGET), (fail(pushback="20000"),), 1),
    "second attempt": Place(lambda _: ClientPolicy(budget=BUDGET), (fail(), hang()), 2, cost=5),
    "refresh": Place(
        lambda hook: ClientPolicy(budget=BUDGET, refresh=hook), (fail("UNAUTHENTICATED"),), 1, hooked=True
    ),
    "fallback": Place(
        lambda hook: ClientPolicy(budget=BUDGET, fallbacks=(fallback.function(hook),)),
        (fail("INTERNAL"),),
        1,
        hooked=True,
    ),
    "resume": Place(
        lambda hook: ClientPolicy(budget=BUDGET, retry=QUICK_RETRY, resume=hook),
        (fail("UNAVAILABLE", b"1"),),
        1,
        hooked=True,
        path=READS,
    ),
    "resumed stream": Place(
        lambda _: ClientPolicy(budget=BUDGET, retry=QUICK_RETRY, resume=lambda request, last: request),
        (fail("UNAVAILABLE", b"1"), hang()),
        2,
        path=READS,
        cost=5,
    ),
    "before a hedge": Place(lambda _: ClientPolicy(budget=BUDGET, hedge=HedgePolicy(delay=20)), (hang(),), 1),
    "hedges": Place(lambda _: ClientPolicy(budget=BUDGET, hedge=HEDGE), (hang(),), 2, cost=5),
    "hedge's pushback": Place(
        lambda _: ClientPolicy(budget=BUDGET, hedge=HedgePolicy(delay=20)), (fail(pushback="20000"),), 1
    ),
}


async def by_task(call: Any, waits: Awaitable[None]) -> None:
    """Cancel the task that awaits the call."""
    task = asyncio.ensure_future(result(call))
    await waits
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_wait_for(call: Any, waits: Awaitable[None]) -> None:
    """Have asyncio.wait_for lose its patience."""
    task = asyncio.ensure_future(result(call))
    await waits
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(task, 0.01)


async def by_timeout(call: Any, waits: Awaitable[None]) -> None:
    """Leave an asyncio.timeout block."""
    patience = asyncio.timeout(None)

    async def block() -> None:
        async with patience:
            await result(call)

    task = asyncio.ensure_future(block())
    await waits
    patience.reschedule(asyncio.get_running_loop().time())
    with pytest.raises(TimeoutError):
        await task


async def by_cancel(call: Any, waits: Awaitable[None]) -> None:
    """Call ``cancel()`` from elsewhere."""
    task = asyncio.ensure_future(result(call))
    await waits
    assert call.cancel()
    assert not call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


WAYS = [by_task, by_wait_for, by_timeout, by_cancel]


async def standing(lab: Lab, place: Place, hook: Hook) -> None:
    """Wait until the call waits at its place."""
    await lab.arrived(place.attempts)
    await until(lambda: hook.asked or not place.hooked)
    await asyncio.sleep(0.02)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", PLACES)
def test_a_caller_is_cancelled(flaky: Served, name: str, way: Any) -> None:
    """Its call ends at once, with all attempts and hooks; permits and tokens come back, and one end is told."""
    place = PLACES[name]

    async def run() -> None:
        hook = Hook()
        async with connected(flaky, place.policy(hook)) as lab:
            call = lab.call(*place.acts, path=place.path)
            await way(call, standing(lab, place, hook))
            assert call.done()
            assert call.cancelled()
            await lab.over()
            assert await lab.ends() == ["cancelled"]
            assert lab.tokens() == 50 - place.cost
            assert [breaker.probes for breaker in lab.state.snapshot(time.monotonic())] == [0]
            await asyncio.sleep(0)
            assert hook.cancelled == hook.asked == place.hooked

    asyncio.run(run())


@pytest.mark.parametrize("name", PLACES)
def test_a_cancel_takes_no_time(flaky: Served, name: str) -> None:
    """The caller has its CancelledError within 50 ms, whatever the call was waiting for."""
    place = PLACES[name]

    async def run() -> None:
        hook = Hook()
        async with connected(flaky, place.policy(hook)) as lab:
            task = asyncio.ensure_future(result(lab.call(*place.acts, path=place.path)))
            await standing(lab, place, hook)
            since = time.monotonic()
            task.cancel()
            await asyncio.wait([task])
            assert time.monotonic() - since < 0.05
            assert task.cancelled()

    asyncio.run(run())


@pytest.mark.parametrize("name", PLACES)
def test_a_channel_is_closed(flaky: Served, name: str) -> None:
    """Closing the channel ends the call, wherever it waits."""
    place = PLACES[name]

    async def run() -> None:
        hook = Hook()
        async with connected(flaky, place.policy(hook)) as lab:
            task = asyncio.ensure_future(result(lab.call(*place.acts, path=place.path)))
            await standing(lab, place, hook)
            await lab.channel.close()
            async with asyncio.timeout(1):
                await asyncio.wait([task])
            assert task.cancelled()
            assert await lab.ends() == ["cancelled"]
            assert lab.tokens() == 50 - place.cost
            assert hook.cancelled == hook.asked

    asyncio.run(run())


def test_cancelled_at_every_step(flaky: Served) -> None:
    """A task cancelled after any number of the loop's steps ends its call once, and every token comes back."""

    async def run() -> None:
        async def refresh(_error: Any) -> None:
            await asyncio.sleep(0)

        async def answer(_failed: Any) -> bytes:
            await asyncio.sleep(0)
            return b"fallen"

        retry = RetryPolicy(initial_backoff=0.001)
        policy = ClientPolicy(retry=retry, breaker=None, refresh=refresh, fallbacks=(fallback.function(answer),))
        async with connected(flaky, policy) as lab:
            for steps in range(1, 60, 2):
                call = lab.call(fail("UNAUTHENTICATED"), fail(), fail("INTERNAL"))
                task = asyncio.ensure_future(result(call))
                for _ in range(steps):
                    await asyncio.sleep(0.0003)
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled() or task.result() == b"fallen"
                assert call.done()
            await lab.over()
            assert {*await lab.ends()} <= {"cancelled", "done"}

    asyncio.run(run())

"""What only aio has: callers that are cancelled wherever they wait, and a thousand tasks at once."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import pytest
from policy_lab import READ, READS, Act, Flaky, Ledger, fail, hang, ok

from grpc_faultwire import StatusError, Unavailable, fallback
from grpc_faultwire.aio import client_interceptors, wrap_channel
from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.policies import BreakerPolicy, BreakerState, BudgetPolicy, HedgePolicy, RetryPolicy
from grpc_faultwire.state import PolicyState
from grpc_faultwire.testing import FakeClock

Served = tuple[Flaky, str]
QUICK_RETRY = RetryPolicy(initial_backoff=0.001)
SLOW_RETRY = RetryPolicy(initial_backoff=20.0, max_backoff=20.0)
HEDGE = HedgePolicy(delay=0.02)
BUDGET = BudgetPolicy(initial=50)


async def until(happened: Callable[[], Any], within: float = 5.0) -> None:
    """Wait for something that nobody tells of."""
    async with asyncio.timeout(within):
        while not happened():  # noqa: ASYNC110  # it happens in threads of the server
            await asyncio.sleep(0.002)


@dataclass
class Lab:
    """A channel with a policy, what the policy remembers, and what the server sees."""

    server: Flaky
    channel: Any
    state: PolicyState
    ledger: Ledger
    keys: list[str] = field(default_factory=list)

    def call(self, *acts: Act, path: str = READ, **options: Any) -> Any:
        """Start a call."""
        key = self.server.plan(acts)
        self.keys.append(key)
        shape = self.channel.unary_stream if path == READS else self.channel.unary_unary
        return shape(path)(b"request", metadata=(("key", key),), timeout=options.pop("timeout", 30), **options)

    async def arrived(self, count: int = 1, index: int = -1) -> None:
        """Wait until so many attempts of a call have arrived."""
        await until(lambda: len(self.server.seen(self.keys[index])) >= count)

    async def arrived_in_all(self, first: int, count: int) -> None:
        """Wait until so many attempts of all the calls from ``first`` on have arrived."""
        await until(lambda: sum(len(self.server.seen(key)) for key in self.keys[first:]) >= count)

    async def over(self, within: float = 1.0) -> None:
        """Wait until the server has nothing left to do, as nobody waits for it."""
        await until(lambda: not self.server.active, within)

    async def ends(self) -> list[str]:
        """Wait for all ends, and return how they came."""
        return [outcome.how for outcome in await asyncio.to_thread(self.ledger.outcomes)]

    def tokens(self) -> float:
        """Return the budget's tokens."""
        (tokens,) = self.state.budgets().values()
        return tokens


@contextlib.asynccontextmanager
async def connected(
    served: Served, policy: ClientPolicy, *, how: str = "wrapped", clock: Any = time.monotonic
) -> AsyncIterator[Lab]:
    """Connect to the flaky server; in the end, no task of ours is left."""
    server, address = served
    lab = Lab(server, None, PolicyState(), Ledger())
    if how == "wrapped":
        bare = grpc.aio.insecure_channel(address)
        lab.channel = wrap_channel(bare, policy, state=lab.state, observers=[lab.ledger], clock=clock)
    else:
        ours = client_interceptors(policy, state=lab.state, observers=[lab.ledger], target="flaky")
        lab.channel = grpc.aio.insecure_channel(address, interceptors=ours)
    async with lab.channel:
        yield lab
    await lab.over(12)
    await asyncio.sleep(0)
    assert [task for task in asyncio.all_tasks() if "grpc_faultwire" in repr(task.get_coro())] == []


# Cancelled wherever it waits.


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
    task = asyncio.ensure_future(_result(call))
    await waits
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_wait_for(call: Any, waits: Awaitable[None]) -> None:
    """Have asyncio.wait_for lose its patience."""
    task = asyncio.ensure_future(asyncio.wait_for(_result(call), 0.2))
    await waits
    with pytest.raises(TimeoutError):
        await task


async def by_timeout(call: Any, waits: Awaitable[None]) -> None:
    """Leave an asyncio.timeout block."""

    async def block() -> None:
        async with asyncio.timeout(0.2):
            await _result(call)

    task = asyncio.ensure_future(block())
    await waits
    with pytest.raises(TimeoutError):
        await task


async def by_cancel(call: Any, waits: Awaitable[None]) -> None:
    """Call ``cancel()`` from elsewhere."""
    task = asyncio.ensure_future(_result(call))
    await waits
    assert call.cancel()
    assert not call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _result(call: Any) -> Any:
    return await (call if isinstance(call, grpc.aio.UnaryUnaryCall) else _collected(call))


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
            task = asyncio.ensure_future(_result(lab.call(*place.acts, path=place.path)))
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
            task = asyncio.ensure_future(_result(lab.call(*place.acts, path=place.path)))
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
                task = asyncio.ensure_future(_result(call))
                for _ in range(steps):
                    await asyncio.sleep(0.0003)
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled() or task.result() == b"fallen"
                assert call.done()
            await lab.over()
            assert {*await lab.ends()} <= {"cancelled", "done"}

    asyncio.run(run())


# Hedges.


def test_a_hedge_that_wins_cancels_the_other(flaky: Served) -> None:
    """The second attempt answers, the first is cancelled at its server, and the breaker hears nothing bad of it."""

    async def run() -> None:
        async with connected(flaky, ClientPolicy(hedge=HEDGE)) as lab:
            call = lab.call(hang(), ok(b"2"))
            assert await call == b"2"
            assert (await call.code(), call.done(), call.cancelled()) == (grpc.StatusCode.OK, True, False)
            await lab.over()
            (breaker,) = lab.state.snapshot(time.monotonic())
            assert (breaker.calls, breaker.failures) == (1, 0)
            (outcome,) = lab.ledger.outcomes()
            assert [attempt.hedge for attempt in outcome.attempts] == [False, True]

    asyncio.run(run())


def test_a_hedged_call_that_nobody_awaits_runs_on(flaky: Served) -> None:
    """As grpc's own unary calls do."""

    async def run() -> None:
        async with connected(flaky, ClientPolicy(hedge=HEDGE)) as lab:
            lab.call(hang(), ok())
            gc.collect()
            await lab.arrived(2)
            assert await lab.ends() == ["done"]

    asyncio.run(run())


def test_closing_with_grace_lets_hedged_attempts_end(flaky: Served) -> None:
    """No further attempt is sent on a closing channel; the one in flight may answer."""

    async def run() -> None:
        async with connected(flaky, ClientPolicy(hedge=HedgePolicy(delay=0.1))) as lab:
            task = asyncio.ensure_future(_result(lab.call(ok(b"1", wait=0.2))))
            await lab.arrived()
            await lab.channel.close(5)
            assert await task == b"1"
            assert len(lab.server.seen(lab.keys[0])) == 1

    asyncio.run(run())


def test_hedges_have_the_caller_s_context(flaky: Served) -> None:
    """Fallbacks, refreshing and further attempts run in the context of the call."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen: list[tuple[str, str]] = []

    class Injects:
        def inject(self, token: Any, attempt: Any) -> Any:
            seen.append((f"attempt {attempt.number}", variable.get()))
            return ()

    async def refresh(_error: Any) -> None:
        seen.append(("refresh", variable.get()))

    def answer(_failed: Any) -> bytes:
        seen.append(("fallback", variable.get()))
        return b"fallen"

    async def run() -> None:
        server, address = flaky
        hedged = ClientPolicy(hedge=HEDGE)
        falling = ClientPolicy(refresh=refresh, fallbacks=(fallback.function(answer),))
        for policy, acts in ((hedged, (hang(), ok())), (falling, (fail("UNAUTHENTICATED"), fail("INTERNAL")))):
            async with wrap_channel(grpc.aio.insecure_channel(address), policy, observers=[Injects()]) as channel:
                variable.set("caller")
                call = channel.unary_unary(READ)(b"", metadata=(("key", server.plan(acts)),))
                variable.set("later")
                await call
        assert {value for _, value in seen} == {"caller"}
        assert {name for name, _ in seen} == {"attempt 1", "attempt 2", "refresh", "fallback"}

    asyncio.run(run())


# Users' coroutines.


async def _raises(_given: Any) -> Any:
    raise LookupError("in the hook")


async def _declines(_given: Any) -> Any:
    return fallback.UNANSWERED


async def _is_cancelled(_given: Any) -> Any:
    raise asyncio.CancelledError


@pytest.mark.parametrize("answer", [_raises, _declines, _is_cancelled])
def test_a_fallback_without_an_answer_leaves_the_error(flaky: Served, answer: Any) -> None:
    """Whatever becomes of the coroutine, the caller sees what the server said, with grpc's own error as its cause."""

    async def run() -> None:
        policy = ClientPolicy(fallbacks=(fallback.function(answer),))
        async with connected(flaky, policy) as lab:
            with pytest.raises(StatusError, match="not now") as caught:
                await lab.call(fail("INTERNAL"))
            assert isinstance(caught.value.__cause__, grpc.aio.AioRpcError)
            assert await lab.ends() == ["done"]

    asyncio.run(run())


def test_a_stream_goes_on_where_it_broke_off(flaky: Served) -> None:
    """A coroutine function makes the request that continues a stream: no message is missing, none comes twice."""

    async def resume(request: bytes, last: bytes) -> bytes:
        await asyncio.sleep(0)
        return request + b" after " + last

    async def run() -> None:
        async with connected(flaky, ClientPolicy(retry=QUICK_RETRY, resume=resume)) as lab:
            call = lab.call(fail("UNAVAILABLE", b"1", b"2"), fail("UNAVAILABLE", b"3"), ok(b"", b"4"), path=READS)
            assert [response async for response in call] == [b"1", b"2", b"3", b"4"]
            requests = [seen.requests for seen in lab.server.seen(lab.keys[0])]
            assert requests == [[b"request"], [b"request after 2"], [b"request after 3"]]

    asyncio.run(run())


@pytest.mark.parametrize("resume", [lambda request, last: 1 / 0, _raises])
def test_a_stream_that_cannot_be_resumed_keeps_its_error(flaky: Served, resume: Any) -> None:
    """Whatever the hook raises, the caller has the messages that came, and the server's error."""

    async def run() -> None:
        async with connected(flaky, ClientPolicy(retry=QUICK_RETRY, resume=resume)) as lab:
            call = lab.call(fail("UNAVAILABLE", b"1"), path=READS)
            assert await call.read() == b"1"
            with pytest.raises(Unavailable, match="not now"):
                await call.read()
            assert await lab.ends() == ["done"]

    asyncio.run(run())


async def _not_pairs(_given: Any) -> Any:
    return 7


@pytest.mark.parametrize("refresh", [_raises, _not_pairs, _is_cancelled])
def test_a_refresh_that_fails_leaves_the_error(flaky: Served, refresh: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The call is not sent again; one warning says why."""

    async def run() -> None:
        # Another object each time: a function's faults are logged once.
        async with connected(flaky, ClientPolicy(refresh=lambda error: refresh(error))) as lab:
            call = lab.call(fail("UNAUTHENTICATED"), ok())
            with pytest.raises(StatusError, match="not now"):
                await call
            assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
            assert len(lab.server.seen(lab.keys[0])) == 1
            assert await lab.ends() == ["done"]

    asyncio.run(run())
    assert [record.levelname for record in caplog.records if record.name.startswith("grpc_faultwire.aio")] == [
        "WARNING"
    ]


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("reads", [False, True], ids=["iterated", "read"])
def test_a_fallback_s_responses_are_streamed(flaky: Served, asynchronous: bool, reads: bool) -> None:
    """A list or an asynchronous generator takes the place of the stream, however it is consumed."""

    async def numbers() -> AsyncIterator[bytes]:
        for number in (b"1", b"2"):
            await asyncio.sleep(0)
            yield number

    async def run() -> None:
        answer = fallback.function(lambda _: numbers() if asynchronous else [b"1", b"2"])
        async with connected(flaky, ClientPolicy(fallbacks=(answer,))) as lab:
            call = lab.call(fail("INTERNAL"), path=READS)
            if reads:
                assert [await call.read() for _ in range(4)] == [b"1", b"2", grpc.aio.EOF, grpc.aio.EOF]
            else:
                assert [response async for response in call] == [b"1", b"2"]
                assert [response async for response in call] == []
            assert (await call.code(), await call.details()) == (grpc.StatusCode.OK, "")
            assert tuple(await call.initial_metadata()) == tuple(await call.trailing_metadata()) == ()
            assert await call.debug_error_string() == ""

    asyncio.run(run())


def test_another_channel_answers(flaky: Served) -> None:
    """A fallback may return a call of another channel: it is awaited, and the caller has its answer."""

    async def run() -> None:
        server, address = flaky
        async with grpc.aio.insecure_channel(address) as other:

            def elsewhere(failed: fallback.Failed) -> Any:
                return other.unary_unary(failed.method)(
                    failed.request, metadata=(("key", server.plan([ok(b"other")])),)
                )

            async with connected(flaky, ClientPolicy(fallbacks=(fallback.function(elsewhere),))) as lab:
                assert await lab.call(fail("INTERNAL")) == b"other"

    asyncio.run(run())


@pytest.mark.parametrize("how", ["wrapped", "official"])
def test_both_doors(flaky: Served, how: str) -> None:
    """The official interceptors hedge, refresh and fall back as a wrapped channel does."""

    async def refresh(_error: Any) -> Any:
        return [("authorization", "new")]

    async def run() -> None:
        async with connected(flaky, ClientPolicy(hedge=HEDGE), how=how) as lab:
            assert await lab.call(hang(), ok(b"hedge")) == b"hedge"
            with pytest.raises(StatusError, match="not now"):
                await lab.call(hang(), fail("NOT_FOUND"))
            await lab.over()
        falling = ClientPolicy(refresh=refresh, fallbacks=(fallback.value(b"value"), fallback.last_good()))
        async with connected(flaky, falling, how=how) as lab:
            assert await lab.call(fail("UNAUTHENTICATED"), ok(b"fresh")) == b"fresh"
            assert [seen.get("authorization") for seen in lab.server.seen(lab.keys[0])] == [None, "new"]
            assert await lab.call(fail("INTERNAL")) == b"value"
        async with connected(flaky, ClientPolicy(fallbacks=(fallback.last_good(),)), how=how) as lab:
            assert await lab.call(ok(b"good")) == b"good"
            await lab.ends()
            assert await lab.call(fail("INTERNAL")) == b"good"

    asyncio.run(run())


# A thousand tasks.


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
    tasks = [asyncio.ensure_future(_result(lab.call(hang()))) for _ in range(1000)]
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
            tasks = [asyncio.ensure_future(_result(lab.call(fail()))) for _ in range(1000)]
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
            consumed = _result(call)
            await (consumed if way == 2 else asyncio.wait_for(consumed, limit))


async def _collected(call: Any) -> list[Any]:
    return [response async for response in call]


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

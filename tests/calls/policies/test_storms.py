"""Storms, from both worlds: calls with all policies that are cancelled, dropped, retried, hedged and closed at random.

Afterwards each call has ended once, every permit and token is back, and nothing is alive.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from policy_lab import Act, Caller, Handle, fail, hang, ok

from grpc_faultwire import Unauthenticated, fallback
from grpc_faultwire.aio.calls import UnaryUnaryCall
from grpc_faultwire.aio.running import Running as AioRunning
from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.flow import Flow
from grpc_faultwire.policies import BreakerPolicy, BudgetPolicy, HedgePolicy, RetryPolicy
from grpc_faultwire.policies.verdict import RETRY_COST
from grpc_faultwire.records import Outcome
from grpc_faultwire.state import PolicyState
from grpc_faultwire.sync.calls import Call
from grpc_faultwire.sync.running import Running

ACTS: tuple[Act, ...] = (
    ok(b"ok", b"1", b"2"),
    ok(b"ok", b"1", wait=0.02),
    fail(),
    fail("UNAVAILABLE", b"1"),
    fail("INTERNAL"),
    fail("NOT_FOUND"),
    fail("UNAUTHENTICATED"),
    fail(pushback="1"),
    fail(pushback="-1"),
    hang(),
)
FATES = ("cancel", "drop", "wait", "race", "keep")
INITIAL = 1e6
MEANT = (Flow, Call, Running, AioRunning, UnaryUnaryCall)


def policy(lottery: random.Random, *, hedges: bool) -> ClientPolicy:
    """A policy with everything in it; successes earn so little that tokens can be counted."""
    way: dict[str, Any] = {"retry": RetryPolicy(initial_backoff=0.004)}
    if hedges:
        way = {"hedge": HedgePolicy(max_attempts=3, delay=0.005)}
    return ClientPolicy(
        budget=BudgetPolicy(capacity=2 * INITIAL, initial=INITIAL, credit=1e-6),
        # The circuit opens and heals now and then.
        breaker=BreakerPolicy(failure_ratio=0.7, open_duration=0.01, max_open_duration=0.02, successes_to_close=1),
        fallbacks=(fallback.value([b"instead"], codes={"INTERNAL"}), fallback.last_good(codes={"NOT_FOUND"})),
        refresh=lambda error: [("authorization", "new")] if lottery.random() < 0.8 else 1 / 0,
        resume=lambda request, response: request,
        idempotent=True,
        replay_bytes=150,
        **way,
    )


def begin(caller: Caller, lottery: random.Random) -> Handle:
    """Begin a call of any shape; requests come at once, or slowly, or their iterator raises."""
    acts, options = lottery.choices(ACTS, k=3), {"timeout": lottery.choice((0.03, 1.0))}
    shape = lottery.choice(("future", "future", "begin_stream", "begin_client_stream", "begin_exchange"))
    if shape in {"future", "begin_stream"}:
        return getattr(caller, shape)(*acts, **options)  # type: ignore[no-any-return]
    requests = list(many(lottery.randrange(4))) if lottery.random() < 0.5 else many(lottery.randrange(6), lottery)
    return getattr(caller, shape)(requests, *acts, **options)  # type: ignore[no-any-return]


def many(count: int, lottery: random.Random | None = None) -> Iterator[bytes]:
    """Make so many requests; with a lottery slowly, and sometimes not all of them."""
    for number in range(count):
        if lottery is not None and lottery.random() < 0.2:
            time.sleep(0.002)
        if lottery is not None and lottery.random() < 0.05:
            raise ValueError(number)
        # One in a few is more than is kept for another attempt.
        yield b"%d" % number * (200 if lottery is not None and lottery.random() < 0.1 else 1)


def misuse(caller: Caller, lottery: random.Random, workers: list[threading.Thread]) -> Handle | None:
    """Begin a call and do something to it, here or in another thread."""
    handle = begin(caller, lottery)
    fate = lottery.choice(FATES)
    if fate == "cancel":
        workers.append(threading.Timer(lottery.random() * 0.03, handle.cancel))
    elif fate == "drop":
        handle.drop()
    elif fate == "wait":
        workers.append(threading.Thread(target=handle.result))
    elif fate == "race":
        workers += [threading.Thread(target=handle.result), *(threading.Thread(target=handle.cancel) for _ in "12")]
    return handle if fate == "keep" else None


def wave(caller: Caller, lottery: random.Random, size: int) -> None:
    """Misuse some calls at once, and sometimes close the channel under them."""
    workers: list[threading.Thread] = []
    kept = [misuse(caller, lottery, workers) for _ in range(size)]
    for worker in workers:
        worker.start()
    if lottery.random() < 0.4:
        caller.close()
    for worker in workers:
        worker.join(20)
        assert not worker.is_alive()
    del kept


@contextlib.contextmanager
def forced_open(state: PolicyState) -> Iterator[None]:
    """Open all circuits for a while: whether they open by themselves is up to chance."""
    keys = [one.key for one in state.snapshot(time.monotonic())]
    for key in keys:
        state.force_open(key, time.monotonic())
    yield
    for key in keys:
        state.auto(key, time.monotonic())


def resent(outcome: Outcome) -> int:
    """Count the attempts that the budget has paid for: all but the first, and those after a refresh."""
    refreshed = [one for one in outcome.attempts if isinstance(one.error, Unauthenticated) and one.delay is not None]
    # A hook that raised has none behind it, though hedges may have been sent before.
    free = sum(any(later.started >= (one.ended or 0) for later in outcome.attempts) for one in refreshed)
    return max(len(outcome.attempts) - 1, 0) - free


def storm(caller: Caller, caplog: pytest.LogCaptureFixture, count: int, seed: int, *, hedges: bool) -> Counter[str]:
    """Make so many calls in waves, and check the books."""
    # A record of a hook or an iterator that raised knows frames too, and pytest keeps it.
    for logger in ("grpc_faultwire", "grpc._channel"):
        caplog.set_level(logging.CRITICAL, logger=logger)
    before = alive()
    lottery, state, size = random.Random(seed), PolicyState(), 40
    for begun in range(0, count, size):
        caller.connect(policy(lottery, hedges=hedges), state=state, target="storm")
        with forced_open(state) if begun % 1000 == 960 else contextlib.nullcontext():
            wave(caller, lottery, size)
        caller.close()
        gc.collect()
    outcomes = caller.ledger.outcomes()
    assert len(outcomes) == count
    attempts = [attempt for outcome in outcomes for attempt in outcome.attempts]
    assert all(attempt.ended is not None for attempt in attempts)
    assert all(attempt.permit is None or attempt.permit.ended for attempt in attempts)
    assert state.budgets()["storm"] == pytest.approx(INITIAL - RETRY_COST * sum(map(resent, outcomes)), abs=1)
    hows = Counter(outcome.how for outcome in outcomes)
    del outcomes, attempts
    caller.ledger.forget()
    nothing_alive(before)
    return hows


def alive() -> dict[int, str]:
    """Return what exists of a call, by id."""
    gc.collect()
    return {id(one): type(one).__name__ for one in gc.get_objects() if isinstance(one, MEANT)}


def nothing_alive(before: dict[int, str]) -> None:
    """Check that calls and threads are gone; what goes on in other threads takes a moment to end.

    Args:
        before: what was alive before the storm: errors that other tests keep know calls.
    """
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        left = Counter(name for key, name in alive().items() if key not in before)
        busy = [thread for thread in threading.enumerate() if thread.name == "faultwire-recovery"]
        if not left and not busy:
            return
        time.sleep(0.05)
    pytest.fail(f"alive: {left}, threads: {busy}")


@pytest.mark.parametrize(
    "hedges", [pytest.param(False, id="retries"), pytest.param(True, id="hedges", marks=pytest.mark.slow)]
)
def test_a_small_storm(caller: Caller, caplog: pytest.LogCaptureFixture, hedges: bool) -> None:
    """Eighty calls: a wave, and another."""
    assert storm(caller, caplog, 80, 1, hedges=hedges)["done"]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("hedges", [False, True], ids=["retries", "hedges"])
def test_a_storm(caller: Caller, caplog: pytest.LogCaptureFixture, hedges: bool, seed: int) -> None:
    """Two thousand calls."""
    hows = storm(caller, caplog, 2000, seed, hedges=hedges)
    assert set(hows) >= {"done", "cancelled", "refused"}

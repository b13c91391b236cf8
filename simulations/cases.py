"""The cases: what goes wrong in each, which policies meet it, and what must come out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import NamedTuple

from .baselines import AWS, CONSECUTIVE, FINAGLE
from .client import (
    A6_THROTTLE,
    BREAKER,
    BUDGET,
    FAULTWIRE,
    NAIVE,
    NO_RETRIES,
    TAIL,
    Client,
    Stack,
    Tally,
)
from .engine import Attempt, FlakyServer, Loop, QueueServer, Server

NEVER = float("inf")
RATE = 800.0  # calls a second, in all
OVERLOADED = (20, 35)  # seconds
LAST_TIER_DOWN = (30, 45)  # seconds
DROPS_EXPIRED = replace(FAULTWIRE, name="faultwire, server drops expired")
BLAMES_RIGHT = replace(FAULTWIRE, name="faultwire, DEPENDENCY is neutral")
PER_SHARD = replace(FAULTWIRE, name="faultwire, breaker per shard")


class Result(NamedTuple):
    """One run: its figures, and for plots the success and load of each second."""

    figures: dict[str, float]
    success: list[float]
    load: list[float]


class Bound(NamedTuple):
    """A figure that must hold: in every run, or on average over them where chance alone makes runs differ."""

    stack: Stack
    figure: str
    least: float = -NEVER
    most: float = NEVER
    on_average: bool = False

    def holds(self, values: list[float]) -> bool:
        """Whether the figures of the runs are within it."""
        judged = [fmean(values)] if self.on_average else values
        return all(self.least <= value <= self.most for value in judged)


@dataclass(frozen=True)
class Case:
    """A story with policies to meet it.

    Attributes:
        trouble: the seconds from and until which it lasts, where it does not last for all of the run.
    """

    name: str
    title: str
    run: Callable[[Stack, int, bool], Result]
    stacks: tuple[Stack, ...]
    bounds: tuple[Bound, ...]
    trouble: tuple[int, int] | None = None

    def bounded(self, stack: Stack) -> bool:
        """Whether anything is demanded of these policies here."""
        return any(bound.stack is stack for bound in self.bounds)


def _result(tally: Tally, figures: dict[str, float]) -> Result:
    seconds = range(tally.seconds)
    return Result(figures, [tally.success(s, s + 1) for s in seconds], [tally.load(s, s + 1) for s in seconds])


def _spread(loop: Loop, clients: list[Client], server: Server, rate: float, until: float) -> None:
    """Have the clients call, together ``rate`` times a second."""
    count = len(clients)
    loop.poisson(rate, until, lambda: clients[int(loop.random() * count)].call(server))


def _overload(clients: int) -> Callable[[Stack, int, bool], Result]:
    """A server of 1000 requests a second is ten times slower for 15 s: does it ever recover?"""

    def run(stack: Stack, seed: int, quick: bool) -> Result:
        slow_from, slow_until = OVERLOADED
        end = slow_until + (50 if quick else 100)
        loop, tally = Loop(seed), Tally(end)
        server = QueueServer(
            loop,
            workers=20,
            mean=0.02,
            slow_from=slow_from,
            slow_until=slow_until,
            drops_expired=stack is DROPS_EXPIRED,
        )
        _spread(loop, [Client(loop, stack, tally) for _ in range(clients)], server, RATE, end)
        loop.run(end + TAIL)
        return _result(
            tally,
            {
                "recovery": tally.recovery(slow_until),
                "load_during": tally.load(slow_from, slow_until),
                "load_after": tally.load(slow_until, end),
                "success_after": tally.success(slow_until, end),
            },
        )

    return run


def _errors(ratio: float, *, clients: int = 50, rate: float = RATE) -> Callable[[Stack, int, bool], Result]:
    """A share of all answers is UNAVAILABLE, at random, and nothing else is wrong."""

    def run(stack: Stack, seed: int, quick: bool) -> Result:  # noqa: ARG001  see below
        end = int(24_000 / rate)  # fewer calls, and chance alone would miss a bound; quick has nothing to save here
        loop, tally = Loop(seed), Tally(end)
        server = FlakyServer(loop, error_ratio=ratio)
        _spread(loop, [Client(loop, stack, tally) for _ in range(clients)], server, rate, end)
        loop.run(end + TAIL)
        return _result(tally, {"success": tally.success(0, end), "load": tally.load(0, end)})

    return run


def _shards(stack: Stack, seed: int, quick: bool) -> Result:
    """One of ten shards fails every request: do the other nine suffer?"""
    end = 20 if quick else 60
    loop, healthy, bad = Loop(seed), Tally(end), Tally(end)
    shards = [FlakyServer(loop, error_ratio=float(n == 0)) for n in range(10)]
    to_healthy = [Client(loop, stack) for _ in range(50)]

    def arrive() -> None:
        client, number = to_healthy[int(loop.random() * 50)], int(loop.random() * 10)
        client.tally = healthy if number else bad
        client.call(shards[number], key=str(number) if stack is PER_SHARD else "")

    loop.poisson(RATE, end, arrive)
    loop.run(end + TAIL)
    return _result(healthy, {"success_healthy": healthy.success(0, end), "load_bad": bad.load(0, end)})


class Tier:
    """A service of ten processes that answers by calling the next one."""

    def __init__(self, loop: Loop, stack: Stack, following: Server) -> None:
        self._loop = loop
        self._clients = [Client(loop, stack) for _ in range(10)]
        self._following = following
        # UNAVAILABLE as it is invites retries at every tier: the worst that a server can say.
        self._failure = "INTERNAL" if stack is BLAMES_RIGHT else "UNAVAILABLE"

    def serve(self, attempt: Attempt, timeout: float) -> None:  # noqa: ARG002  its callers are patient: the time is not the point here
        """Pass the answer of the next service on."""
        self._clients[int(self._loop.random() * 10)].call(
            self._following, on_end=lambda code: attempt.answered(code if code == "OK" else self._failure)
        )


class Counter:
    """A server that counts the attempts it gets, between two times."""

    def __init__(self, loop: Loop, server: Server, start: float, end: float) -> None:
        self._loop, self._server, self._start, self._end = loop, server, start, end
        self.count = 0

    def serve(self, attempt: Attempt, timeout: float) -> None:
        """Count it and have it served."""
        self.count += self._start <= self._loop.now < self._end
        self._server.serve(attempt, timeout)


def _tiers(stack: Stack, seed: int, quick: bool) -> Result:
    """The last of three services is down for 15 s: how many attempts does each call become?"""
    rate = 200.0 if stack is NAIVE else RATE  # sixty-four times as many attempts take their time
    start, end = (20, 35) if quick else LAST_TIER_DOWN
    loop, tally = Loop(seed), Tally(end + 40)
    last = FlakyServer(loop, error_ratio=0.0, latency=0.005)
    counted = Counter(loop, last, start, end)
    set_error_ratio = partial(setattr, last, "error_ratio")
    loop.at(start, set_error_ratio, 1.0)
    loop.at(end, set_error_ratio, 0.0)
    front = Tier(loop, stack, Tier(loop, stack, counted))
    _spread(loop, [Client(loop, stack, tally) for _ in range(50)], front, rate, tally.seconds)
    loop.run(tally.seconds + TAIL)
    return _result(
        tally,
        {
            "amplification": counted.count / sum(tally.begun[start:end]),
            "recovery": tally.recovery(end, steady=3),
        },
    )


CASES = (
    Case(
        "overload",
        "800 calls/s of 50 clients to a server of 1000/s, ten times slower for 15 s",
        _overload(50),
        (NO_RETRIES, NAIVE, A6_THROTTLE, FINAGLE, AWS, BUDGET, BREAKER, FAULTWIRE, DROPS_EXPIRED),
        (
            Bound(FAULTWIRE, "recovery", most=12.0),
            Bound(FAULTWIRE, "load_during", most=1.15),
            Bound(FAULTWIRE, "load_after", most=1.15),
            Bound(NAIVE, "recovery", least=NEVER),
        ),
        OVERLOADED,
    ),
    Case(
        "small-clients",
        "the same, of 2000 clients with 0.4 calls/s each",
        _overload(2000),
        (NO_RETRIES, NAIVE, A6_THROTTLE, AWS, BUDGET, FAULTWIRE, DROPS_EXPIRED),
        (Bound(FAULTWIRE, "recovery", most=60.0),),
        OVERLOADED,
    ),
    Case(
        "errors-2",
        "2 % of the answers are errors, at random",
        _errors(0.02),
        (NO_RETRIES, NAIVE, A6_THROTTLE, FAULTWIRE),
        (Bound(FAULTWIRE, "success", least=0.9995),),
    ),
    Case(
        "errors-10",
        "10 % of the answers are errors, at random",
        _errors(0.10),
        (NO_RETRIES, NAIVE, A6_THROTTLE, FAULTWIRE),
        (Bound(FAULTWIRE, "success", least=0.995),),
    ),
    Case(
        "errors-25",
        "25 % of the answers are errors, at random",
        _errors(0.25),
        (NO_RETRIES, NAIVE, A6_THROTTLE, BREAKER, FAULTWIRE),
        (
            Bound(FAULTWIRE, "success", least=0.85),
            Bound(BREAKER, "success", least=0.74, on_average=True),
        ),
    ),
    Case(
        "errors-25-fast",
        "25 % errors, one client of 200 calls/s",
        _errors(0.25, clients=1, rate=200.0),
        (NO_RETRIES, CONSECUTIVE, BREAKER, FAULTWIRE),
        (
            Bound(BREAKER, "success", least=0.74, on_average=True),
            Bound(FAULTWIRE, "success", least=0.85),
        ),
    ),
    Case(
        "errors-25-slow",
        "25 % errors, one client of 16 calls/s",
        _errors(0.25, clients=1, rate=16.0),
        (NO_RETRIES, CONSECUTIVE, BREAKER, FAULTWIRE),
        (
            Bound(BREAKER, "success", least=0.74, on_average=True),
            Bound(FAULTWIRE, "success", least=0.85),
        ),
    ),
    Case(
        "shards",
        "one of ten shards is down",
        _shards,
        (NO_RETRIES, CONSECUTIVE, FAULTWIRE, PER_SHARD),
        (
            Bound(FAULTWIRE, "success_healthy", least=0.999),
            Bound(PER_SHARD, "success_healthy", least=0.999),
        ),
    ),
    Case(
        "tiers",
        "the last of three services is down for 15 s",
        _tiers,
        (NO_RETRIES, NAIVE, A6_THROTTLE, BUDGET, FAULTWIRE, BLAMES_RIGHT),
        (
            Bound(BUDGET, "amplification", most=1.3),
            Bound(FAULTWIRE, "amplification", most=1.3),
            Bound(BLAMES_RIGHT, "recovery", most=12.0),
        ),
        LAST_TIER_DOWN,
    ),
)

"""Act two: the shop turns flaky, goes down and recovers, while two callers call it without pause.

The naive one has its retries from grpc itself, by a service config: four attempts of every call. The other one has a
`ClientPolicy`: three attempts at most, within a budget, and behind a circuit breaker. Its breaker judges and waits for
tenths of a second instead of seconds, or the outage would have to last for a minute.
"""

from __future__ import annotations

import collections
import contextlib
import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import grpc

from bookshop.v1 import bookshop_pb2 as pb
from bookshop.v1 import bookshop_pb2_grpc
from examples.bookshop.moods import DOWN, FLAKY, WELL
from examples.bookshop.processes import Server
from examples.bookshop.scenes import PRIDE
from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.observers import names
from grpc_faultwire.policies import BreakerPolicy, BreakerState, RetryPolicy, Transition
from grpc_faultwire.records import Event
from grpc_faultwire.state import PolicyState
from grpc_faultwire.sync import wrap_channel

ROW, TICK = 0.5, 0.1
"""Seconds that a row of the timeline stands for, and seconds after which the growing row is shown anew."""
PLAN = (WELL,) * 2 + (FLAKY,) * 4 + (DOWN,) * 3 + (WELL,) * 2
MORE = 6
"""Rows that are added at most until the circuit is closed again: a busy machine may take longer."""
INTERVAL = 0.025
"""Seconds between a caller's calls."""
PATIENCE = 5.0
BACKOFF = 0.02
"""Seconds before the first retry; the same for both callers."""

NAIVE, OURS = "naive", "ours"
NAIVE_CONFIG = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": f"{BACKOFF}s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
POLICY = ClientPolicy(
    retry=RetryPolicy(initial_backoff=BACKOFF),
    breaker=BreakerPolicy(window=1.0, open_duration=0.3, max_open_duration=0.6),
)

Counts = collections.Counter


class Caller:
    """Calls at a steady pace, whatever comes of it: customers do not wait for one another.

    Attributes:
        answered: when each call that succeeded had its answer.
    """

    def __init__(self, channel: grpc.Channel) -> None:
        self.answered: list[float] = []
        self._channel = channel
        self._stub = bookshop_pb2_grpc.BookshopStub(channel)
        self._lock, self._counts = threading.Lock(), Counts()
        self._over = threading.Event()
        self._pool = futures.ThreadPoolExecutor(max_workers=16)
        self._clerk = threading.Thread(target=self._call_on)

    def __enter__(self) -> Self:
        self._clerk.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._clerk.join()
        self._pool.shutdown()
        self._channel.close()

    def count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1

    def counts(self) -> Counts[str]:
        with self._lock:
            return self._counts.copy()

    def _call_on(self) -> None:
        due = time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            self._pool.submit(self._call)
            due += INTERVAL

    def _call(self) -> None:
        self.count("calls")
        try:
            self._stub.GetBook(pb.GetBookRequest(isbn=PRIDE), timeout=PATIENCE)
        except grpc.RpcError:
            self.count("failed")
        else:
            self.answered.append(time.monotonic())
            self.count("succeeded")


def naive_channel(address: str) -> grpc.Channel:
    options = [("grpc.primary_user_agent", NAIVE), ("grpc.service_config", json.dumps(NAIVE_CONFIG))]
    return grpc.insecure_channel(address, options)


class OurCaller(Caller):
    """A caller with a policy, who observes what it decides.

    Attributes:
        state: the policy's memory.
        transitions: of its circuit breaker.
    """

    def __init__(self, address: str) -> None:
        self.state = PolicyState()
        self.transitions: list[Transition] = []
        plain = grpc.insecure_channel(address, [("grpc.primary_user_agent", OURS)])
        super().__init__(wrap_channel(plain, POLICY, state=self.state, observers=[self]))

    def on_event(self, _token: Any, event: Event) -> None:
        if event.name == names.RETRY.name:
            self.count("retries")
        elif event.name == names.CIRCUIT_REJECTED.name:
            self.count("rejected")

    def on_transition(self, transition: Transition) -> None:
        self.transitions.append(transition)

    @property
    def tokens(self) -> float:
        return sum(self.state.budgets().values())

    @property
    def breaker(self) -> BreakerState:
        breakers = self.state.snapshot(time.monotonic())
        return breakers[0].state if breakers else BreakerState.CLOSED


class Sample(NamedTuple):
    """All that was counted up to a moment."""

    at: float
    counts: dict[str, Counts[str]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """What happened in half a second.

    Attributes:
        begins: seconds since the act began.
        since: the same on the monotonic clock.
        mood: the shop's.
        naive, ours: calls, succeeded, failed; attempts and served, as the shop counted; retries and rejected of ours.
        tokens: of the budget, at the end.
        breaker: its state at the end, after those that it passed through.
    """

    begins: float
    since: float
    mood: str
    naive: Counts[str]
    ours: Counts[str]
    tokens: float
    breaker: Sequence[BreakerState]


class Storm:
    """The act. `rows` plays it."""

    def __init__(self, shop: Server, naive: Caller, ours: OurCaller) -> None:
        self._shop = shop
        self._naive = naive
        self._ours = ours

    def rows(self) -> Iterator[tuple[Row, bool]]:
        """Give every row again and again while it grows, and at last with True."""
        moods = self._moods()
        mood = next(moods)
        opening = before = self._look(mood)
        while mood:
            while (left := before.at + ROW - time.monotonic()) > TICK:
                time.sleep(TICK)
                yield self._row(mood, opening, before, self._look()), False
            time.sleep(max(0.0, left))
            following = next(moods, "")
            # The answer that confirms a new mood counts what the old one saw.
            after = self._look(following)
            yield self._row(mood, opening, before, after), True
            mood, before = following, after

    def _moods(self) -> Iterator[str]:
        yield from PLAN
        for _ in range(MORE):
            if self._ours.breaker is BreakerState.CLOSED:
                return
            yield WELL

    def _look(self, mood: str = "") -> Sample:
        at, seen = time.monotonic(), self._shop.tell(mood)
        callers = ((NAIVE, self._naive), (OURS, self._ours))
        return Sample(at, {name: caller.counts() + Counts(seen.get(name)) for name, caller in callers})

    def _row(self, mood: str, opening: Sample, before: Sample, after: Sample) -> Row:
        passed = [change.after for change in self._ours.transitions if before.at <= change.at < after.at]
        return Row(
            begins=before.at - opening.at,
            since=before.at,
            mood=mood,
            naive=after.counts[NAIVE] - before.counts[NAIVE],
            ours=after.counts[OURS] - before.counts[OURS],
            tokens=self._ours.tokens,
            breaker=passed or [self._ours.breaker],
        )

    def outcome(self, rows: Sequence[Row]) -> Outcome:
        last_down = max(number for number, row in enumerate(rows) if row.mood == DOWN)
        recovered = rows[last_down + 1].since
        closed = [change.at for change in self._ours.transitions if change.after is BreakerState.CLOSED]
        return Outcome(
            flaky=Phase.of(rows, FLAKY),
            down=Phase.of(rows, DOWN),
            opened=any(BreakerState.OPEN in row.breaker for row in rows if row.mood == DOWN),
            healed=self._ours.breaker is BreakerState.CLOSED,
            naive_back=_first(self._naive.answered, recovered),
            ours_back=_first(self._ours.answered, recovered),
            closed_after=_first(closed, recovered),
        )


def _first(times: Sequence[float], since: float) -> float | None:
    return min((at - since for at in times if at >= since), default=None)


class Phase(NamedTuple):
    """What the callers did while the shop was in one mood."""

    naive: Counts[str]
    ours: Counts[str]

    @classmethod
    def of(cls, rows: Sequence[Row], mood: str) -> Phase:
        rows = [row for row in rows if row.mood == mood]
        return cls(sum((row.naive for row in rows), Counts()), sum((row.ours for row in rows), Counts()))

    @property
    def bare(self) -> float:
        """The share of attempts that succeeded, which is what a call without retries may hope for."""
        both = self.naive + self.ours
        return both["served"] / max(1, both["attempts"])


def success(counts: Counts[str]) -> float:
    return counts["succeeded"] / max(1, counts["succeeded"] + counts["failed"])


def attempts_per_call(counts: Counts[str]) -> float:
    return counts["attempts"] / max(1, counts["calls"])


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of the act.

    Attributes:
        flaky, down: the counts of these phases.
        opened: whether the circuit opened during the outage.
        healed: whether it is closed at the end.
        naive_back, ours_back: seconds from the recovery to the first answer; None: there was none.
        closed_after: seconds from the recovery until the circuit was closed; None: it was not.
    """

    flaky: Phase
    down: Phase
    opened: bool
    healed: bool
    naive_back: float | None
    ours_back: float | None
    closed_after: float | None

    def faults(self) -> list[str]:
        """Return, in sentences, what was not as it must be."""
        loads = [attempts_per_call(counts) for counts in self.down]
        rules = (
            (success(self.flaky.ours) > self.flaky.bare, "retries gained nothing while the shop was flaky"),
            (self.opened, "the circuit did not open during the outage"),
            (loads[1] < loads[0], "the circuit did not lessen the load during the outage"),
            (self.healed and self.closed_after is not None, "the circuit did not close after the recovery"),
            (self.ours_back is not None, "no call succeeded after the recovery"),
        )
        return [sentence for holds, sentence in rules if not holds]


@contextlib.contextmanager
def storm(shop: Server) -> Iterator[Storm]:
    """Let both callers begin."""
    with Caller(naive_channel(shop.address)) as naive, OurCaller(shop.address) as ours:
        yield Storm(shop, naive, ours)

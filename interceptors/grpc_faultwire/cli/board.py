"""What ``faultwire top`` knows and shows, without a terminal: snapshots become tables, keys become orders."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import NamedTuple

import grpc

from faultwire.v1 import diagnostics_pb2 as pb
from faultwire.v1 import options_pb2
from grpc_faultwire.details import seconds

RATE_WINDOW = 10.0
"""Seconds over which a rate is taken: a shorter time flickers, a longer one hides that an error has begun."""

GROUP_HEAD = ("count", "per s", "code", "category", "reason", "where", "first", "last", "sample")
BREAKER_HEAD = ("breaker", "state", "calls", "failed", "refused", "may pass in")
BUDGET_HEAD = ("budget", "tokens")

OVERRIDES = {
    "open": pb.BREAKER_OVERRIDE_OPEN,
    "closed": pb.BREAKER_OVERRIDE_CLOSED,
    "auto": pb.BREAKER_OVERRIDE_AUTO,
}
"""What a breaker can be forced to, by the words of the command line."""

KEYS = {"o": "open", "c": "closed", "a": "auto"}
"""What keys ask for."""
HELP = "↑ ↓ choose a breaker   o hold it open   c closed   a let it decide   q quit"

_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


class Order(NamedTuple):
    """A breaker that is to be forced.

    Attributes:
        breaker: its name.
        word: open, closed or auto.
    """

    breaker: str
    word: str

    def request(self) -> pb.ForceBreakerRequest:
        """Return what asks a server for it."""
        return pb.ForceBreakerRequest(breaker=self.breaker, override=OVERRIDES[self.word])

    def done(self, breaker: pb.Breaker) -> str:
        """Say what was done."""
        what = "decides for itself again" if self.word == "auto" else f"is held {self.word}"
        return f"{breaker.name} {what}: its state is {state_of(breaker)}."


class _Counts(NamedTuple):
    """The counts of a snapshot; `whole` if it has all groups, so that those it lacks were 0."""

    at: float
    errors: int
    groups: dict[str, int]
    whole: bool


class Rates:
    """How many a second of each kind, over the last `RATE_WINDOW` seconds."""

    def __init__(self) -> None:
        self._seen: collections.deque[_Counts] = collections.deque()

    def add(self, snapshot: pb.Snapshot) -> None:
        """Take note of a snapshot's counts."""
        groups = {group.fingerprint: group.count for group in snapshot.groups}
        now = _Counts(_time(snapshot), snapshot.errors, groups, whole=len(groups) == snapshot.known_groups)
        if self._seen and (now.at <= self._seen[-1].at or now.errors < self._seen[-1].errors):
            self._seen.clear()  # another process, or its clock was set
        self._seen.append(now)
        while len(self._seen) > 2 and self._seen[1].at <= now.at - RATE_WINDOW:
            self._seen.popleft()

    def of(self, kind: str) -> float | None:
        """Return how many a second; None: nobody can know yet."""
        first, last = self._seen[0], self._seen[-1]
        before = first.groups.get(kind, 0 if first.whole else None)
        if last is first or before is None:
            return None
        return max(0, last.groups[kind] - before) / (last.at - first.at)


class Board:
    """What is shown.

    Attributes:
        snapshot: the last one. None: none has come yet.
        news: what was done last, or what is wrong.
        asked: what waits for a yes.
        stale: why no newer snapshot comes; "": it does.
    """

    def __init__(self) -> None:
        self.snapshot: pb.Snapshot | None = None
        self.news = ""
        self.asked: Order | None = None
        self.stale = ""
        self._rates = Rates()
        self._chosen = ""

    def update(self, snapshot: pb.Snapshot) -> None:
        """Show a new snapshot."""
        self.snapshot, self.stale = snapshot, ""
        self._rates.add(snapshot)

    # What keys do.

    @property
    def chosen(self) -> str:
        """The name of the breaker that keys are for; "": there is none."""
        names = self._names()
        return self._chosen if self._chosen in names else next(iter(names), "")

    def press(self, key: str) -> Order | None:
        """Take note of a key: up, down, o, c, a or y; return what it orders. Holding a breaker needs a yes."""
        if self.asked is not None:
            order, self.asked = self.asked, None
            self.news = "" if key == "y" else "Nothing was done."
            return order if key == "y" else None
        if key in ("up", "down"):
            self._choose(1 if key == "down" else -1)
        elif key in KEYS:
            self.news = "" if self.chosen else "There is no breaker to force."
            self.asked = Order(self.chosen, KEYS[key]) if self.chosen else None
        return None

    def _names(self) -> list[str]:
        return [breaker.name for breaker in self.snapshot.breakers] if self.snapshot is not None else []

    def _choose(self, step: int) -> None:
        names = self._names()
        if names:
            self._chosen = names[(names.index(self.chosen) + step) % len(names)]

    # What is shown.

    def state(self) -> tuple[object, ...]:
        """Return what is compared to know whether anything has changed."""
        at = None if self.snapshot is None else _time(self.snapshot)
        return at, self.chosen, self.news, self.asked, self.stale

    def title(self) -> str:
        """Return a line on all of it."""
        if self.snapshot is None:
            return "no snapshot yet"
        known, shown = self.snapshot.known_groups, len(self.snapshot.groups)
        parts = [self.snapshot.time.ToDatetime().strftime("%H:%M:%S UTC"), f"{self.snapshot.errors:,} errors"]
        groups = "group" if known == 1 else "groups"
        parts.append(f"{shown} of {known} {groups}" if shown < known else f"{known} {groups}")
        return ", ".join(parts)

    def question(self) -> str:
        """Return what waits for a yes; "": nothing."""
        if self.asked is None:
            return ""
        what = "let it decide for itself" if self.asked.word == "auto" else f"hold it {self.asked.word}"
        return f"{self.asked.breaker}: {what}? y: yes; any other key: no"

    def groups(self) -> list[list[str]]:
        """Return a row for each group of errors."""
        snapshot = self.snapshot
        return [list(self._group(group, _time(snapshot))) for group in snapshot.groups] if snapshot is not None else []

    def _group(self, group: pb.ErrorGroup, now: float) -> Iterator[str]:
        rate = self._rates.of(group.fingerprint)
        yield f"{group.count:,}" if not group.overcount else f"{group.count - group.overcount:,}..{group.count:,}"
        yield "" if rate is None else f"{rate:.1f}"
        yield _CODES.get(group.code, str(group.code))
        yield options_pb2.Category.Name(group.category).removeprefix("CATEGORY_") if group.category else ""
        yield group.reason
        yield f"{group.side} {group.service.rpartition('.')[2]}/{group.method}"
        yield ago(now - group.first_seen.ToNanoseconds() / 1e9)
        yield ago(now - group.last_seen.ToNanoseconds() / 1e9)
        yield group.sample

    def breakers(self) -> list[list[str]]:
        """Return a row for each breaker."""
        return [_breaker(one) for one in self.snapshot.breakers] if self.snapshot is not None else []

    def budgets(self) -> list[list[str]]:
        """Return a row for each budget."""
        return [[one.target, f"{one.tokens:.1f}"] for one in self.snapshot.budgets] if self.snapshot is not None else []


def _breaker(one: pb.Breaker) -> list[str]:
    state = f"{state_of(one)} (observes)" if one.observes else state_of(one)
    wait = f"{seconds(one.retry_after):.1f} s" if one.HasField("retry_after") else ""
    return [one.name, state, f"{one.calls:,}", f"{one.failure_ratio:.0%}", f"{one.refused:,}", wait]


def state_of(breaker: pb.Breaker) -> str:
    """Return a breaker's state as one word or two."""
    return pb.BreakerState.Name(breaker.state).removeprefix("BREAKER_STATE_").lower().replace("_", " ")


def ago(since: float) -> str:
    """Return an age in one unit: "3 s", "12 min", "5 h", "2 d"."""
    since = max(0.0, since)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if since >= 2 * length:
            return f"{since / length:.0f} {unit}"
    return f"{since:.0f} s"


def _time(snapshot: pb.Snapshot) -> float:
    return float(snapshot.time.ToNanoseconds() / 1e9)

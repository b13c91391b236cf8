"""`ErrorGroups`: errors over time, by where they come from, in bounded memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from grpc_faultwire.category import Category, Severity
from grpc_faultwire.diagnostics.space_saving import Counter, SpaceSaving
from grpc_faultwire.errors import Origin, StatusError
from grpc_faultwire.observers import names
from grpc_faultwire.observers.fingerprint import fingerprint
from grpc_faultwire.records import CallInfo, Event, Outcome
from grpc_faultwire.redaction import Redactor, escaped

SIZE = 256
"""How many groups are counted: a group that makes up more than 1/256 of the errors is there for certain."""


MAX_SAMPLE = 1000
"""Characters of a sample; no error is worth more memory here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """What is kept of one error of a group: facts, never the exception, which would keep a whole request alive.

    Attributes:
        code: its status code.
        category: what kind of failure.
        severity: how loudly a server reports it.
        reason: why, for programs.
        domain: where the reason is defined; "" if it was not said.
        origin: where it came from.
        message: what happened, redacted, as one line.
    """

    code: grpc.StatusCode
    category: Category
    severity: Severity
    reason: str
    domain: str
    origin: Origin
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorGroup:
    """Errors that come from the same place in the same way: of the same exceptions, in-app frames and category.

    Attributes:
        fingerprint: see `grpc_faultwire.observers.fingerprint`.
        count: how many there were; at most so many, and at least so many less `overcount`.
        overcount: how many of them may have been of groups that were given up for this one.
        first_seen: seconds since the epoch.
        last_seen: seconds since the epoch.
        call: where the last one was seen.
        error_id: finds the last one in its server's log.
        sample: the first one.
    """

    fingerprint: str
    count: int
    overcount: int
    first_seen: float
    last_seen: float
    call: CallInfo
    error_id: str
    sample: Sample


class _Seen:
    __slots__ = ("call", "error_id", "first", "last", "sample")

    def __init__(self, now: float) -> None:
        self.first = now
        self.last = now
        self.call: CallInfo | None = None
        self.error_id = ""
        self.sample: Sample | None = None


class ErrorGroups:
    """An observer, for servers and channels alike, that counts errors by fingerprint with `SpaceSaving`.

    Args:
        size: how many groups are counted. 256.
        least: errors below this severity are not counted. WARNING: what callers do wrong is no news, and there may be
            much of it.
        redactor: decides what of a message may be shown. Default: the default redactor.
        wall_clock: returns seconds since the epoch.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(
        self,
        *,
        size: int = SIZE,
        least: Severity = Severity.WARNING,
        redactor: Redactor | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._counters: SpaceSaving[str, _Seen] = SpaceSaving(size)
        self._least = least
        self._redactor = redactor or Redactor()
        self._wall_clock = wall_clock
        self._lock = threading.Lock()

    def on_start(self, call: CallInfo) -> CallInfo:
        """Keep what is called."""
        return call

    def on_end(self, call: CallInfo, outcome: Outcome) -> None:
        """Count an error, and one in whose place an answer was given."""
        error = outcome.error or outcome.recovered
        if error is not None:
            self._count(call, error, outcome.exception)

    def on_event(self, call: CallInfo, event: Event) -> None:
        """Count an item of a batch that has failed, whatever its RPC answers."""
        if event.name == names.ITEM_ERROR.name:
            self._count(call, event.attributes["error"], event.attributes["exception"])

    def _count(self, call: CallInfo, error: StatusError, exception: BaseException | None) -> None:
        if error.severity < self._least:
            return
        kind = fingerprint(error, exception)
        now = self._wall_clock()
        with self._lock:
            seen = self._counters.add(kind, _Seen(now)).value
            seen.last, seen.call, seen.error_id = now, call, error.error_id
            if seen.sample is None:
                seen.sample = self._sample(error)

    @property
    def total(self) -> int:
        """How many errors were counted."""
        return self._counters.total

    def __len__(self) -> int:
        """Return how many groups are known."""
        return len(self._counters)

    def top(self, number: int | None = None) -> list[ErrorGroup]:
        """Return the groups, the most frequent first.

        Args:
            number: how many at the most. None: all.
        """
        with self._lock:
            return [_group(counter) for counter in self._counters.top(number)]

    def _sample(self, error: StatusError) -> Sample:
        return Sample(
            code=error.code(),
            category=error.category,
            severity=error.severity,
            reason=error.reason,
            domain=error.domain or "",
            origin=error.origin,
            # Cut once it is redacted: half a secret looks like none.
            message=escaped(self._redactor.text(error.message))[:MAX_SAMPLE],
        )


def _group(counter: Counter[str, _Seen]) -> ErrorGroup:
    seen = counter.value
    if seen.call is None or seen.sample is None:
        raise AssertionError("a counter is filled under the lock under which it is made")
    return ErrorGroup(
        fingerprint=counter.kind,
        count=counter.count,
        overcount=counter.over,
        first_seen=seen.first,
        last_seen=seen.last,
        call=seen.call,
        error_id=seen.error_id,
        sample=seen.sample,
    )

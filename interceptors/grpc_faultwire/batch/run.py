"""One batch of a caller, without I/O: what to send next, what an answer means, where every item ends.

A carrier asks `next` what to do, sends, and says with `acknowledge` and `finish` what came back. It is told the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from grpc_faultwire.batch import verdicts
from grpc_faultwire.batch.ledger import Ledger
from grpc_faultwire.batch.overall import DOMAIN
from grpc_faultwire.batch.policy import BatchPolicy
from grpc_faultwire.batch.result import BatchResult, Progress
from grpc_faultwire.batch.splitting import Sent, Splitter, size_of
from grpc_faultwire.batch.verdicts import Judgement
from grpc_faultwire.errors import Cancelled, DeadlineExceeded, Internal, Origin, StatusError, Unknown
from grpc_faultwire.policies import Budget, BudgetPolicy, Deadline, RetryBudget
from grpc_faultwire.presets import Circumstances, classify

NOT_SENT = "ITEM_NOT_SENT"
"""Reason of an item that was never sent: the batch was cancelled, or its time was over."""
UNACKNOWLEDGED = "ITEM_UNACKNOWLEDGED"
"""Reason of an item that was sent and never answered."""


@dataclass(eq=False, slots=True)
class Request:
    """A request that is to be sent, or under way.

    Attributes:
        number: from 1.
        entries: its items, in the order in which they are sent.
        timeout: seconds that it is given. None: no limit.
    """

    number: int
    entries: list[Sent]
    timeout: float | None
    answered: dict[int, Judgement | None] = field(default_factory=dict)

    @property
    def items(self) -> list[Any]:
        """The caller's items."""
        return [entry.item for entry in self.entries]


class BatchRun:
    """One batch, from its first request to its result. Not synchronised: its carrier is.

    Args:
        items: any iterable; items are taken from it when there is room to send them.
        policy: how they are sent.
        now: seconds on the monotonic clock.
        random: returns numbers in [0, 1), for jitter.
        budget: what retries draw on, each in proportion to its share of a full request. It is the channel's, which
            credits it. None: one of its own.
        size: from an item to its serialized bytes.
    """

    def __init__(
        self,
        items: Iterable[Any],
        policy: BatchPolicy,
        *,
        now: float,
        random: Callable[[], float],
        budget: Budget | None = None,
        size: Callable[[Any], int] = size_of,
    ) -> None:
        self._policy = policy
        self._random = random
        self._own_budget = budget is None
        self._budget = RetryBudget(BudgetPolicy()) if budget is None else budget
        self._deadline = Deadline.after(policy.timeout, now)
        self._splitter = Splitter(items, max_items=policy.max_items, max_bytes=policy.max_bytes, size=size)
        self._ledger = Ledger()
        self._waiting: list[Sent] = []
        self._open: set[Request] = set()
        self._largest = 1
        self._stopped: StatusError | None = None

    @property
    def fault(self) -> Exception | None:
        """What the caller's iterable, or size function, raised: its items end there."""
        return self._splitter.fault

    # What to do.

    def next(self, now: float) -> Request | float | None:
        """Return the next request to send; or the seconds to wait for answers, at the most; None: the batch has ended.

        Args:
            now: seconds on the monotonic clock.
        """
        if self._deadline.expired(now):
            late = DeadlineExceeded(
                "The batch's time was over before this item was sent.", reason=NOT_SENT, domain=DOMAIN
            )
            self.stop(_local(late))
        if len(self._open) < self._policy.concurrency:
            entries, due = self._ready(now)
            if entries:
                return self._begin(entries, now)
            if due is not None:
                return min(due, self._deadline.remaining(now))
        return math.inf if self._open else None

    def _ready(self, now: float) -> tuple[list[Sent], float | None]:
        """Return the items that may go now, or the seconds until some may; None: not before an answer has come."""
        full = self._splitter.fills(self._waiting)
        # Fresh items go on while retries wait for their time, but no more than fill every slot once: a server that
        # refuses all of them must not make us hold all of them.
        crowded = len(self._waiting) >= self._policy.max_items * self._policy.concurrency
        if not self._splitter.done and not (full and (crowded or self._due(now) <= 0)):
            return self._splitter.take(), None
        # A part of a request waits for the answers under way: they may bring more to send along with it.
        if not self._waiting or not (full or not self._open):
            return [], None
        due = self._due(now)
        return (self._splitter.take_from(self._waiting), None) if due <= 0 else ([], due)

    def _due(self, now: float) -> float:
        """Return the seconds until the first of the waiting may go: the longest delay among those that go together."""
        together = self._waiting[: self._policy.max_items]
        return max((entry.due for entry in together), default=now) - now

    def _begin(self, entries: list[Sent], now: float) -> Request:
        again = sum(entry.attempts > 0 for entry in entries)
        for entry in entries:
            entry.attempts += 1
            entry.share = 0.0  # the tokens are spent
        self._largest = max(self._largest, len(entries))
        self._ledger.requests += 1
        self._ledger.retried += again
        timeout = self._deadline.attempt_timeout(self._policy.attempt_timeout, now)
        request = Request(self._ledger.requests, entries, timeout)
        self._open.add(request)
        return request

    # What came back.

    def acknowledge(self, request: Request, position: int, error: StatusError | None, value: Any = None) -> None:
        """Take note of the answer to one item. A second answer changes nothing.

        Args:
            request: which it was sent in.
            position: in that request, from 0; one that is not there is left alone.
            error: the item's own. None: it is well.
            value: what the server gave for it.
        """
        if request not in self._open or not 0 <= position < len(request.entries) or position in request.answered:
            return
        entry = request.entries[position]
        if error is None:
            request.answered[position] = None
            self._ledger.well(entry, value)
            return
        repeatable = self._policy.may_repeat(entry.item)
        entry.error = error
        request.answered[position] = verdicts.of_item(error, self._policy.retry, repeatable=repeatable)

    def spare(self, request: Request, position: int, error: StatusError) -> None:
        """Take note of an item that was not carried out for no fault of its own: it may be sent again."""
        if request in self._open and position not in request.answered:
            request.entries[position].error = error
            request.answered[position] = Judgement(again=True, certain=True)

    def unsendable(self, request: Request, cause: Exception, now: float) -> None:
        """Take note that a request could not be made or given to grpc: its items were never sent."""
        error = _local(Internal("The request could not be made.", reason=verdicts.UNSENDABLE, domain=DOMAIN))
        error.__cause__ = cause
        self.finish(request, error, now)

    def finish(
        self,
        request: Request,
        error: StatusError | None,
        now: float,
        *,
        applied: bool | None = None,
        cause: Exception | None = None,
    ) -> None:
        """Take note that a request has ended.

        Args:
            request: which.
            error: what the RPC failed with. None: it answered OK.
            now: seconds on the monotonic clock.
            applied: whether items that were not answered one by one were carried out. True: they were; False: they
                were not; None: nobody can know, but from what the error means.
            cause: what kept the answer from being read.
        """
        if request not in self._open:
            return
        for position in range(len(request.entries)):
            if position not in request.answered:
                self._infer(request, position, error, applied, cause)
        self._open.discard(request)
        self._tell_budget(error)
        if error is not None and len(error.attempts) > 1:
            for entry in request.entries:
                entry.attempts += len(error.attempts) - 1  # the channel has tried again by itself
        judged = [(entry, request.answered[position]) for position, entry in enumerate(request.entries)]
        self._decide([(entry, judgement) for entry, judgement in judged if judgement is not None], now)

    def _infer(
        self,
        request: Request,
        position: int,
        error: StatusError | None,
        applied: bool | None,  # noqa: FBT001  # internal
        cause: Exception | None,
    ) -> None:
        entry = request.entries[position]
        repeatable = self._policy.may_repeat(entry.item)
        if error is not None:
            entry.error = error
            judgement = verdicts.of_request(error, self._policy.retry, repeatable=repeatable)
            request.answered[position] = judgement._replace(certain=True) if applied is False else judgement
        elif applied:
            self.acknowledge(request, position, None)
        else:
            entry.error = _local(Unknown("The server did not answer this item.", reason=UNACKNOWLEDGED, domain=DOMAIN))
            entry.error.__cause__ = cause
            request.answered[position] = Judgement(again=repeatable, certain=applied is False)

    def _tell_budget(self, error: StatusError | None) -> None:
        if self._own_budget:
            self._budget.credit(classify(error, Circumstances()))

    # What is sent again.

    def _decide(self, judged: list[tuple[Sent, Judgement]], now: float) -> None:
        """Send the retryable again, together; end the others."""
        policy, u = self._policy.retry, self._random()
        again: list[tuple[Sent, Judgement, float]] = []
        for entry, judgement in judged:
            entry.certain = judgement.certain
            delay = verdicts.wait(policy, judgement, attempts=entry.attempts, u=u) if judgement.again else None
            if delay is None or entry.attempts >= policy.max_attempts or self._stopped is not None:
                self._ledger.ill(entry, entry.error, certain=entry.certain)
            else:
                again.append((entry, judgement, delay))
        if again and self._afford(again, now):
            due = now + max(delay for _, _, delay in again)
            for entry, _, _ in again:
                entry.due = due
                self._waiting.append(entry)
        else:
            for entry, _, _ in again:
                self._ledger.ill(entry, entry.error, certain=entry.certain)

    def _afford(self, again: list[tuple[Sent, Judgement, float]], now: float) -> bool:
        """Whether there are time and tokens for it: tokens in proportion to a full request, taken before the wait."""
        longest = max(delay for _, _, delay in again)
        if not self._deadline.fits(longest, now, self._policy.retry.min_attempt_time):
            return False
        cost = sum(judgement.cost for _, judgement, _ in again) / max(self._largest, len(again))
        if not self._budget.take(cost):
            return False
        for entry, _, _ in again:
            entry.share = cost / len(again)
        return True

    # How it ends.

    def stop(self, error: StatusError) -> None:
        """Send nothing more. Items that wait to be sent again keep their last error; those never sent get this one."""
        if self._stopped is not None:
            return
        self._stopped = error
        for entry in self._waiting:
            if entry.share:
                self._budget.refund(entry.share)
            self._ledger.ill(entry, entry.error, certain=entry.certain)
        self._waiting.clear()
        for entry in self._splitter.rest():
            self._ledger.ill(entry, error, certain=True)

    def abandon(self) -> None:
        """Give up the requests under way: what they carried out nobody will know. Sends nothing more."""
        self.stop(
            _local(Cancelled("The batch was cancelled before this item was sent.", reason=NOT_SENT, domain=DOMAIN))
        )
        for request in list(self._open):
            self.drop(request)

    def drop(self, request: Request) -> None:
        """Give up a request under way. One that has ended is left alone."""
        if request not in self._open:
            return
        self._open.discard(request)
        lost = _local(Cancelled("The request was given up.", reason=UNACKNOWLEDGED, domain=DOMAIN))
        for position, entry in enumerate(request.entries):
            judgement = request.answered.get(position, _LOST)
            if judgement is not None:
                error = lost if judgement is _LOST else entry.error
                self._ledger.ill(entry, error, certain=judgement.certain)

    def progress(self) -> Progress:
        """Return how far it is."""
        answered = sum(judgement is None for request in self._open for judgement in request.answered.values())
        return Progress(
            total=self._splitter.total,
            ok=self._ledger.ok,
            failed=len(self._ledger.failures),
            unknown=len(self._ledger.unknown),
            in_flight=sum(len(request.entries) for request in self._open) - answered,
            waiting=len(self._waiting),
            requests=self._ledger.requests,
        )

    def result(self) -> BatchResult:
        """Return what became of the items; those that have not ended yet count as unknown, or as not sent."""
        self.abandon()
        return self._ledger.result(self._splitter.taken, exhausted=self._splitter.exhausted)


_LOST = Judgement(again=False, certain=False)


def _local(error: StatusError) -> StatusError:
    error.origin = Origin.LOCAL
    return error

"""`ErrorCollector`: what the items of a batch raise, by index and key, for one answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from google.protobuf.message import Message
from google.rpc import status_pb2

from faultwire.v1 import errors_pb2
from grpc_faultwire.batch import fields
from grpc_faultwire.batch.events import batch_event
from grpc_faultwire.batch.items import ItemTranslator
from grpc_faultwire.batch.overall import Tally
from grpc_faultwire.batch.report import BODY_BYTES, Counts, Failure, compose
from grpc_faultwire.batch.undone import INTERRUPTED_STATUS, NOT_ATTEMPTED_STATUS, leaves
from grpc_faultwire.errors import StatusError
from grpc_faultwire.redaction import Redactor
from grpc_faultwire.translation import Translator

T = TypeVar("T")
R = TypeVar("R", bound=Message)
Locate = Callable[[BaseException], "tuple[int, str] | int | None"]
"""From an exception to the index, or index and key, of the item that raised it; None: it is no item's."""

DETAILS_SHARE = 0.6
"""The part of an error's size budget that its report may take; base64 takes a quarter, and there are other details."""


class ErrorCollector:
    """Collects the errors of items, from any thread or task. As a context manager it ends the batch.

    *Partial success* (the default): the method answers OK, and `fill` puts the outcome into the response (OTLP's
    partial success, AIP-233's ``failed_requests``). *Atomic*: leaving the ``with`` block raises one error for all
    failures, with a `BatchReport` in its details; undoing what was done is the handler's.

    Args:
        context: the handler's: its interceptor's translator, redactor, exposure and size budget hold for items too.
        total: how many items there are. None: as many as were seen.
        atomic: whether one failure fails the batch.
        stop_at_first: whether the first failure ends the ``with`` block (and cancels its TaskGroup); items whose turn
            did not come are said to be not attempted.
        raise_if_all_fail: of a partial success, whether the RPC fails if no item is well. Default False: an answer of
            OK can be read in one way only, and does not depend on how a caller splits its batch.
        translator: in place of the interceptor's.
        redactor: in place of the interceptor's.
        body_bytes: bytes that a report in a response may take. 1 MiB.

    Raises:
        ValueError: a total below 0.
    """

    def __init__(
        self,
        context: Any = None,
        *,
        total: int | None = None,
        atomic: bool = False,
        stop_at_first: bool = False,
        raise_if_all_fail: bool = False,
        translator: Translator | None = None,
        redactor: Redactor | None = None,
        body_bytes: int = BODY_BYTES,
    ) -> None:
        if total is not None and total < 0:
            raise ValueError(f"total is {total!r}; it must be 0 or more")
        self.atomic = atomic
        self._given_total = total
        self._stop = stop_at_first
        self._raise_if_all_fail = raise_if_all_fail
        self._body_bytes = body_bytes
        self._items = ItemTranslator(context, translator=translator, redactor=redactor)
        self._lock = threading.RLock()
        self._failures: dict[int, Failure] = {}
        self._statuses: dict[bytes, status_pb2.Status] = {}
        self._tally = Tally()
        self._begun: set[int] = set()
        self._interrupted: set[int] = set()
        self._highest = -1
        self._recorded: set[int] = set()
        self._kept: list[BaseException] = []
        self._told = False

    # Collecting.

    def item(self, index: int | None = None, key: str = "") -> Item:
        """Return a context manager for the work on one item: what it raises is collected.

        Args:
            index: in the request, from 0. None: the next one.
            key: what the caller calls the item, such as its id. It leaves the server: no secret belongs there.
        """
        with self._lock:
            index = self._highest + 1 if index is None else index
            self._see(index)
            self._begun.add(index)
        return Item(self, index, key)

    def add(self, index: int, exception: BaseException, key: str = "") -> None:
        """Collect what an item raised. Of two for one item the first counts.

        Raises:
            ValueError: an index below 0, or not below the total.
        """
        with self._lock:
            if index in self._failures:
                return
            self._see(index)
            error, status = self._items.translate(exception)
            # Equal statuses are kept once: ten thousand items that fail alike cost ten thousand numbers.
            status = self._statuses.setdefault(status.SerializeToString(deterministic=True), status)
            self._failures[index] = Failure(index, key, status)
            self._tally.add(error)

    def add_group(self, group: BaseExceptionGroup[Any], locate: Locate) -> None:
        """Collect the members of an exception group, such as a TaskGroup's.

        Args:
            group: however nested.
            locate: tells whose a member is.

        Raises:
            BaseExceptionGroup: of the members that are no item's.
        """
        mine, others = group.split(lambda one: not isinstance(one, BaseExceptionGroup) and locate(one) is not None)
        for one in leaves(mine):
            place = locate(one)
            index, key = place if isinstance(place, tuple) else (place or 0, "")
            self.add(index, one, key)
        if others is not None:
            raise others

    async def watch(self, work: Awaitable[T], index: int | None = None, key: str = "") -> T | None:
        """Await the work on one item; for ``task_group.create_task(errors.watch(put(book), index))``.

        Returns:
            What it returns; None if it failed.
        """
        with self.item(index, key):
            return await work
        return None

    # Telling.

    @property
    def failed(self) -> int:
        """How many items have failed so far."""
        return len(self._failures)

    @property
    def total(self) -> int:
        """How many items there are, as far as is known."""
        return self._highest + 1 if self._given_total is None else self._given_total

    def status(self, index: int) -> status_pb2.Status:
        """Return an item's status, for an answer of its own; code 0 if it has not failed."""
        failure = self._failures.get(index)
        return status_pb2.Status() if failure is None else failure.status

    def report(self, limit: int | None = None) -> errors_pb2.BatchReport:
        """Return the report on the items so far.

        Args:
            limit: bytes that it may take. None: no limit.
        """
        with self._lock:
            failed = list(self._failures.values())
            interrupted, missing = self._undone()
            if self.atomic:
                counts = Counts(
                    total=self.total,
                    succeeded=0 if failed else self.total - len(missing),
                    failed=len(failed),
                    not_attempted=len(missing),
                    rolled_back=self.total - len(failed) - len(missing) if failed else 0,
                    atomic=True,
                )
                return compose(failed, counts, limit)
            failed += interrupted
            counts = Counts(
                total=self.total,
                succeeded=self.total - len(failed) - len(missing),
                failed=len(failed),
                not_attempted=len(missing),
            )
            return compose([*failed, *missing], counts, limit)

    def error(self) -> StatusError:
        """Return one error for all failures so far.

        Raises:
            ValueError: nothing has failed.
        """
        if not self._failures:
            raise ValueError("nothing has failed")
        return self._tally.error(self.report(int(self._items.budget * DETAILS_SHARE)))

    def fill(self, response: R, field: str | None = None) -> R:
        """Put the outcome into a response, and return it.

        Args:
            response: with a ``map<int32, google.rpc.Status>`` or a `BatchReport` field.
            field: its name. None: the only one of such a type.

        Raises:
            TypeError: there is no such field, or there are several.
        """
        found = fields.find(response, field, fields.is_outcome)
        if fields.is_report(found):
            getattr(response, found.name).CopyFrom(self.report(self._body_bytes))
            return response
        statuses = getattr(response, found.name)
        with self._lock:
            for group in ([*self._failures.values()], *self._undone()):
                for failure in group:
                    statuses[failure.index].CopyFrom(failure.status)
        return response

    def raise_if_failed(self) -> None:
        """Raise one error for all failures so far, if there are any.

        Raises:
            StatusError: something has failed.
        """
        if self._failures:
            raise self.error()

    # As a context manager.

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, trace: TracebackType | None
    ) -> bool:
        ends = exception is None or self._is_recorded(exception)
        self._tell(partial=ends and not self._fails())
        if not ends:
            return False
        if self._fails():
            raise self.error() from None
        return True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return self.__exit__(kind, exception, trace)

    def _tell(self, *, partial: bool) -> None:
        """Let the observers of the call know, once: of a partial success it will have no error."""
        call = self._items.call
        with self._lock:
            if self._told or call is None or not self.total:
                return
            self._told = True
            event = batch_event(
                self._tally,
                total=self.total,
                touched=len(self._begun | self._failures.keys()) if self._begun else self.total,
                interrupted=len(self._interrupted - self._failures.keys()),
                rolls_back=self.atomic and bool(self._failures),
                partial=partial,
            )
        call.event(event)

    def _fails(self) -> bool:
        return bool(self._failures) and (self.atomic or (self._raise_if_all_fail and len(self._failures) == self.total))

    def _is_recorded(self, exception: BaseException) -> bool:
        if isinstance(exception, BaseExceptionGroup):
            return all(id(one) in self._recorded for one in leaves(exception))
        return id(exception) in self._recorded

    def _see(self, index: int) -> None:
        if index < 0 or (self._given_total is not None and index >= self._given_total):
            raise ValueError(f"index is {index!r}; it must be 0 or more, and below the total, {self._given_total!r}")
        self._highest = max(self._highest, index)

    def _undone(self) -> tuple[list[Failure], list[Failure]]:
        """Return the items that were cancelled half-way, and those whose turn did not come."""
        interrupted = [
            Failure(index, "", INTERRUPTED_STATUS) for index in self._interrupted if index not in self._failures
        ]
        if not self._begun:
            # Failures were added by index, so nothing is known of the other items but that they did not fail.
            return interrupted, []
        missing = (index for index in range(self.total) if index not in self._begun and index not in self._failures)
        return interrupted, [Failure(index, "", NOT_ATTEMPTED_STATUS) for index in missing]

    def _ended(self, item: Item, exception: BaseException | None) -> bool:
        """Take note of the end of an item; tell whether its exception was dealt with."""
        if exception is None:
            return True
        call = self._items.call
        if call is not None and call.aborted is not None:
            return False  # the handler ends the whole RPC
        if not isinstance(exception, Exception):
            with self._lock:
                if isinstance(exception, asyncio.CancelledError):
                    self._interrupted.add(item.index)
            return False
        self.add(item.index, exception, item.key)
        if self._stop:
            with self._lock:
                self._recorded.add(id(exception))
                self._kept.append(exception)  # or another object could get its id
        return not self._stop


class Item:
    """The work on one item: a context manager that hands what is raised to its `ErrorCollector`.

    Attributes:
        index: in the request, from 0.
        key: what the caller calls it.
    """

    __slots__ = ("_collector", "index", "key")

    def __init__(self, collector: ErrorCollector, index: int, key: str) -> None:
        self._collector = collector
        self.index = index
        self.key = key

    @property
    def ok(self) -> bool:
        """Whether it has not failed."""
        return self.status.code == 0

    @property
    def status(self) -> status_pb2.Status:
        """Its status, for an answer of its own; code 0 if it has not failed."""
        return self._collector.status(self.index)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return self._collector._ended(self, exception) and exception is not None

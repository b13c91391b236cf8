"""`BatchReport`: what a server says of the items of a batch. Equal failures are grouped; counts are always exact.

Where there is a limit, failures of one kind (code, domain, reason) share a group that says no more than that, and the
first of each kind are still there in full. Every failure is named at most once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from google.rpc import error_details_pb2, status_pb2

from faultwire.v1 import errors_pb2
from grpc_faultwire.details import Details

BODY_BYTES = 1 << 20
"""Bytes that a report in a response may take unless told otherwise: a quarter of gRPC's largest message."""
EXAMPLES = (8, 4, 2, 1)
"""How many failures of each kind are shown in full, as long as they fit."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An item that failed, as it travels; equal statuses are one object."""

    index: int
    key: str
    status: status_pb2.Status


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """How many items ended how; exact, whatever is left out of a report."""

    total: int
    succeeded: int
    failed: int
    not_attempted: int = 0
    rolled_back: int = 0
    atomic: bool = False


def compose(failures: Iterable[Failure], counts: Counts, limit: int | None = None) -> errors_pb2.BatchReport:
    """Return the report on a batch.

    Args:
        failures: in any order.
        counts: of all items.
        limit: bytes that the report may take. None: no limit.
    """
    ordered = sorted(failures, key=lambda failure: failure.index)
    report = _exact(ordered, counts)
    if limit is None or report.ByteSize() <= limit:
        return report
    draft = _capped(ordered, counts, limit)
    _name_more(draft, limit)
    return draft.report


def _capped(ordered: Sequence[Failure], counts: Counts, limit: int) -> _Draft:
    kinds = _by_kind(ordered)
    for examples in EXAMPLES:
        draft = _by_examples(kinds, counts, examples)
        if draft.report.ByteSize() <= limit:
            return draft
    draft = _by_examples(kinds, counts, 0)
    return draft if draft.report.ByteSize() <= limit else _by_examples(_by_code(ordered), counts, 0)


def named(report: errors_pb2.BatchReport) -> int:
    """Return how many failures a report names by their index."""
    return len(report.failures) + sum(len(group.indexes) for group in report.groups)


def _empty(counts: Counts) -> errors_pb2.BatchReport:
    return errors_pb2.BatchReport(
        total=counts.total,
        succeeded=counts.succeeded,
        failed=counts.failed,
        not_attempted=counts.not_attempted,
        rolled_back=counts.rolled_back,
        atomic=counts.atomic,
    )


def _exact(ordered: Sequence[Failure], counts: Counts) -> errors_pb2.BatchReport:
    report = _empty(counts)
    alike: dict[int, list[Failure]] = {}
    for failure in ordered:
        alike.setdefault(id(failure.status), []).append(failure)
    for group in alike.values():
        if len(group) == 1:
            report.failures.append(_item(group[0]))
        else:
            keys = [failure.key for failure in group]
            report.groups.add(
                indexes=[failure.index for failure in group],
                status=group[0].status,
                count=len(group),
                keys=keys if any(keys) else (),
            )
    return report


def _item(failure: Failure) -> errors_pb2.ItemFailure:
    return errors_pb2.ItemFailure(index=failure.index, key=failure.key, status=failure.status)


class _Kind(NamedTuple):
    status: status_pb2.Status
    failures: list[Failure]


def _by_kind(ordered: Sequence[Failure]) -> list[_Kind]:
    kinds: dict[tuple[int, str, str], _Kind] = {}
    bare: dict[int, tuple[int, str, str]] = {}
    for failure in ordered:
        known = bare.get(id(failure.status))
        if known is None:
            known = bare[id(failure.status)] = _kind_of(failure.status)
        kinds.setdefault(known, _Kind(_bare(*known), [])).failures.append(failure)
    return list(kinds.values())


def _by_code(ordered: Sequence[Failure]) -> list[_Kind]:
    kinds: dict[int, _Kind] = {}
    for failure in ordered:
        code = failure.status.code
        kinds.setdefault(code, _Kind(status_pb2.Status(code=code), [])).failures.append(failure)
    return list(kinds.values())


def _kind_of(status: status_pb2.Status) -> tuple[int, str, str]:
    info = Details(status.details).find(error_details_pb2.ErrorInfo) or error_details_pb2.ErrorInfo()
    return status.code, info.domain, info.reason


def _bare(code: int, domain: str, reason: str) -> status_pb2.Status:
    status = status_pb2.Status(code=code)
    if reason:
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=domain))
    return status


class _Draft(NamedTuple):
    report: errors_pb2.BatchReport
    unnamed: list[list[int]]
    """For each group of the report, the indexes that may be named in it."""


def _by_examples(kinds: Sequence[_Kind], counts: Counts, examples: int) -> _Draft:
    """Show the first failures of each kind in full; the rest of a kind is counted, and its first is named."""
    draft = _Draft(_empty(counts), [])
    shown = sorted((failure for kind in kinds for failure in kind.failures[:examples]), key=lambda one: one.index)
    draft.report.failures.extend(_item(failure) for failure in shown)
    for kind in kinds:
        rest = [failure.index for failure in kind.failures[examples:]]
        if rest:
            draft.report.groups.add(indexes=rest[:1], status=kind.status, count=len(rest))
            draft.unnamed.append(rest)
    return draft


def _name_more(draft: _Draft, limit: int) -> None:
    """Name as many indexes as fit; small groups first, so that a large one leaves the others their share."""
    groups = sorted(zip(draft.report.groups, draft.unnamed, strict=True), key=lambda pair: len(pair[1]))
    for turn, (group, indexes) in enumerate(groups):
        # What naming costs beyond the numbers: lengths that grow.
        room = (limit - draft.report.ByteSize()) // (len(groups) - turn) - 8
        fitting = _fitting(indexes, room)
        if len(fitting) > 1:
            group.indexes[:] = fitting


def _fitting(indexes: Sequence[int], room: int) -> Sequence[int]:
    used = 0
    for position, index in enumerate(indexes):
        used += max(1, (index.bit_length() + 6) // 7)
        if used > room:
            return indexes[:position]
    return indexes

"""What a whole batch says: one error for the failures of its items."""

from __future__ import annotations

from collections import Counter

import grpc

from faultwire.v1 import errors_pb2
from grpc_faultwire.batch.report import named
from grpc_faultwire.category import Category, RetryScope, Severity, meaning
from grpc_faultwire.errors import StatusError, error_class

DOMAIN = "faultwire"
"""ErrorInfo's domain of the reasons below."""
BATCH_FAILED = "BATCH_FAILED"
"""Reason of the error of a batch. It is never an item's own, whose metadata the batch would not have (AIP-193)."""
NOT_ATTEMPTED = "ITEM_NOT_ATTEMPTED"
"""Reason of an item that was left alone, because the batch ended before its turn: it may be sent again."""
INTERRUPTED = "ITEM_INTERRUPTED"
"""Reason of an item that was cancelled half-way: whether it took effect is not known."""
ROLLED_BACK = "ITEM_ROLLED_BACK"
"""Reason of an innocent item of an atomic batch, which was undone or not kept because others failed."""

_STRICTEST = (RetryScope.NEVER, RetryScope.OPERATION, RetryScope.AFTER_REFRESH, RetryScope.REQUEST)


class Tally:
    """What the failures of a batch have in common, learnt one by one."""

    def __init__(self) -> None:
        self.codes: set[grpc.StatusCode] = set()
        self.categories: Counter[Category] = Counter()
        self._scopes: set[RetryScope] = set()
        self._all_declared = True
        self._delay: float | None = None
        self.severity = Severity.DEBUG
        self._category = Category.INTERNAL
        self._retried = False

    def add(self, error: StatusError) -> None:
        """Learn of one more failure."""
        self.codes.add(error.code())
        self.categories[error.category] += 1
        self._scopes.add(error.retry_scope)
        self._all_declared &= error.declared_retry_scope is not None
        if error.retry_delay is not None:
            self._delay = max(error.retry_delay, self._delay or 0.0)
        if error.severity >= self.severity:
            self.severity, self._category = error.severity, error.category
        self._retried |= error.already_retried

    def error(self, report: errors_pb2.BatchReport) -> StatusError:
        """Return the error of a batch: of its items' code if they have one in common, else ABORTED (AIP-233).

        It may be tried again only if every failed item may; then after the longest delay that one of them asks for.

        Args:
            report: becomes a detail of it.
        """
        code = next(iter(self.codes)) if len(self.codes) == 1 else grpc.StatusCode.ABORTED
        scope = next(scope for scope in _STRICTEST if scope in self._scopes)
        usual = meaning(code.value[0]).retry_scope
        error = error_class(code)(
            summary(report),
            reason=BATCH_FAILED,
            domain=DOMAIN,
            category=self._category,
            severity=self.severity,
            error_details=[report],
            # Said only where the code does not say it, or where every item did: the code alone leaves it to callers
            # whether a call may be repeated.
            retry_scope=scope if self._all_declared or scope is not usual else None,
            retry_delay=None if scope is RetryScope.NEVER else self._delay,
        )
        error.already_retried = self._retried
        return error


def summary(report: errors_pb2.BatchReport) -> str:
    """Return one sentence for people: how many failed, and whether all of them are named."""
    atomic = ", so nothing was kept" if report.atomic else ""
    left_out = "" if named(report) >= report.failed else f" {named(report)} of them are named here."
    return f"{report.failed} of {report.total} items failed{atomic}.{left_out}"

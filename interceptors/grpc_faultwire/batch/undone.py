"""The statuses of items that were not done through no fault of their own, and the members of exception groups."""

from __future__ import annotations

from google.rpc import status_pb2

from faultwire.v1 import errors_pb2
from grpc_faultwire.batch.overall import DOMAIN, INTERRUPTED, NOT_ATTEMPTED
from grpc_faultwire.category import RetryScope
from grpc_faultwire.errors import Aborted, Cancelled, StatusError


def leaves(exception: BaseException | None) -> list[BaseException]:
    """Return the members of an exception group, however nested; any other exception itself."""
    pending, found = [exception], []
    while pending:
        one = pending.pop()
        if isinstance(one, BaseExceptionGroup):
            pending.extend(reversed(one.exceptions))
        elif one is not None:
            found.append(one)
    return found


def _status_of(error: StatusError) -> status_pb2.Status:
    report = errors_pb2.ErrorReport()
    if error.declared_retry_scope is not None:
        report.retry.scope = error.declared_retry_scope.value  # type: ignore[assignment]  # the numbers are the proto's
    status = error.status
    status.details.add().Pack(report)
    return status


NOT_ATTEMPTED_STATUS = _status_of(
    Aborted(
        "The batch ended before this item's turn.",
        reason=NOT_ATTEMPTED,
        domain=DOMAIN,
        retry_scope=RetryScope.REQUEST,
    )
)
INTERRUPTED_STATUS = _status_of(
    Cancelled(
        "The item was cancelled before it was done.",
        reason=INTERRUPTED,
        domain=DOMAIN,
        retry_scope=RetryScope.NEVER,
    )
)

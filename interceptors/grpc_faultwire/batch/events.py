"""What observers are told of a batch: a server's RPC that answers OK may have items that failed."""

from __future__ import annotations

from grpc_faultwire.batch.overall import Tally
from grpc_faultwire.errors import StatusError
from grpc_faultwire.observers import names
from grpc_faultwire.records import Event


def item_event(error: StatusError, exception: BaseException | None) -> Event:
    """Return the event of an item that has failed.

    Args:
        error: what leaves for it.
        exception: what is behind it and does not leave. None: nothing.
    """
    return Event(name=names.ITEM_ERROR.name, attributes={"error": error, "exception": exception})


def batch_event(tally: Tally, *, total: int, touched: int, interrupted: int, rolls_back: bool, partial: bool) -> Event:
    """Return the event at the end of a batch: numbers by category, so that it is small whatever the batch is.

    Args:
        tally: of the items that failed.
        total: how many items there were.
        touched: how many had their turn.
        interrupted: how many were cancelled half-way.
        rolls_back: whether those that are well are undone.
        partial: whether the RPC answers OK.
    """
    failures = {category.name.lower(): count for category, count in tally.categories.most_common()}
    failed = sum(failures.values())
    well = touched - failed - interrupted
    attributes = {
        "items": total,
        "ok": 0 if rolls_back else well,
        "failed": failed,
        "interrupted": interrupted,
        "not_attempted": total - touched,
        "rolled_back": well if rolls_back else 0,
        "categories": " ".join(f"{category}={count}" for category, count in failures.items()),
        "failures": failures,
        "severity": tally.severity,
        "partial": partial,
    }
    return Event(name=names.BATCH.name, attributes=attributes)

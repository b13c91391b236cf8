"""Where every item of a batch ends, exactly once."""

from __future__ import annotations

from typing import Any

from grpc_faultwire.batch.result import BatchResult, ItemEnd
from grpc_faultwire.batch.splitting import Sent
from grpc_faultwire.errors import StatusError


class Ledger:
    """How the items of a batch have ended so far; those that are well cost no memory unless they have a value."""

    def __init__(self) -> None:
        self.ok = 0
        self.requests = 0
        self.retried = 0
        self.values: dict[int, Any] = {}
        self.failures: dict[int, ItemEnd] = {}
        self.unknown: dict[int, ItemEnd] = {}

    def well(self, sent: Sent, value: Any = None) -> None:
        """End an item that was carried out."""
        self.ok += 1
        if value is not None:
            self.values[sent.index] = value

    def ill(self, sent: Sent, error: StatusError, *, certain: bool) -> None:
        """End an item that was not carried out, or of which nobody can know."""
        table = self.failures if certain else self.unknown
        table[sent.index] = ItemEnd(sent.index, error, sent.attempts)

    def result(self, total: int, *, exhausted: bool) -> BatchResult:
        """Return what became of the batch."""
        return BatchResult(
            total=total,
            exhausted=exhausted,
            values=dict(sorted(self.values.items())),
            failures=dict(sorted(self.failures.items())),
            unknown=dict(sorted(self.unknown.items())),
            requests=self.requests,
            retried=self.retried,
        )

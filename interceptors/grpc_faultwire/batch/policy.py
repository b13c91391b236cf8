"""`BatchPolicy`: how a batch is split, sent and sent again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from grpc_faultwire.policies import RetryPolicy, checks

logger = logging.getLogger("grpc_faultwire.batch")


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchPolicy:
    """How a batch is split, sent and sent again. Frozen, and right by default.

    Attributes:
        max_items: items in a request. 1000, as most of Google's batch methods allow (AIP-231).
        max_bytes: serialized bytes in a request. 1 MiB: a quarter of the largest message that gRPC takes by default,
            so that neither the request nor an answer of the same size is refused. A larger item is sent alone.
        concurrency: requests in flight. 4.
        retry: how often an *item* is sent, and with which delays. Default: 3 attempts; see `RetryPolicy`. Codes that
            it names are retried whatever they mean, which is consent to carry items out twice.
        timeout: seconds for the whole batch. None: no limit.
        attempt_timeout: seconds for one request; the less of this and what is left of the batch. None: no limit.
        idempotent: whether an item may be carried out twice, for all or by a function of the item. Only such items
            are sent again when their request was never answered. False.

    Raises:
        ValueError: a number out of range.
    """

    max_items: int = 1000
    max_bytes: int = 1 << 20
    concurrency: int = 4
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    timeout: float | None = None
    attempt_timeout: float | None = None
    idempotent: bool | Callable[[Any], bool] = False

    def __post_init__(self) -> None:
        checks.whole("max_items", self.max_items, 1)
        checks.whole("max_bytes", self.max_bytes, 1)
        checks.whole("concurrency", self.concurrency, 1)
        for name in ("timeout", "attempt_timeout"):
            seconds = getattr(self, name)
            if seconds is not None:
                checks.positive(name, seconds)

    def may_repeat(self, item: Any) -> bool:
        """Tell whether an item may be carried out twice. A function that raises says no."""
        if isinstance(self.idempotent, bool):
            return self.idempotent
        try:
            return bool(self.idempotent(item))
        except Exception:
            logger.exception("the function that tells idempotent items raised; the item is not carried out twice")
            return False

"""What the failure of an item, or of its request, means for the item: is it sent again, and is it known to have failed?

* An *item's* status is its server's own word: whoever reads it knows that the item was not carried out.
* A *request's* error may have come after its items were carried out, unless it was refused before it was read.
"""

from __future__ import annotations

from typing import NamedTuple

from grpc_faultwire.category import Category, RetryScope
from grpc_faultwire.errors import Origin, StatusError
from grpc_faultwire.policies import RETRY_COST, RetryPolicy
from grpc_faultwire.presets import Circumstances, classify

CIRCUIT_OPEN = "CIRCUIT_OPEN"
"""Reason of what a circuit breaker of this process refuses."""
UNSENDABLE = "REQUEST_UNSENDABLE"
"""Reason of a request that could not be made."""

_REFUSALS = frozenset(
    {
        Category.VALIDATION,
        Category.AUTHENTICATION,
        Category.AUTHORIZATION,
        Category.NOT_FOUND,
        Category.CONFLICT,
        Category.PRECONDITION,
        Category.QUOTA,
        Category.UNIMPLEMENTED,
    }
)
"""What a server says that has looked at a request and not carried it out."""


class Judgement(NamedTuple):
    """What a failure means for an item.

    Attributes:
        again: it may be sent again.
        certain: the error says that it was not carried out.
        delay: seconds that the server asked for, before jitter. None: it did not.
        exact: whether the delay is exact (pushback alone), not a minimum.
        cost: tokens that a retry of a whole request would take.
    """

    again: bool
    certain: bool
    delay: float | None = None
    exact: bool = False
    cost: float = RETRY_COST


def of_item(error: StatusError, policy: RetryPolicy, *, repeatable: bool) -> Judgement:
    """Judge an item that its server answered with an error.

    Args:
        error: the item's own.
        policy: which codes are retried.
        repeatable: whether the item may be carried out twice: then one whose deadline expired on the server may go
            again.
    """
    verdict = classify(error, Circumstances(idempotent=True, cut_short=repeatable))
    again = verdict.allowed_by(policy.retryable_codes)
    return Judgement(again=again, certain=True, delay=verdict.delay, cost=verdict.cost)


def of_request(error: StatusError, policy: RetryPolicy, *, repeatable: bool) -> Judgement:
    """Judge an item whose request failed without a word about it.

    Args:
        error: the request's.
        policy: which codes are retried.
        repeatable: whether the item may be carried out twice.
    """
    if never_sent(error):
        again = error.reason == CIRCUIT_OPEN
        return Judgement(again=again, certain=True, delay=error.retry_delay, cost=0.0)
    verdict = classify(error, Circumstances(idempotent=repeatable, cut_short=True))
    # RESOURCE_EXHAUSTED without details may be gRPC's own word for an answer that was too large to be received.
    refused = error.category in _REFUSALS and not (error.origin is Origin.UNKNOWN and error.category is Category.QUOTA)
    delays = [delay for delay in (verdict.delay, verdict.pushback) if delay is not None]
    return Judgement(
        again=verdict.allowed_by(policy.retryable_codes),
        certain=refused or error.declared_retry_scope is RetryScope.REQUEST,
        delay=max(delays, default=None),
        exact=verdict.delay is None and verdict.pushback is not None,
        cost=verdict.cost,
    )


def never_sent(error: StatusError) -> bool:
    """Tell whether a policy of this process made the error before anything was sent."""
    return error.origin is Origin.LOCAL and error.reason in (CIRCUIT_OPEN, UNSENDABLE) and not error.attempts


def wait(policy: RetryPolicy, judgement: Judgement, *, attempts: int, u: float) -> float | None:
    """Return the seconds until an item is sent again; None: its server asks for more than the policy grants.

    Args:
        policy: the batch's.
        judgement: on the item.
        attempts: how often it was sent.
        u: a random number in [0, 1): the same for the items of a request, which return together.
    """
    asked = judgement.delay or 0.0
    if asked > policy.max_server_delay:
        return None
    if judgement.exact:
        return asked
    return max(asked * (1.0 + 0.2 * u), policy.backoff(max(1, attempts), u))

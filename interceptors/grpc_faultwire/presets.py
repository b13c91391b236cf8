"""Where gRPC meets the policies: one classifier makes the verdict that all of them act on.

The table is that of AIP-194 and of gRFC A6's users, but it looks at the category and the details first: a code alone
cannot tell overload from quota, or a server's deadline from a caller without time.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import grpc
from google.protobuf import descriptor_pool
from google.rpc import error_details_pb2

from grpc_faultwire.category import Category, RetryScope
from grpc_faultwire.errors import Origin, StatusError, Unavailable
from grpc_faultwire.policies import OK, RETRY_COST, TIMEOUT_COST, Health, Verdict
from grpc_faultwire.records import CODE_NAMES, CallInfo
from grpc_faultwire.trailers import PUSHBACK_KEY

FAIR_TIME = 1.0
"""Seconds that are fair for any attempt: one that had less and ran out of time says nothing about its server."""

CIRCUIT_DOMAIN = "faultwire"
"""ErrorInfo's domain of errors that a policy of this process made."""

# Tuples: looking a member of an enum up in a set takes a function in Python.
_FAILURES = (
    Category.TRANSPORT,
    Category.OVERLOAD,
    Category.TIMEOUT,
    Category.INTERNAL,
    Category.DATA_LOSS,
)
# A server that answers that what it depends on has failed is well itself: counted against it, one outage at the bottom
# opens the circuits of every tier above, and keeps them open four times as long (`simulations/`, three tiers).
_NEUTRALS = (Category.QUOTA, Category.CANCELLED, Category.DEPENDENCY)
_Code = grpc.StatusCode


class Circumstances(NamedTuple):
    """What the classifier must know of an attempt beside its error.

    Attributes:
        idempotent: whether the request may be carried out twice.
        fair: whether the attempt had time enough for a timeout to be the server's fault.
        cut_short: whether its own timeout, and not the call's, was what it ran out of.
    """

    idempotent: bool = False
    fair: bool = True
    cut_short: bool = False


def classify(error: StatusError | None, at: Circumstances) -> Verdict:
    """Return the verdict on an attempt.

    Args:
        error: what it ended with; None: OK.
        at: its circumstances.
    """
    if error is None:
        return OK
    code, category = error._code, error.category
    if error.origin is Origin.LOCAL:
        return Verdict(CODE_NAMES[id(code)], category, health=Health.NEUTRAL)
    pushback, stop = pushback_of(error)
    scope, delay = error.declared_retry_scope, error._retry_delay
    if delay is not None and not math.isfinite(delay):
        delay = None
    return Verdict(
        CODE_NAMES[id(code)],
        category,
        _retryable(error, scope, at, delay),
        _health(error, category, at, delay),
        TIMEOUT_COST if category is Category.TIMEOUT else RETRY_COST,
        delay,
        pushback,
        stop or error.already_retried,
        scope,
    )


def _retryable(error: StatusError, scope: RetryScope | None, at: Circumstances, delay: float | None) -> bool:
    if error.recovered and scope is None:
        return False
    code = error._code
    if scope is RetryScope.REQUEST:
        # The server's own word that this call may be sent again; where it refused the call, nothing was carried out.
        return at.idempotent or code is not _Code.DEADLINE_EXCEEDED
    if code is _Code.UNAVAILABLE:
        return at.idempotent
    if code is _Code.DEADLINE_EXCEEDED:
        return at.idempotent and at.cut_short
    return code is _Code.RESOURCE_EXHAUSTED and delay is not None


def _health(error: StatusError, category: Category, at: Circumstances, delay: float | None) -> Health:
    if category is Category.TIMEOUT and not at.fair:
        return Health.NEUTRAL
    if category is Category.QUOTA and error._code is _Code.RESOURCE_EXHAUSTED:
        overload = delay is not None and error.find(error_details_pb2.QuotaFailure) is None and error.report is None
        return Health.FAILURE if overload else Health.NEUTRAL
    if category in _FAILURES:
        return Health.FAILURE
    if category is Category.CANCELLED:
        # Its server said so: a CANCELLED of our own making is never judged.
        return Health.FAILURE if error.origin is Origin.REMOTE else Health.NEUTRAL
    return Health.NEUTRAL if category in _NEUTRALS else Health.SUCCESS


def pushback_of(error: StatusError) -> tuple[float | None, bool]:
    """Return the seconds that ``grpc-retry-pushback-ms`` asks for, and whether it forbids retries (gRFC A6)."""
    try:
        pairs: list[Any] = list(error.trailing_metadata() or ())
        values = [value for key, value in pairs if key == PUSHBACK_KEY]
    except (TypeError, ValueError):
        return None, False
    if not values:
        return None, False
    # Of two, the last counts, as in gRPC's core; what cannot be parsed forbids retries.
    text = values[-1].decode("latin-1") if isinstance(values[-1], bytes) else str(values[-1])
    if not text.isascii() or not text.isdigit() or int(text) > 2**31 - 1:
        return None, True
    return int(text) / 1000, False


def refreshable(error: StatusError) -> bool:
    """Tell whether a call may succeed with other credentials: its server says so, or says nothing but who are you."""
    scope = error.declared_retry_scope
    return scope is RetryScope.AFTER_REFRESH or (scope is None and error.code() is _Code.UNAUTHENTICATED)


def is_idempotent(call: CallInfo) -> bool:
    """Tell whether a method's proto says that it may be carried out twice (``option idempotency_level``)."""
    return _level(call) in ("NO_SIDE_EFFECTS", "IDEMPOTENT")


def is_safe(call: CallInfo) -> bool:
    """Tell whether a method's proto says that it has no side effects."""
    return _level(call) == "NO_SIDE_EFFECTS"


def _level(call: CallInfo) -> str:
    try:
        method = descriptor_pool.Default().FindMethodByName(f"{call.service}.{call.method}")
    except KeyError:
        return "IDEMPOTENCY_UNKNOWN"
    from google.protobuf.descriptor_pb2 import MethodOptions  # noqa: PLC0415  # once for each method that is called

    options = MethodOptions.FromString(method.GetOptions().SerializeToString())
    return MethodOptions.IdempotencyLevel.Name(options.idempotency_level)


def circuit_open(breaker: str, state: str, retry_after: float | None) -> StatusError:
    """Make the error of a call that an open circuit refused.

    Args:
        breaker: the breaker's name, as UTF-8 can carry it.
        state: the word for the breaker's state.
        retry_after: seconds until a call may pass: its retry delay. None: not said.
    """
    return Unavailable._local(
        f"The circuit breaker of {breaker} is {state}.",
        {
            "_reason": "CIRCUIT_OPEN",
            "_domain": CIRCUIT_DOMAIN,
            "_metadata": {"breaker": breaker},
            "_retry_delay": retry_after,
        },
    )

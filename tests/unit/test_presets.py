"""The verdicts: one table for all policies."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from google.rpc import error_details_pb2

from bookshop.v1 import bookshop_pb2  # noqa: F401  # registers the descriptors that are looked up
from grpc_faultwire import (
    Aborted,
    Category,
    DataLoss,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    Kind,
    NotFound,
    Origin,
    PermissionDenied,
    ResourceExhausted,
    RetryScope,
    Side,
    StatusError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    Unknown,
)
from grpc_faultwire.errors import Cancelled
from grpc_faultwire.policies import OK, RETRY_COST, TIMEOUT_COST, Health
from grpc_faultwire.presets import Circumstances, circuit_open, classify, is_idempotent, is_safe, pushback_of
from grpc_faultwire.records import CallInfo
from grpc_faultwire.trailers import PUSHBACK_KEY

F, S, N = Health.FAILURE, Health.SUCCESS, Health.NEUTRAL


def remote(error: StatusError, origin: Origin = Origin.REMOTE, *trailers: tuple[str, Any]) -> StatusError:
    error.origin = origin
    error._trailing_metadata = trailers
    return error


@pytest.mark.parametrize(
    ("error", "retryable", "health"),
    [
        pytest.param(remote(Unavailable()), True, F, id="unavailable"),
        pytest.param(remote(Unavailable(), Origin.UNKNOWN), True, F, id="transport"),
        pytest.param(remote(Unavailable(), Origin.LOCAL), False, N, id="our own open circuit"),
        pytest.param(remote(DeadlineExceeded()), False, F, id="deadline"),
        pytest.param(remote(ResourceExhausted()), False, N, id="quota"),
        pytest.param(remote(ResourceExhausted(retry_delay=1), Origin.UNKNOWN), True, F, id="overload by RetryInfo"),
        pytest.param(remote(ResourceExhausted(category=Category.OVERLOAD)), False, F, id="overload said"),
        pytest.param(
            remote(ResourceExhausted(retry_delay=1, error_details=[error_details_pb2.QuotaFailure()])),
            True,
            N,
            id="quota with RetryInfo",
        ),
        pytest.param(remote(Aborted()), False, S, id="aborted is for the operation"),
        pytest.param(remote(Internal()), False, F, id="internal"),
        pytest.param(remote(Internal(category=Category.VALIDATION)), False, S, id="internal, but the caller's fault"),
        pytest.param(remote(Unavailable(category=Category.DEPENDENCY)), True, N, id="what it depends on has failed"),
        pytest.param(remote(Unknown()), False, F, id="unknown"),
        pytest.param(remote(DataLoss()), False, F, id="data loss"),
        pytest.param(remote(NotFound()), False, S, id="not found: the server answered"),
        pytest.param(remote(InvalidArgument()), False, S, id="invalid argument"),
        pytest.param(remote(PermissionDenied()), False, S, id="permission denied"),
        pytest.param(remote(Unauthenticated()), False, S, id="unauthenticated"),
        pytest.param(remote(Unimplemented()), False, S, id="unimplemented"),
        pytest.param(remote(Cancelled()), False, F, id="cancelled by the server"),
        pytest.param(remote(Cancelled(), Origin.UNKNOWN), False, N, id="cancelled by nobody knows whom"),
        pytest.param(remote(NotFound(retry_scope=RetryScope.REQUEST)), True, S, id="the server says: again"),
    ],
)
def test_verdicts_on_idempotent_methods(error: StatusError, retryable: bool, health: Health) -> None:
    """What each error means where the request may be carried out twice."""
    verdict = classify(error, Circumstances(idempotent=True))
    assert (verdict.retryable, verdict.health) == (retryable, health)
    assert (verdict.code, verdict.category) == (error.code().name, error.category)


def test_ok() -> None:
    """A success has one verdict."""
    assert classify(None, Circumstances()) is OK


def test_unavailable_is_not_retried_where_it_may_be_carried_out_twice() -> None:
    """Whether a request reached its server cannot be known."""
    assert not classify(remote(Unavailable()), Circumstances(idempotent=False)).retryable


@pytest.mark.parametrize("cut_short", [True, False])
def test_an_attempt_timeout_is_retried_and_the_calls_is_not(cut_short: bool) -> None:
    """DEADLINE_EXCEEDED is worth another try only if the attempt's own timeout made it."""
    verdict = classify(remote(DeadlineExceeded()), Circumstances(idempotent=True, cut_short=cut_short))
    assert verdict.retryable is cut_short
    assert verdict.cost == TIMEOUT_COST


def test_a_timeout_without_fair_time_says_nothing() -> None:
    """A caller without patience makes no server unhealthy."""
    assert classify(remote(DeadlineExceeded()), Circumstances(fair=False)).health is N


@pytest.mark.parametrize(
    ("value", "seconds", "stop"),
    [
        ("400", 0.4, False),
        ("0", 0.0, False),
        ("-1", None, True),
        ("-7", None, True),
        ("abc", None, True),
        ("1.5", None, True),
        ("", None, True),
        (str(2**31), None, True),
        ("²", None, True),
    ],
)
def test_pushback(value: str, seconds: float | None, stop: bool) -> None:
    """As gRFC A6: milliseconds, and anything else forbids retries."""
    error = remote(Unavailable(), Origin.REMOTE, (PUSHBACK_KEY, value))
    assert pushback_of(error) == (seconds, stop)
    verdict = classify(error, Circumstances(idempotent=True))
    assert (verdict.pushback, verdict.stop) == (seconds, stop)


def test_of_two_pushbacks_the_last_counts() -> None:
    """As in gRPC's core."""
    error = remote(Unavailable(), Origin.REMOTE, (PUSHBACK_KEY, "300"), (PUSHBACK_KEY, "10"))
    assert pushback_of(error) == (0.01, False)


def test_a_scope_that_the_error_declares_travels_in_the_verdict() -> None:
    """A code's usual scope is an assumption, and does not."""
    assert classify(remote(Aborted()), Circumstances()).scope is None
    assert classify(remote(Aborted(retry_scope=RetryScope.NEVER)), Circumstances()).scope is RetryScope.NEVER


def test_a_server_that_has_retried_already_stops_its_callers() -> None:
    """Only one tier retries."""
    error = remote(Unavailable())
    error.already_retried = True
    assert classify(error, Circumstances(idempotent=True)).stop


def test_costs() -> None:
    """A retry costs five tokens, after a timeout ten."""
    assert classify(remote(Unavailable()), Circumstances()).cost == RETRY_COST


@pytest.mark.parametrize(
    ("path", "idempotent"),
    [
        ("/bookshop.v1.Bookshop/GetBook", True),
        ("/bookshop.v1.Bookshop/PlaceOrder", False),
        ("/bookshop.v1.Bookshop/Missing", False),
        ("/missing.Service/Method", False),
        ("nonsense", False),
    ],
)
def test_idempotency_is_read_from_the_proto(path: str, idempotent: bool) -> None:
    """`option idempotency_level`, or no."""
    call = CallInfo.of(path, kind=Kind.UNARY, side=Side.CLIENT)
    assert is_idempotent(call) is idempotent
    assert is_safe(call) is idempotent


def test_a_refusal_is_made_without_checks_and_is_the_same_error() -> None:
    """It says, prints, sends, copies and pickles what the constructor would have made of the same parts."""
    refused = circuit_open("shop:443/shop.v1.Shop", "open", 1.5)
    made = Unavailable(
        "The circuit breaker of shop:443/shop.v1.Shop is open.",
        reason="CIRCUIT_OPEN",
        domain="faultwire",
        metadata={"breaker": "shop:443/shop.v1.Shop"},
        retry_delay=1.5,
    )
    made.origin = Origin.LOCAL
    for one in (refused, copy.copy(refused), pickle.loads(pickle.dumps(refused)), refused.replace()):
        assert (one.error_id, one.origin, one.category) == (refused.error_id, made.origin, made.category)
        assert (one.status, one.code(), one.debug_error_string()) == (made.status, made.code(), "")
        assert (one.initial_metadata(), one.trailing_metadata()) == (None, None)
        assert (one.causes, one.anomalies, one.attempts) == ((), (), ())
    assert vars(made).keys() - {"_given", "_retry_scope", "_category", "_severity", "_causes"} <= vars(refused).keys()
    assert len(refused.error_id) == 32

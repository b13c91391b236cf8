"""What a failure means for an item: the table of docs/batches.md."""

from __future__ import annotations

from typing import Any

import pytest

from grpc_faultwire import (
    Aborted,
    Cancelled,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    Origin,
    PermissionDenied,
    ResourceExhausted,
    RetryScope,
    StatusError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    Unknown,
)
from grpc_faultwire.batch import verdicts
from grpc_faultwire.batch.verdicts import Judgement
from grpc_faultwire.policies import RetryPolicy

POLICY = RetryPolicy()
AGAIN, NOT_AGAIN = True, False
CERTAIN, UNCERTAIN = True, False


def received(error: StatusError, origin: Origin = Origin.REMOTE) -> StatusError:
    error.origin = origin
    return error


@pytest.mark.parametrize(
    ("error", "once", "repeatable"),
    [
        pytest.param(Unavailable(""), AGAIN, AGAIN, id="unavailable"),
        pytest.param(ResourceExhausted("", retry_delay=1.0), AGAIN, AGAIN, id="overload-with-a-delay"),
        pytest.param(ResourceExhausted(""), NOT_AGAIN, NOT_AGAIN, id="quota"),
        pytest.param(DeadlineExceeded(""), NOT_AGAIN, AGAIN, id="deadline"),
        pytest.param(NotFound(""), NOT_AGAIN, NOT_AGAIN, id="not-found"),
        pytest.param(Aborted(""), NOT_AGAIN, NOT_AGAIN, id="aborted"),
        pytest.param(Internal(""), NOT_AGAIN, NOT_AGAIN, id="internal"),
        pytest.param(Aborted("", retry_scope=RetryScope.REQUEST), AGAIN, AGAIN, id="declared-retryable"),
        pytest.param(Unavailable("", retry_scope=RetryScope.NEVER), NOT_AGAIN, NOT_AGAIN, id="declared-never"),
    ],
)
def test_an_items_own_status(error: StatusError, once: bool, repeatable: bool) -> None:
    """Its server's own word: the item was not carried out; its code and scope say whether to try again."""
    for may, expected in ((False, once), (True, repeatable)):
        judgement = verdicts.of_item(received(error), POLICY, repeatable=may)
        assert (judgement.again, judgement.certain) == (expected, True)


@pytest.mark.parametrize(
    ("error", "once", "repeatable", "certain"),
    [
        pytest.param(Unavailable(""), NOT_AGAIN, AGAIN, UNCERTAIN, id="lost"),
        pytest.param(DeadlineExceeded(""), NOT_AGAIN, AGAIN, UNCERTAIN, id="deadline"),
        pytest.param(Cancelled(""), NOT_AGAIN, NOT_AGAIN, UNCERTAIN, id="cancelled"),
        pytest.param(Internal(""), NOT_AGAIN, NOT_AGAIN, UNCERTAIN, id="internal"),
        pytest.param(Unknown(""), NOT_AGAIN, NOT_AGAIN, UNCERTAIN, id="unknown"),
        pytest.param(DataLoss(""), NOT_AGAIN, NOT_AGAIN, UNCERTAIN, id="data-loss"),
        pytest.param(InvalidArgument(""), NOT_AGAIN, NOT_AGAIN, CERTAIN, id="invalid"),
        pytest.param(PermissionDenied(""), NOT_AGAIN, NOT_AGAIN, CERTAIN, id="denied"),
        pytest.param(Unauthenticated(""), NOT_AGAIN, NOT_AGAIN, CERTAIN, id="unauthenticated"),
        pytest.param(FailedPrecondition(""), NOT_AGAIN, NOT_AGAIN, CERTAIN, id="precondition"),
        pytest.param(Unimplemented(""), NOT_AGAIN, NOT_AGAIN, CERTAIN, id="unimplemented"),
        pytest.param(ResourceExhausted(""), NOT_AGAIN, NOT_AGAIN, CERTAIN, id="quota"),
        pytest.param(Unavailable("", retry_scope=RetryScope.REQUEST), AGAIN, AGAIN, CERTAIN, id="refused-try-again"),
    ],
)
def test_a_requests_error(error: StatusError, once: bool, repeatable: bool, certain: bool) -> None:
    """Only a refusal says that the items were not carried out; what was lost goes again only if it may go twice."""
    for may, expected in ((False, once), (True, repeatable)):
        judgement = verdicts.of_request(received(error), POLICY, repeatable=may)
        assert (judgement.again, judgement.certain) == (expected, certain)


def test_an_answer_too_large_says_nothing() -> None:
    """RESOURCE_EXHAUSTED without details may be gRPC's own, of an answer that came after all was done."""
    error = received(ResourceExhausted("Received message larger than max"), Origin.UNKNOWN)
    assert not verdicts.of_request(error, POLICY, repeatable=False).certain


def test_an_open_circuit_was_never_sent() -> None:
    """Its items are tried again when the circuit may close, and cost no tokens."""
    error = received(Unavailable("", reason="CIRCUIT_OPEN", domain="faultwire", retry_delay=2.0), Origin.LOCAL)
    assert verdicts.of_request(error, POLICY, repeatable=False) == Judgement(
        again=True, certain=True, delay=2.0, cost=0.0
    )


def test_a_local_error_of_a_call_that_was_sent_says_nothing() -> None:
    """A cancelled call is local too, and its items may have been carried out."""
    assert not verdicts.of_request(received(Cancelled(""), Origin.LOCAL), POLICY, repeatable=False).certain


def test_naming_a_code_is_consent() -> None:
    """A policy that names a code has it retried, for items and requests alike."""
    policy = RetryPolicy(retryable_codes=frozenset({"INTERNAL"}))
    assert verdicts.of_item(received(Internal("")), policy, repeatable=False).again
    assert verdicts.of_request(received(Internal("")), policy, repeatable=False).again
    assert not verdicts.of_item(received(Unavailable("")), policy, repeatable=False).again


@pytest.mark.parametrize(
    ("judgement", "u", "expected"),
    [
        pytest.param({"delay": 3.0}, 0.0, 3.0, id="what-the-server-asks-is-a-minimum"),
        pytest.param({"delay": 3.0}, 0.5, 3.3, id="and-is-spread-upward"),
        pytest.param({"delay": 3.0, "exact": True}, 0.5, 3.0, id="pushback-is-exact"),
        pytest.param({}, 0.5, 0.1, id="else-the-backoff"),
        pytest.param({"delay": 0.001}, 0.5, 0.1, id="never-less-than-the-backoff"),
        pytest.param({"delay": 61.0}, 0.5, None, id="longer-than-the-policy-grants"),
    ],
)
def test_how_long_an_item_waits(judgement: dict[str, Any], u: float, expected: float | None) -> None:
    """The delay that was asked for, or the backoff; None where the server asks for too much."""
    found = verdicts.wait(POLICY, Judgement(again=True, certain=True, **judgement), attempts=2, u=u)
    assert found == (None if expected is None else pytest.approx(expected))

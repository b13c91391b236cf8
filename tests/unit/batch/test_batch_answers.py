"""What an answer says of the items of its request: never more success than it shows."""

from __future__ import annotations

from typing import Any

import pytest
from google.rpc import status_pb2

from faultwire.testing.v1 import batches_pb2 as pb
from faultwire.v1 import errors_pb2
from grpc_faultwire import Aborted, StatusError
from grpc_faultwire.batch import BatchPolicy, Report
from grpc_faultwire.batch.answers import Answers
from grpc_faultwire.batch.result import BatchResult
from grpc_faultwire.batch.run import BatchRun, Request
from grpc_faultwire.policies import RetryPolicy

MISSING = status_pb2.Status(code=5, message="missing")
LATE = status_pb2.Status(code=14, message="later")


def begun(count: int) -> tuple[BatchRun, Request]:
    policy = BatchPolicy(retry=RetryPolicy(max_attempts=1))
    run = BatchRun(["item"] * count, policy, now=0.0, random=lambda: 0.5)
    request = run.next(0.0)
    assert isinstance(request, Request)
    return run, request


def outcome(response: Any, *, values: Any = None, read: Any = None) -> BatchResult:
    run, request = begun(3)
    Answers(values, read).responded(run, request, response, 0.0)
    return run.result()


def states(result: BatchResult) -> list[str]:
    return [result.state(index) for index in range(result.total)]


def put_reported(**fields: Any) -> Any:
    return pb.PutReportedResponse(report=errors_pb2.BatchReport(**fields))


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        pytest.param(pb.PutResponse(), ["ok", "ok", "ok"], id="nothing-failed"),
        pytest.param(pb.PutResponse(failed_items={1: MISSING}), ["ok", "failed", "ok"], id="one-failed"),
        pytest.param(pb.PutResponse(failed_items={3: MISSING}), ["unknown"] * 3, id="an-item-that-was-not-sent"),
        pytest.param(pb.PutResponse(failed_items={-1: MISSING}), ["ok", "ok", "ok"], id="an-index-that-cannot-be"),
        pytest.param(put_reported(total=3, failed=1), ["unknown"] * 3, id="one-failed-and-is-not-named"),
        pytest.param(
            put_reported(total=3, failed=2, groups=[errors_pb2.FailureGroup(indexes=[0], count=2, status=MISSING)]),
            ["failed", "unknown", "unknown"],
            id="two-failed-and-one-is-named",
        ),
        pytest.param(put_reported(total=4), ["unknown"] * 3, id="a-report-on-other-items"),
        pytest.param(put_reported(), ["ok", "ok", "ok"], id="a-report-without-counts"),
        pytest.param(object(), ["ok", "ok", "ok"], id="a-method-without-item-errors"),
    ],
)
def test_responses(response: Any, expected: list[str]) -> None:
    """Each item is what the response shows; where that is not clear, nobody can know."""
    assert states(outcome(response)) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param(["a", "b", "c"], {0: "a", 2: "c"}, id="for-all-items"),
        pytest.param(["a", "c"], {0: "a", 2: "c"}, id="for-those-that-are-well"),
        pytest.param({0: "a", 1: "b"}, {0: "a"}, id="by-position"),
        pytest.param(["a"], {}, id="for-nobody-knows-whom"),
    ],
)
def test_values(values: Any, expected: dict[int, str]) -> None:
    """Values go to the items that are well, in one of three layouts; any other leaves the items unknown."""
    result = outcome(pb.PutResponse(failed_items={1: MISSING}), values=lambda _: values)
    assert result.values == expected
    assert (result.state(0) == "ok") is bool(expected)


def test_a_reader_of_ones_own() -> None:
    """A service with another convention is read by a function; one that raises leaves the items unknown."""
    assert states(outcome("anything", read=lambda _: Report(()))) == ["ok"] * 3
    assert states(outcome("anything", read=lambda _: 1 / 0)) == ["unknown"] * 3


def failed_with(**fields: Any) -> StatusError:
    return Aborted("failed", error_details=[errors_pb2.BatchReport(**fields)])


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(
            failed_with(atomic=True, total=3, failed=1, failures=[errors_pb2.ItemFailure(index=1, status=MISSING)]),
            ["ITEM_ROLLED_BACK", "NOT_FOUND", "ITEM_ROLLED_BACK"],
            id="the-innocent-are-told-apart",
        ),
        pytest.param(
            failed_with(atomic=True, total=3, failed=2, failures=[errors_pb2.ItemFailure(index=1, status=LATE)]),
            ["ABORTED", "UNAVAILABLE", "ABORTED"],
            id="who-is-innocent-is-not-known",
        ),
    ],
)
def test_errors_of_atomic_requests(error: StatusError, expected: list[str]) -> None:
    """Nothing was kept, so every item has failed: by its own fault, or by others'."""
    run, request = begun(3)
    Answers().failed(run, request, error, 0.0)
    result = run.result()
    assert states(result) == ["failed"] * 3
    assert [result.failures[index].error.reason for index in range(3)] == expected

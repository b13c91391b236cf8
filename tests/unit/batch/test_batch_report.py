"""Reports on batches: exact counts, sorted, grouped, and within their limit."""

from __future__ import annotations

from typing import Any

import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from faultwire.v1 import errors_pb2
from grpc_faultwire.batch.reading import Report, batch_report
from grpc_faultwire.batch.report import Counts, Failure, compose, named
from grpc_faultwire.errors import Aborted

SMALLEST = 400


def status(code: int, reason: str, message: str) -> status_pb2.Status:
    made = status_pb2.Status(code=code, message=message)
    made.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="shop.example.com"))
    return made


statuses = st.builds(
    status,
    st.sampled_from([3, 5, 14]),
    st.sampled_from(["MISSING", "BROKEN", "LATE", "TORN"]),
    st.text("abc", max_size=40),
)


@st.composite
def failed(draw: Any) -> list[Failure]:
    """Failures at indexes of their own, with equal statuses as one object, as the collector keeps them."""
    pool = draw(st.lists(statuses, min_size=1, max_size=8))
    indexes = draw(st.sets(st.integers(0, 5000), min_size=1, max_size=60))
    return [Failure(index, draw(st.sampled_from(["", "k1", "key"])), draw(st.sampled_from(pool))) for index in indexes]


def counts(failures: list[Failure]) -> Counts:
    return Counts(total=6000, succeeded=6000 - len(failures), failed=len(failures))


def indexes_of(report: errors_pb2.BatchReport) -> list[int]:
    return [one.index for one in report.failures] + [index for group in report.groups for index in group.indexes]


@given(failed())
@settings(max_examples=40, deadline=None)
def test_without_a_limit_a_report_is_lossless(failures: list[Failure]) -> None:
    """What is read is what was told: every index, with its key and its status."""
    report = compose(failures, counts(failures))
    read = batch_report(response_with(report))
    told = {one.index: (one.key, one.status) for one in failures}
    assert {one.index: (one.key, one.status) for one in read.failures} == told
    assert [one.index for one in read.failures] == sorted(told)
    assert read.unnamed == 0


@given(failed(), st.integers(SMALLEST, 4000))
@settings(max_examples=40, deadline=None)
def test_a_limited_report_fits_and_counts_exactly(failures: list[Failure], limit: int) -> None:
    """It keeps its limit, names nobody twice, counts everybody, and names the first failure of each group."""
    report = compose(failures, counts(failures), limit)
    assert report.ByteSize() <= limit
    indexes = indexes_of(report)
    assert len(indexes) == len(set(indexes)) == named(report)
    assert set(indexes) <= {one.index for one in failures}
    assert report.failed == len(failures) == len(report.failures) + sum(group.count for group in report.groups)
    assert [one.index for one in report.failures] == sorted(one.index for one in report.failures)
    first: dict[Any, int] = {}
    for one in sorted(failures, key=lambda one: one.index):
        first.setdefault(one.status.code, one.index)
    assert set(first.values()) <= set(indexes)
    for group in report.groups:
        assert list(group.indexes) == sorted(group.indexes)
        assert group.indexes


def test_a_group_shows_no_more_than_its_members_share() -> None:
    """The bare status of a capped group has code, domain and reason, and nobody's message."""
    failures = [Failure(index, "", status(5, "MISSING", f"No book {index}.")) for index in range(500)]
    report = compose(failures, counts(failures), 2000)
    [group] = report.groups
    assert group.status.message == ""
    assert group.count == 500 - len(report.failures)
    assert [one.index for one in report.failures] == list(range(8))


def test_small_groups_are_not_crowded_out() -> None:
    """A group of thousands leaves room for all indexes of a small one."""
    many, few = status(5, "MISSING", ""), status(3, "BROKEN", "")
    failures = [Failure(index, "", few if index % 250 == 7 else many) for index in range(10_000)]
    report = compose(failures, Counts(total=10_000, succeeded=0, failed=10_000), 1000)
    assert set(range(7, 10_000, 250)) <= set(indexes_of(report))
    assert 980 < report.ByteSize() <= 1000  # what the small one leaves goes to the large one


def response_with(report: errors_pb2.BatchReport) -> Any:
    from faultwire.testing.v1 import batches_pb2

    return batches_pb2.PutReportedResponse(report=report)


@given(
    st.builds(
        errors_pb2.BatchReport,
        total=st.integers(-5, 10),
        succeeded=st.integers(-5, 10),
        failed=st.integers(-5, 10),
        not_attempted=st.integers(-5, 10),
        rolled_back=st.integers(-5, 10),
        atomic=st.booleans(),
        failures=st.lists(st.builds(errors_pb2.ItemFailure, index=st.integers(-3, 5), status=statuses), max_size=4),
        groups=st.lists(
            st.builds(
                errors_pb2.FailureGroup,
                indexes=st.lists(st.integers(-3, 5), max_size=4),
                status=statuses,
                count=st.integers(-5, 10),
            ),
            max_size=3,
        ),
    )
)
@settings(max_examples=40, deadline=None)
def test_reading_never_fails_over_what_a_peer_sent(report: errors_pb2.BatchReport) -> None:
    """Counts that contradict the items, items named twice, impossible indexes: what is read claims no more success."""
    read = batch_report(response_with(report))
    indexes = [one.index for one in read.failures]
    assert indexes == sorted(set(indexes))
    assert all(index >= 0 for index in indexes)
    assert read.failed >= 0
    assert read.failed + read.not_attempted >= len(indexes)
    assert read.unnamed >= 0
    if read.failures or read.failed > 0:
        with pytest.raises(ExceptionGroup):
            read.raise_if_failed()


def test_an_error_that_says_nothing_of_items_is_itself_the_outcome() -> None:
    """The report of any other error has no items, and raises that error."""
    error = Aborted("no batch")
    read = batch_report(error, total=3)
    assert (read.error, read.total, read.succeeded, read.ok) == (error, 3, None, False)
    with pytest.raises(Aborted):
        read.raise_if_failed()


def test_a_report_of_success_raises_nothing() -> None:
    """All well: no failures, and nothing to raise."""
    read = Report((), counts=errors_pb2.BatchReport(total=3, succeeded=3))
    assert (read.ok, read.succeeded) == (True, 3)
    read.raise_if_failed()

"""What a server collects of its items, and says in one answer."""

from __future__ import annotations

import asyncio
import pickle
import threading
from typing import Any

import pytest
from google.protobuf import empty_pb2
from google.rpc import status_pb2

from faultwire.testing.v1 import batches_pb2 as pb
from faultwire.v1 import errors_pb2
from grpc_faultwire import (
    Aborted,
    Category,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    RetryScope,
    StatusError,
    Translator,
    Unauthenticated,
    Unavailable,
)
from grpc_faultwire.batch import BatchError, ErrorCollector, batch_report, collects_errors
from grpc_faultwire.batch.reading import error_of

CANARY = "canary-7f3a"


def collected(*errors: BaseException | None, **settings: Any) -> ErrorCollector:
    """Collect one error for each item; None: it is well."""
    collector = ErrorCollector(total=len(errors), **settings)
    for error in errors:
        with collector.item():
            if error is not None:
                raise error
    return collector


def test_items_are_collected_by_index_and_key() -> None:
    """Each failure keeps its index, its key, its type, and what it says."""
    errors = ErrorCollector(total=3)
    for index, key in enumerate(["a", "b", "c"]):
        with errors.item(index, key) as item:
            if key == "b":
                raise NotFound("No book b.", reason="BOOK_NOT_FOUND", domain="shop.example.com")
        assert item.ok is (key != "b")
    [failure] = batch_report(errors.fill(pb.PutReportedResponse())).failures
    assert (failure.index, failure.key, type(failure.error)) == (1, "b", NotFound)
    assert (failure.error.reason, failure.error.message) == ("BOOK_NOT_FOUND", "No book b.")


def test_undeclared_exceptions_are_masked(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing of an item's undeclared exception leaves; the log has it under the id that the caller is given."""
    error = ValueError(CANARY)
    error.add_note(CANARY)
    errors = collected(error, None)
    response = errors.fill(pb.PutReportedResponse())
    assert CANARY.encode() not in response.SerializeToString()
    assert b"ValueError" not in response.SerializeToString()
    [failure] = batch_report(response).failures
    assert isinstance(failure.error, Internal)
    [record] = [record for record in caplog.records if record.name == "grpc_faultwire.errors"]
    assert CANARY in record.getMessage()
    assert failure.error.error_id in record.getMessage()


def test_equal_bugs_share_an_id_and_are_logged_a_few_times(caplog: pytest.LogCaptureFixture) -> None:
    """A thousand items that fail in one place are one group, with one id, and a handful of log lines."""
    errors = ErrorCollector(total=1000)
    for index in range(1000):
        with errors.item(index):
            raise ValueError(f"{CANARY} {index}")
    report = errors.report()
    assert [group.count for group in report.groups] == [1000]
    assert len([record for record in caplog.records if record.name == "grpc_faultwire.errors"]) < 20


def test_declared_maps_serve_items_too() -> None:
    """An exception that the translator maps becomes that error."""
    translator = Translator()
    translator.map(KeyError, NotFound, reason="NO_SUCH_KEY", message="No such key.")
    [failure] = batch_report(collected(KeyError(1), translator=translator).fill(pb.PutResponse())).failures
    assert (type(failure.error), failure.error.reason) == (NotFound, "NO_SUCH_KEY")


def test_secrets_in_messages_are_redacted() -> None:
    """Items' messages go through the same redaction as an RPC's."""
    response = collected(NotFound("password=hunter2")).fill(pb.PutResponse())
    assert b"hunter2" not in response.SerializeToString()


@pytest.mark.parametrize(
    ("errors", "kind", "scope"),
    [
        pytest.param([NotFound("a"), NotFound("b")], NotFound, RetryScope.NEVER, id="all-equal-gives-that-code"),
        pytest.param([NotFound("a"), InvalidArgument("b")], Aborted, RetryScope.NEVER, id="mixed-gives-aborted"),
        pytest.param([Unavailable("a"), Unavailable("b")], Unavailable, RetryScope.REQUEST, id="all-retryable"),
        pytest.param([Unavailable("a"), NotFound("b")], Aborted, RetryScope.NEVER, id="one-is-not-retryable"),
        pytest.param([Unavailable("a"), Aborted("b")], Aborted, RetryScope.OPERATION, id="one-needs-the-operation"),
        pytest.param(
            [Unavailable("a"), Unauthenticated("b")], Aborted, RetryScope.AFTER_REFRESH, id="one-needs-a-refresh"
        ),
    ],
)
def test_the_overall_error_of_an_atomic_batch(
    errors: list[StatusError], kind: type[StatusError], scope: RetryScope
) -> None:
    """Its code is the items' if they share one, else ABORTED; it is retryable only if every failed item is."""
    error = collected(*errors, None, atomic=True).error()
    assert type(error) is kind
    assert error.retry_scope is scope
    assert (error.reason, error.domain) == ("BATCH_FAILED", "faultwire")


def test_the_overall_error_asks_for_the_longest_delay_and_the_worst_severity() -> None:
    """A batch waits as long as the item that needs most, and is as grave as its gravest item."""
    for delays in ((1.0, 4.0), (4.0, 1.0)):
        error = collected(*(Unavailable("a", retry_delay=delay) for delay in delays), atomic=True).error()
        assert error.retry_delay == 4.0
    error = collected(Unavailable("a", retry_delay=9.0), Internal("b"), NotFound("c"), atomic=True).error()
    assert (error.retry_delay, error.category) == (None, Category.INTERNAL)


def test_innocent_items_of_an_atomic_batch_are_counted_as_such() -> None:
    """Items that were well are rolled back, those whose turn did not come were not attempted; nobody succeeded."""
    with pytest.raises(NotFound) as raised, ErrorCollector(total=5, atomic=True, stop_at_first=True) as errors:
        for index in range(5):
            with errors.item(index):
                if index == 2:
                    raise NotFound("no")
    report = batch_report(raised.value)
    assert (report.total, report.succeeded, report.failed) == (5, 0, 1)
    assert (report.rolled_back, report.not_attempted, report.atomic) == (2, 2, True)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


def test_leaving_without_failures_raises_nothing() -> None:
    """An atomic batch that is well answers as usual, and its report says so."""
    with ErrorCollector(total=2, atomic=True) as errors:
        with errors.item():
            pass
        with errors.item():
            pass
    assert errors.report() == errors_pb2.BatchReport(total=2, succeeded=2, atomic=True)


def test_items_whose_turn_did_not_come_are_no_successes() -> None:
    """Of a partial success that stopped early they are reported, to be sent again."""
    with ErrorCollector(total=4, stop_at_first=True) as errors:
        for index in range(4):
            with errors.item(index):
                if index == 1:
                    raise NotFound("no")
    for response in (pb.PutResponse(), pb.PutReportedResponse()):
        report = batch_report(errors.fill(response), total=4)
        assert (report.failed, report.not_attempted, report.succeeded, report.unnamed) == (1, 2, 1, 0)
        assert [one.error.reason for one in report.failures] == [
            "NOT_FOUND",
            "ITEM_NOT_ATTEMPTED",
            "ITEM_NOT_ATTEMPTED",
        ]
        assert report.failures[1].error.retry_scope is RetryScope.REQUEST


def test_a_total_failure_can_fail_the_call() -> None:
    """With raise_if_all_fail a partial success without any success is an error; by default it is an answer."""
    with pytest.raises(NotFound) as raised, ErrorCollector(total=1, raise_if_all_fail=True) as errors:
        errors.add(0, NotFound("no"))
    assert not batch_report(raised.value).atomic
    with ErrorCollector(total=1) as errors:
        errors.add(0, NotFound("no"))
    assert errors.failed == 1


def test_of_two_errors_for_an_item_the_first_counts() -> None:
    """Counts stay exact where a handler tells of an item twice."""
    errors = ErrorCollector(total=1)
    errors.add(0, NotFound("first"))
    errors.add(0, Internal("second"))
    assert errors.report().failed == 1
    assert errors.status(0).code == 5


@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_outside_the_batch_is_refused(index: int) -> None:
    """A wrong index is the handler's bug, and is told."""
    with pytest.raises(ValueError, match=str(index)):
        ErrorCollector(total=3).add(index, NotFound("no"))


def test_what_is_no_items_error_goes_on() -> None:
    """An exception outside the items, or one that is no Exception, is not swallowed."""
    with pytest.raises(OSError), ErrorCollector() as errors:
        raise OSError
    with pytest.raises(KeyboardInterrupt), ErrorCollector() as errors, errors.item():
        raise KeyboardInterrupt
    assert errors.failed == 0


def test_fields_are_found_by_type_or_named() -> None:
    """A response without such a field, or with another name, is told of in a sentence."""
    errors = collected(NotFound("no"))
    assert errors.fill(pb.PutResponse(), "failed_items").failed_items[0].code == 5
    with pytest.raises(TypeError, match="must have one outcome field"):
        errors.fill(empty_pb2.Empty())
    with pytest.raises(TypeError, match="named 'values'"):
        errors.fill(pb.PutResponse(), "values")


def test_except_star_takes_a_class() -> None:
    """The group's members are typed, and each says which item it was; the group still knows its report."""
    report = batch_report(collected(NotFound("a"), PermissionDenied("b"), NotFound("c")).fill(pb.PutResponse()))
    caught: Any = None
    try:
        report.raise_if_failed()
    except* NotFound as group:
        caught = group
    except* PermissionDenied:
        pass
    assert isinstance(caught, BatchError)
    assert caught.report is report
    assert [note for one in caught.exceptions for note in one.__notes__] == ["item 0", "item 2"]


def test_group_errors_are_pickled() -> None:
    """A process pool's worker may raise one."""
    with pytest.raises(BatchError) as raised:
        batch_report(collected(NotFound("a")).fill(pb.PutResponse())).raise_if_failed()
    error = raised.value
    error.report = None
    copy = pickle.loads(pickle.dumps(error))
    assert [type(one) for one in copy.exceptions] == [NotFound]


def test_a_task_group_runs_on_in_spite_of_failures() -> None:
    """Watched tasks collect their errors; the others are not cancelled."""

    async def put(index: int) -> int:
        await asyncio.sleep(0)
        if index % 2:
            raise NotFound(f"no {index}")
        return index

    async def main() -> tuple[ErrorCollector, list[int | None]]:
        async with ErrorCollector(total=4) as errors, asyncio.TaskGroup() as group:
            tasks = [group.create_task(errors.watch(put(index), index)) for index in range(4)]
        return errors, [task.result() for task in tasks]

    errors, results = asyncio.run(main())
    assert results == [0, None, 2, None]
    assert [one.index for one in errors.report().failures] == [1, 3]


def test_a_task_group_stops_at_the_first_failure() -> None:
    """With stop_at_first the group cancels its other tasks, and one error comes out, which says who was innocent."""

    async def put(index: int) -> None:
        if index == 1:
            raise NotFound("no")
        await asyncio.Event().wait()

    async def main() -> None:
        async with ErrorCollector(total=4, atomic=True, stop_at_first=True) as errors, asyncio.TaskGroup() as group:
            for index in range(3):
                group.create_task(errors.watch(put(index), index))

    with pytest.raises(NotFound) as raised:
        asyncio.run(main())
    report = batch_report(raised.value)
    assert (report.failed, report.rolled_back, report.not_attempted) == (1, 2, 1)


def test_items_that_were_cancelled_half_way_are_no_successes() -> None:
    """Of a partial success they have failed, and are not to be sent again blindly."""

    async def put(index: int) -> None:
        if index == 1:
            raise NotFound("no")
        await asyncio.Event().wait()

    async def main() -> ErrorCollector:
        async with ErrorCollector(total=2, stop_at_first=True) as errors, asyncio.TaskGroup() as group:
            for index in range(2):
                group.create_task(errors.watch(put(index), index))
        return errors

    [first, _] = batch_report(asyncio.run(main()).fill(pb.PutResponse())).failures
    assert (first.index, first.error.reason, first.error.retry_scope) == (0, "ITEM_INTERRUPTED", RetryScope.NEVER)


def test_members_of_an_exception_group_are_located() -> None:
    """A group of one's own is collected by what its members say; what is no item's is raised."""
    errors = ErrorCollector(total=3)
    ours, other = NotFound("no"), OSError("disk")
    ours.place = (2, "c")  # type: ignore[attr-defined]
    with pytest.raises(ExceptionGroup) as raised:
        errors.add_group(
            ExceptionGroup("", [ExceptionGroup("", [ours]), other]), lambda one: getattr(one, "place", None)
        )
    assert raised.value.exceptions == (other,)
    assert [(one.index, one.key) for one in errors.report().failures] == [(2, "c")]


def test_many_threads_collect_at_once() -> None:
    """No failure is lost, and no count is wrong."""
    errors = ErrorCollector(total=400)

    def work(start: int) -> None:
        for index in range(start, 400, 4):
            with errors.item(index):
                raise NotFound(f"no {index % 3}")

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = errors.report()
    assert report.failed == sum(len(group.indexes) for group in report.groups) == 400


def test_ten_thousand_failures_fit_the_budget() -> None:
    """The error of a batch says exact counts and the first failures of each kind, within 6 KiB as it travels."""
    errors = ErrorCollector(total=10_000, atomic=True)
    kinds = (NotFound, InvalidArgument, FailedPrecondition)
    for index in range(10_000):
        errors.add(
            index, kinds[index % 3](f"No book {index}.", reason=f"REASON_{index % 3}", domain="shop.example.com")
        )
    error = errors.error()
    report = batch_report(error)
    assert (report.total, report.failed) == (10_000, 10_000)
    assert {0, 1, 2} <= {one.index for one in report.failures}
    assert report.unnamed == 10_000 - len(report.failures) > 0
    assert "10000 of 10000 items failed" in error.message
    assert "named here" in error.message
    assert error.status.ByteSize() * 4 / 3 < 6144


def test_statuses_are_read_by_anybody() -> None:
    """An item's status is a plain google.rpc.Status with one ErrorInfo, as AIP-193 wants it."""
    status = collected(NotFound("no", reason="MISSING", domain="shop.example.com")).status(0)
    assert isinstance(status, status_pb2.Status)
    assert [detail.type_url for detail in status.details] == ["type.googleapis.com/google.rpc.ErrorInfo"]
    again = error_of(status)
    assert (again.reason, again.domain, again.retry_scope) == ("MISSING", "shop.example.com", RetryScope.NEVER)


def test_the_decorator_keeps_a_methods_flavour() -> None:
    """grpc.aio looks at a behavior to know how to call it: coroutine functions and generators stay what they are."""
    import inspect

    async def unary(request: Any, context: Any, errors: Any) -> Any: ...
    async def stream(request: Any, context: Any, errors: Any) -> Any:
        yield

    def generator(request: Any, context: Any, errors: Any) -> Any:
        yield

    assert inspect.iscoroutinefunction(collects_errors()(unary))
    assert inspect.isasyncgenfunction(collects_errors()(stream))
    assert inspect.isgeneratorfunction(collects_errors()(generator))

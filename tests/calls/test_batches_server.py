"""What servers answer for batches, in the three worlds, as plain callers see it."""

from __future__ import annotations

import asyncio
from concurrent import futures
from typing import Any

import grpc
import pytest
from batch_lab import CANARY, AioServicer, Servicer, Shop, items, request, servicer
from google.rpc import code_pb2, status_pb2
from grpc_status import rpc_status
from worlds import World

from faultwire.testing.v1 import batches_pb2 as pb
from faultwire.testing.v1 import batches_pb2_grpc
from grpc_faultwire import Internal, NotFound, Translator
from grpc_faultwire.batch import ErrorCollector, batch_report


def stub(world: World, shop: Shop | None = None, translator: Any = None) -> batches_pb2_grpc.BatchesStub:
    address = world.serve(servicer(world, shop or Shop()), world.interceptor(translator))
    return batches_pb2_grpc.BatchesStub(world.channel(address))


def test_partial_success(world: World) -> None:
    """The call is OK; a plain caller finds the failed items in the map, as AIP-233 has it."""
    response = stub(world).Put(request(items("", "missing", "bug", "wrong")), timeout=5)
    assert list(response.values) == ["value of k0"]
    codes = {index: status.code for index, status in response.failed_items.items()}
    assert codes == {1: code_pb2.NOT_FOUND, 2: code_pb2.INTERNAL, 3: code_pb2.INVALID_ARGUMENT}
    assert CANARY.encode() not in response.SerializeToString()
    [outcome] = world.recorder.wait()
    assert outcome.code is grpc.StatusCode.OK


def test_typed_failures(world: World) -> None:
    """Our caller raises them as one group of typed errors."""
    response = stub(world).Put(request(items("", "missing", "bug")), timeout=5)
    report = batch_report(response, total=3)
    assert report.succeeded == 1
    caught: dict[str, Any] = {}
    try:
        report.raise_if_failed()
    except* NotFound as group:
        caught["missing"] = group.exceptions
    except* Internal as group:
        caught["bug"] = group.exceptions
    assert {kind: [one.reason for one in errors] for kind, errors in caught.items()} == {
        "missing": ["BOOK_NOT_FOUND"],
        "bug": ["INTERNAL"],
    }


def test_atomic_failure(world: World) -> None:
    """The call fails with one error, which plain callers can read, and which says who was innocent."""
    with pytest.raises(grpc.RpcError) as raised:
        stub(world).PutReported(request(items("", "missing", "", "wrong")), timeout=5)
    assert raised.value.code() is grpc.StatusCode.ABORTED
    assert raised.value.details() == "2 of 4 items failed, so nothing was kept."
    status = rpc_status.from_call(raised.value)
    assert isinstance(status, status_pb2.Status)
    report = batch_report(raised.value)
    assert [one.index for one in report.failures] == [1, 3]
    assert (report.total, report.failed, report.rolled_back, report.atomic) == (4, 2, 2, True)
    assert [outcome.code for outcome in world.recorder.wait()] == [grpc.StatusCode.ABORTED]


def test_an_atomic_batch_that_is_well(world: World) -> None:
    """It answers OK, and the report says that all is well."""
    response = stub(world).PutReported(request(items("", "")), timeout=5)
    assert batch_report(response).ok
    assert response.report.succeeded == 2


def test_a_great_many_failures_travel(world: World) -> None:
    """The error arrives whole, says exact counts, and names the first failures of each group."""
    count = 1_000
    fates = ["missing", "wrong"] * (count // 2)
    with pytest.raises(grpc.RpcError) as raised:
        stub(world).PutReported(request(items(*fates)), timeout=30)
    assert raised.value.code() is grpc.StatusCode.ABORTED
    trailers = dict(raised.value.trailing_metadata())
    assert len(trailers["grpc-status-details-bin"]) * 4 / 3 + len(raised.value.details()) < 6144
    report = batch_report(raised.value)
    assert (report.total, report.failed) == (count, count)
    named = {one.index for one in report.failures}
    assert {0, 1} <= named
    assert report.unnamed == count - len(named)
    assert f"{len(named)} of them are named here" in raised.value.details()
    assert not report.error.report.truncation.dropped


def test_the_interceptors_translator_and_exposure_hold_for_items(world: World) -> None:
    """What the server maps for calls, it maps for items."""
    translator = Translator("shop.example.com")
    translator.map(KeyError, NotFound, reason="NO_SUCH_KEY", message="No such key.")
    response = stub(world, translator=translator).Put(request(items("bug")), timeout=5)
    [failure] = batch_report(response).failures
    assert (failure.error.reason, failure.error.domain) == ("NO_SUCH_KEY", "shop.example.com")


def test_abort_inside_an_item_ends_the_call(world: World) -> None:
    """A handler that aborts means the RPC, not the item: the handler does not go on."""
    went_on = []

    class AioAborting(AioServicer):
        async def Put(self, request: Any, context: Any) -> Any:
            with ErrorCollector(context) as errors, errors.item():
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")
            went_on.append(True)

    class Aborting(Servicer):
        def Put(self, request: Any, context: Any) -> Any:
            with ErrorCollector(context) as errors, errors.item():
                context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")
            went_on.append(True)

    aborting = (AioAborting if world.name == "aio" else Aborting)(Shop())
    plain = batches_pb2_grpc.BatchesStub(world.channel(world.serve(aborting)))
    with pytest.raises(grpc.RpcError) as raised:
        plain.Put(request(items("")), timeout=5)
    assert raised.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert not went_on


def test_a_streamed_batch(world: World) -> None:
    """A client stream ends in one report with exact counts, though nobody said how many items would come."""
    response = stub(world).Upload(iter(items("", "missing", "")), timeout=5)
    report = batch_report(response)
    assert (report.total, report.succeeded, report.failed) == (3, 2, 1)
    assert [(one.index, one.key) for one in report.failures] == [(1, "k1")]


def test_items_answered_one_by_one(world: World) -> None:
    """Each response of a stream bears its items' status, which a plain caller reads as it is."""
    responses = list(stub(world).Exchange(iter(items("", "missing", "")), timeout=5))
    assert [response.status.code for response in responses] == [0, code_pb2.NOT_FOUND, 0]


class Tasks(AioServicer):
    """Works on its items in tasks of a group, all at once."""

    async def Put(self, request: Any, context: Any) -> Any:
        async with ErrorCollector(context, total=len(request.items)) as errors, asyncio.TaskGroup() as tasks:
            for index, item in enumerate(request.items):
                tasks.create_task(errors.watch(self._put(item), index, item.key))
        return errors.fill(pb.PutResponse())

    async def PutReported(self, request: Any, context: Any) -> Any:
        with ErrorCollector(context, total=len(request.items), atomic=True) as errors:
            try:
                async with asyncio.TaskGroup() as tasks:
                    for item in request.items:
                        tasks.create_task(self._put(item))
            except* NotFound as missing:
                errors.add_group(missing, lambda one: int(one.message.removeprefix("No book k").rstrip(".")))
        return pb.PutReportedResponse()

    async def _put(self, item: Any) -> None:
        await asyncio.sleep(0)
        self.shop.put(item)


class Threads(Servicer):
    """The same in threads."""

    def Put(self, request: Any, context: Any) -> Any:
        with ErrorCollector(context, total=len(request.items)) as errors, futures.ThreadPoolExecutor(4) as pool:
            for index, item in enumerate(request.items):
                pool.submit(self._put, errors, index, item)
        return errors.fill(pb.PutResponse())

    def PutReported(self, request: Any, context: Any) -> Any:
        with ErrorCollector(context, total=len(request.items), atomic=True) as errors:
            found = [NotFound(f"No book {item.key}.", reason="BOOK_NOT_FOUND") for item in request.items if item.fate]
            if found:
                errors.add_group(ExceptionGroup("", found), lambda one: int(one.message[9:-1]))
        return pb.PutReportedResponse()

    def _put(self, errors: ErrorCollector, index: int, item: Any) -> None:
        with errors.item(index, item.key):
            self.shop.put(item)


def test_items_worked_on_at_once(world: World) -> None:
    """A TaskGroup's tasks, and threads, hand over what they raise; an exception group is taken by its members."""
    servicer = (Tasks if world.name == "aio" else Threads)(Shop())
    at_once = batches_pb2_grpc.BatchesStub(world.channel(world.serve(servicer)))
    response = at_once.Put(request(items("", "missing", "bug", "missing", "")), timeout=5)
    assert {index: status.code for index, status in response.failed_items.items()} == {
        1: code_pb2.NOT_FOUND,
        2: code_pb2.INTERNAL,
        3: code_pb2.NOT_FOUND,
    }
    with pytest.raises(grpc.RpcError) as raised:
        at_once.PutReported(request(items("", "missing", "missing")), timeout=5)
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    assert [one.index for one in batch_report(raised.value).failures] == [1, 2]

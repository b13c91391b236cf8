"""A service of batches whose items say what becomes of them, in plain functions and in coroutines."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import grpc
import grpc.aio

from faultwire.testing.v1 import batches_pb2 as pb
from faultwire.testing.v1 import batches_pb2_grpc
from grpc_faultwire import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from grpc_faultwire import aio as aio_world
from grpc_faultwire import sync as sync_world
from grpc_faultwire.batch import ErrorCollector, StreamReport, aio, collects_errors, sync

CANARY = "canary-5b1d"
FATES = ("", "", "", "missing", "flaky", "never", "bug")
"""What may become of an item, as it says itself: most are well."""


class Shop:
    """What the items do, and how often."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.requests = 0
        self.bytes = 0
        self._lock = threading.Lock()

    def put(self, item: Any) -> str:
        with self._lock:
            self.seen[item.key] += 1
            seen = self.seen[item.key]
        if item.fate == "missing":
            raise NotFound(f"No book {item.key}.", reason="BOOK_NOT_FOUND", domain="shop.example.com")
        if item.fate == "wrong":
            raise InvalidArgument("wrong")
        if item.fate == "bug":
            raise KeyError(CANARY)
        if item.fate == "flaky" and seen == 1:
            raise Unavailable("later", retry_delay=0.001)
        if item.fate == "never":
            raise Unavailable("later", retry_delay=0.001)
        with self._lock:
            self.done[item.key] += 1
        return f"value of {item.key}"

    def put_all(self, request: Any, errors: ErrorCollector) -> list[str]:
        with self._lock:
            self.requests += 1
            self.bytes += request.ByteSize()
        values = []
        for index, item in enumerate(request.items):
            with errors.item(index, item.key):
                values.append(self.put(item))
        return values


class Servicer(batches_pb2_grpc.BatchesServicer):
    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    @collects_errors("items")
    def Put(self, request: Any, context: Any, errors: ErrorCollector) -> Any:
        return pb.PutResponse(values=self.shop.put_all(request, errors))

    @collects_errors("items", atomic=True)
    def PutReported(self, request: Any, context: Any, errors: ErrorCollector) -> Any:
        return pb.PutReportedResponse(values=self.shop.put_all(request, errors))

    @collects_errors()
    def Upload(self, requests: Iterable[Any], context: Any, errors: ErrorCollector) -> Any:
        values = []
        for item in requests:
            with errors.item(key=item.key):
                values.append(self.shop.put(item))
        return pb.PutReportedResponse(values=values)

    @collects_errors()
    def Exchange(self, requests: Iterable[Any], context: Any, errors: ErrorCollector) -> Any:
        for index, item in enumerate(requests):
            if item.fate == "break":
                raise FailedPrecondition("the stream breaks here")
            value = ""
            with errors.item(index) as one:
                value = self.shop.put(item)
            yield pb.ItemResponse(indexes=[index], status=one.status, value=value)


class AioServicer(batches_pb2_grpc.BatchesServicer):
    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    @collects_errors("items")
    async def Put(self, request: Any, context: Any, errors: ErrorCollector) -> Any:
        return pb.PutResponse(values=self.shop.put_all(request, errors))

    @collects_errors("items", atomic=True)
    async def PutReported(self, request: Any, context: Any, errors: ErrorCollector) -> Any:
        return pb.PutReportedResponse(values=self.shop.put_all(request, errors))

    @collects_errors()
    async def Upload(self, requests: Any, context: Any, errors: ErrorCollector) -> Any:
        values = []
        async for item in requests:
            with errors.item(key=item.key):
                values.append(self.shop.put(item))
        return pb.PutReportedResponse(values=values)

    @collects_errors()
    async def Exchange(self, requests: Any, context: Any, errors: ErrorCollector) -> Any:
        index = 0
        async for item in requests:
            if item.fate == "break":
                raise FailedPrecondition("the stream breaks here")
            value = ""
            with errors.item(index) as one:
                value = self.shop.put(item)
            yield pb.ItemResponse(indexes=[index], status=one.status, value=value)
            index += 1


def servicer(world: Any, shop: Shop) -> Any:
    return (AioServicer if world.name == "aio" else Servicer)(shop)


def items(*fates: str) -> list[Any]:
    return [pb.Item(key=f"k{index}", fate=fate) for index, fate in enumerate(fates)]


def request(chunk: list[Any]) -> Any:
    return pb.PutRequest(items=chunk)


class Caller:
    """A caller of one of the worlds, used alike."""

    def __init__(self, name: str, address: str, method: str = "Put", **wrapping: Any) -> None:
        self._name = name
        self._address = address
        self._method = method
        self._wrapping = wrapping

    def send(
        self, batch: Any, policy: Any = None, *, make: Callable[[list[Any]], Any] = request, **settings: Any
    ) -> Any:
        """Send a batch, and return its result."""
        if self._name == "sync":
            with sync_world.wrap_channel(grpc.insecure_channel(self._address), **self._wrapping) as channel:
                return sync.BatchCaller(self._of(channel), make, policy, **settings).send(batch)
        return asyncio.run(self._send(batch, policy, make, settings))

    async def _send(self, batch: Any, policy: Any, make: Any, settings: Any) -> Any:
        async with aio_world.wrap_channel(grpc.aio.insecure_channel(self._address), **self._wrapping) as channel:
            return await aio.BatchCaller(self._of(channel), make, policy, **settings).send(batch)

    def _of(self, channel: Any) -> Any:
        return getattr(batches_pb2_grpc.BatchesStub(channel), self._method)

    def report(self, batch: list[Any]) -> Any:
        """Stream a batch, and return what its responses say."""
        report = StreamReport(len(batch))
        if self._name == "sync":
            with sync_world.wrap_channel(grpc.insecure_channel(self._address)) as channel:
                return report.watch(self._of(channel)(iter(batch), timeout=10))
        return asyncio.run(self._report(batch, report))

    async def _report(self, batch: list[Any], report: StreamReport) -> Any:
        async with aio_world.wrap_channel(grpc.aio.insecure_channel(self._address)) as channel:
            try:
                async for response in self._of(channel)(iter(batch), timeout=10):
                    report.read(response)
            except grpc.RpcError as error:
                return report.report(error)
        return report.report()

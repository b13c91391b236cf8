"""The service and its callers, sync and aio: tells what each caller caught."""

from __future__ import annotations

import asyncio
import sys

import grpc
import rules
from ledger.v1 import ledger_pb2, ledger_pb2_grpc

import grpc_faultwire.aio
import grpc_faultwire.sync
from grpc_faultwire import aio, sync
from grpc_faultwire.aio.server import ServerInterceptor as AioInterceptor
from grpc_faultwire.sync.server import ServerInterceptor as SyncInterceptor

ENTRIES = [("open", 5), ("closed", 5), ("open", -250), ("odd", 1)]


class Ledger(ledger_pb2_grpc.LedgerServicer):
    def Book(self, request, context):
        return ledger_pb2.Entry(account=request.account, cents=rules.book(request.account, request.cents))


class AsyncLedger(ledger_pb2_grpc.LedgerServicer):
    async def Book(self, request, context):
        return ledger_pb2.Entry(account=request.account, cents=rules.book(request.account, request.cents))


def in_sync() -> None:
    from concurrent import futures

    server = grpc.server(futures.ThreadPoolExecutor(2), interceptors=[SyncInterceptor()])
    ledger_pb2_grpc.add_LedgerServicer_to_server(Ledger(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with sync.wrap_channel(grpc.insecure_channel(f"127.0.0.1:{port}")) as channel:
        stub = ledger_pb2_grpc.LedgerStub(channel)
        for account, cents in ENTRIES:
            entry = ledger_pb2.Entry(account=account, cents=cents)
            sys.stdout.write(f"sync: {rules.tell(lambda entry=entry: stub.Book(entry, timeout=10))}\n")
    server.stop(None).wait()


async def in_aio() -> None:
    server = grpc.aio.server(interceptors=[AioInterceptor()])
    ledger_pb2_grpc.add_LedgerServicer_to_server(AsyncLedger(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.wrap_channel(grpc.aio.insecure_channel(f"127.0.0.1:{port}")) as channel:
        stub = ledger_pb2_grpc.LedgerStub(channel)
        for account, cents in ENTRIES:
            raised = None
            try:
                await stub.Book(ledger_pb2.Entry(account=account, cents=cents), timeout=10)
            except grpc_faultwire.StatusError as error:
                raised = error
            sys.stdout.write(f"aio: {rules.tell(lambda raised=raised: _raise(raised))}\n")
    await server.stop(None)


def _raise(error) -> None:
    if error is not None:
        raise error


in_sync()
asyncio.run(in_aio())

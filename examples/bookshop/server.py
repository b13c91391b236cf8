"""A process that serves the bookshop: `python -m examples.bookshop.server --world sync --port 0`.

It prints its address to standard output and its log to standard error, and serves until it is terminated.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from concurrent import futures
from typing import Any

import grpc
import grpc.aio

from bookshop.v1 import bookshop_pb2_grpc, stockroom_pb2_grpc
from examples.bookshop import aio_service, service
from examples.bookshop.errors import translator
from examples.bookshop.moods import Moods
from examples.bookshop.stockroom import Stockroom
from grpc_faultwire import aio, sync


def main() -> None:
    options = arguments()
    logging.basicConfig(format="%(levelname)s %(name)s %(message)s", level=logging.INFO, stream=sys.stderr)
    moods = Moods()
    if options.until_eof or options.moody:
        threading.Thread(target=end_with_stdin, args=[moods], daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        if options.world == "sync":
            serve_sync(options, moods)
        else:
            asyncio.run(serve_aio(options))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", choices=("sync", "aio"), default="sync")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--plain", action="store_true", help="serve without Faultwire, to see the difference")
    parser.add_argument("--wholesaler", default="127.0.0.1:50061", metavar="ADDRESS", help="prices many copies")
    parser.add_argument("--importer", default="127.0.0.1:50062", metavar="ADDRESS", help="prices imported books")
    parser.add_argument("--until-eof", action="store_true", help="end when standard input ends, as its parent does")
    parser.add_argument("--moody", action="store_true", help="standard input says: well, flaky or down; sync only")
    return parser.parse_args()


def serve_sync(options: argparse.Namespace, moods: Moods) -> None:
    interceptors = [] if options.plain else [sync.ServerInterceptor(translator())]
    if options.moody:
        interceptors.insert(0, moods)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), interceptors=interceptors)
    bookshop_pb2_grpc.add_BookshopServicer_to_server(service.Bookshop(suppliers(options)), server)
    stockroom_pb2_grpc.add_StockroomServicer_to_server(Stockroom(), server)
    listen(server, options.port)
    server.start()
    server.wait_for_termination()


async def serve_aio(options: argparse.Namespace) -> None:
    interceptors = [] if options.plain else [aio.ServerInterceptor(translator())]
    server = grpc.aio.server(interceptors=interceptors)
    bookshop_pb2_grpc.add_BookshopServicer_to_server(aio_service.Bookshop(suppliers(options)), server)
    listen(server, options.port)
    await server.start()
    await server.wait_for_termination()


def suppliers(options: argparse.Namespace) -> dict[str, str]:
    return {"wholesaler": options.wholesaler, "importer": options.importer}


def listen(server: Any, port: int) -> None:
    print(f"127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}", flush=True)


def end_with_stdin(moods: Moods) -> None:
    moods.obey(sys.stdin)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()

"""A server whose errors leave it whole: python -m examples.quickstart_server [PORT]."""

import logging
import sys
from concurrent import futures

import grpc

from bookshop.v1 import bookshop_faultwire as errors
from bookshop.v1 import bookshop_pb2, bookshop_pb2_grpc
from grpc_faultwire import Translator
from grpc_faultwire.sync import ServerInterceptor

TITLES = {"9780141439518": "Pride and Prejudice"}
PRICES: dict[str, int] = {}


class Bookshop(bookshop_pb2_grpc.BookshopServicer):
    def GetBook(self, request, _context):
        if request.isbn not in TITLES:
            raise errors.BookNotFound(isbn=request.isbn)  # the caller catches a BookNotFound
        price = PRICES[request.isbn]  # a bug: the caller gets an error id, the log has the KeyError under it
        return bookshop_pb2.Book(isbn=request.isbn, title=TITLES[request.isbn], price_cents=price)


def main() -> None:
    logging.basicConfig(level=logging.INFO)
    interceptor = ServerInterceptor(Translator(catalogues=[errors.BOOKSHOP_ERROR]))
    server = grpc.server(futures.ThreadPoolExecutor(), interceptors=[interceptor])
    bookshop_pb2_grpc.add_BookshopServicer_to_server(Bookshop(), server)
    port = server.add_insecure_port(f"127.0.0.1:{sys.argv[1] if len(sys.argv) > 1 else 50051}")
    server.start()
    print(f"serving on 127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()

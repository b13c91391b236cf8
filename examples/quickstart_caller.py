"""A caller that knows what went wrong: python -m examples.quickstart_caller [PORT]."""

import sys

import grpc

from bookshop.v1 import bookshop_faultwire as errors
from bookshop.v1 import bookshop_pb2, bookshop_pb2_grpc
from grpc_faultwire import StatusError
from grpc_faultwire.sync import wrap_channel


def look_up(bookshop: bookshop_pb2_grpc.BookshopStub, isbn: str) -> None:
    try:
        print(bookshop.GetBook(bookshop_pb2.GetBookRequest(isbn=isbn), timeout=5).title)
    except errors.BookNotFound as error:
        print(f"not found: {error.metadata['isbn']}")
    except StatusError as error:
        print(f"{error.category.name}: {error.message} Ask the server's log for {error.error_id}.")


def main() -> None:
    port = sys.argv[1] if len(sys.argv) > 1 else 50051
    with wrap_channel(grpc.insecure_channel(f"127.0.0.1:{port}")) as channel:
        bookshop = bookshop_pb2_grpc.BookshopStub(channel)
        look_up(bookshop, "9780262033848")
        look_up(bookshop, "9780141439518")


if __name__ == "__main__":
    main()

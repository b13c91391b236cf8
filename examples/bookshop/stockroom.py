"""Where new books come in: each item of a batch raises for itself, and the answer says which could not be taken in."""

from __future__ import annotations

import threading
import time

import grpc

from bookshop.v1 import bookshop_pb2, stockroom_pb2_grpc
from bookshop.v1 import stockroom_faultwire as stockroom
from bookshop.v1 import stockroom_pb2 as pb
from examples.bookshop.orders import is_isbn
from grpc_faultwire.batch import ErrorCollector, collects_errors

PACE = 0.04
"""Seconds that a request takes, so that there is something to see."""
BUSY = 97
"""One shelf of so many is busy when its book comes in for the first time."""
UNCLEAR = "Anonymous"
"""An author whose rights nobody knows of."""


class Stockroom(stockroom_pb2_grpc.StockroomServicer):
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._books: set[str] = set()
        self._met: set[str] = set()

    @collects_errors("books")
    def ImportBooks(
        self, request: pb.ImportBooksRequest, _context: grpc.ServicerContext, errors: ErrorCollector
    ) -> pb.ImportBooksResponse:
        time.sleep(PACE)
        for index, book in enumerate(request.books):
            with errors.item(index, key=book.isbn):
                self._take_in(book)
        return pb.ImportBooksResponse()

    def CountBooks(self, _request: pb.CountBooksRequest, _context: grpc.ServicerContext) -> pb.CountBooksResponse:
        return pb.CountBooksResponse(books=len(self._books))

    def _take_in(self, book: bookshop_pb2.Book) -> None:
        if not is_isbn(book.isbn):
            raise stockroom.IsbnInvalid(isbn=book.isbn)
        if not book.price_cents:
            raise stockroom.PriceMissing(isbn=book.isbn)
        if book.author == UNCLEAR:
            raise stockroom.RightsUnclear(author=book.author)
        with self._lock:
            new = book.isbn not in self._met
            self._met.add(book.isbn)
            if new and int(book.isbn) // 10 % BUSY == 0:
                raise stockroom.ShelfBusy
            self._books.add(book.isbn)

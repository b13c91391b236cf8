"""The bookshop in grpc's sync world: handlers raise, and say nothing of status codes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import grpc

from bookshop.v1 import bookshop_pb2 as pb
from bookshop.v1 import bookshop_pb2_grpc
from examples.bookshop import orders
from examples.bookshop.errors import shop
from examples.bookshop.stock import Book, Stock
from grpc_faultwire.sync import wrap_channel

PATIENCE = 5.0
"""Seconds that a supplier gets, if the caller's own deadline does not come first."""


class Bookshop(bookshop_pb2_grpc.BookshopServicer):
    def __init__(self, suppliers: Mapping[str, str]) -> None:
        self._stock = Stock()
        self._quota = orders.Quota()
        self._prices = {
            name: bookshop_pb2_grpc.PricesStub(wrap_channel(grpc.insecure_channel(address)))
            for name, address in suppliers.items()
        }

    def GetBook(self, request: pb.GetBookRequest, _context: grpc.ServicerContext) -> pb.Book:
        book = self._stock.find(request.isbn)
        if book is None:
            raise shop.BookNotFound(isbn=request.isbn)
        return as_message(book)

    def ListBooks(self, request: pb.ListBooksRequest, _context: grpc.ServicerContext) -> Iterator[pb.Book]:
        yield from map(as_message, self._stock.by_author(request.author))

    def PlaceOrder(self, request_iterator: Iterable[pb.OrderLine], _context: grpc.ServicerContext) -> pb.Order:
        return orders.place(list(request_iterator), self._stock, self._quota)

    def QuotePrices(
        self, request_iterator: Iterable[pb.OrderLine], context: grpc.ServicerContext
    ) -> Iterator[pb.Quote]:
        for line in request_iterator:
            book = self._stock.find(line.isbn)
            if book is None:
                raise shop.BookNotFound(isbn=line.isbn)
            self._stock.reserve(book, line.quantity)
            supplier = book.supplier(line.quantity)
            if supplier is None:
                yield pb.Quote(isbn=book.isbn, price_cents=book.price_cents)
            else:
                prices, asked = self._prices[supplier], pb.GetPriceRequest(isbn=book.isbn, quantity=line.quantity)
                yield prices.GetPrice(asked, timeout=patience(context))


def patience(context: Any) -> float:
    remaining = context.time_remaining()
    return PATIENCE if remaining is None else min(PATIENCE, remaining)


def as_message(book: Book) -> pb.Book:
    return pb.Book(isbn=book.isbn, title=book.title, author=book.author, price_cents=book.price_cents)

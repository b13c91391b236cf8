"""The bookshop in grpc.aio: the same servicer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import grpc.aio

from bookshop.v1 import bookshop_pb2 as pb
from bookshop.v1 import bookshop_pb2_grpc
from examples.bookshop import orders
from examples.bookshop.errors import shop
from examples.bookshop.service import as_message, patience
from examples.bookshop.stock import Stock
from grpc_faultwire.aio import wrap_channel


class Bookshop(bookshop_pb2_grpc.BookshopServicer):
    def __init__(self, suppliers: Mapping[str, str]) -> None:
        self._stock = Stock()
        self._quota = orders.Quota()
        self._prices = {
            name: bookshop_pb2_grpc.PricesStub(wrap_channel(grpc.aio.insecure_channel(address)))
            for name, address in suppliers.items()
        }

    async def GetBook(self, request: pb.GetBookRequest, _context: grpc.aio.ServicerContext) -> pb.Book:
        book = self._stock.find(request.isbn)
        if book is None:
            raise shop.BookNotFound(isbn=request.isbn)
        return as_message(book)

    async def ListBooks(
        self, request: pb.ListBooksRequest, _context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.Book]:
        for book in self._stock.by_author(request.author):
            yield as_message(book)

    async def PlaceOrder(
        self, request_iterator: AsyncIterator[pb.OrderLine], _context: grpc.aio.ServicerContext
    ) -> pb.Order:
        return orders.place([line async for line in request_iterator], self._stock, self._quota)

    async def QuotePrices(
        self, request_iterator: AsyncIterator[pb.OrderLine], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.Quote]:
        async for line in request_iterator:
            book = self._stock.find(line.isbn)
            if book is None:
                raise shop.BookNotFound(isbn=line.isbn)
            self._stock.reserve(book, line.quantity)
            supplier = book.supplier(line.quantity)
            if supplier is None:
                yield pb.Quote(isbn=book.isbn, price_cents=book.price_cents)
            else:
                prices, asked = self._prices[supplier], pb.GetPriceRequest(isbn=book.isbn, quantity=line.quantity)
                yield await prices.GetPrice(asked, timeout=patience(context))

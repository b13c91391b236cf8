"""5,000 books that come in, of which 2 % have bad records: always the same ones."""

from __future__ import annotations

from collections.abc import Mapping

from bookshop.v1 import bookshop_pb2 as pb
from bookshop.v1 import stockroom_faultwire as stockroom
from examples.bookshop.stockroom import UNCLEAR
from grpc_faultwire import StatusError

BOOKS = 5000
BAD_EACH = 50
"""One record of so many is bad."""
FAULTS = (*[stockroom.IsbnInvalid] * 6, *[stockroom.PriceMissing] * 3, stockroom.RightsUnclear)
"""What is wrong with the bad ones, in turn."""


def delivery() -> tuple[list[pb.Book], Mapping[int, type[StatusError]]]:
    """Return the books, and what must become of the bad ones, by index."""
    books = [_book(number) for number in range(BOOKS)]
    bad: dict[int, type[StatusError]] = {}
    for turn, index in enumerate(range(BAD_EACH - 1, BOOKS, BAD_EACH)):
        bad[index] = FAULTS[turn % len(FAULTS)]
        _spoil(books[index], bad[index])
    return books, bad


def _book(number: int) -> pb.Book:
    return pb.Book(isbn=_isbn(number), title=f"Volume {number + 1}", author="A. Writer", price_cents=999 + number % 500)


def _isbn(number: int) -> str:
    digits = f"978{number:09d}"
    total = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(digits))
    return f"{digits}{-total % 10}"


def _spoil(book: pb.Book, fault: type[StatusError]) -> None:
    if fault is stockroom.IsbnInvalid:
        book.isbn = f"{book.isbn[:-1]}{(int(book.isbn[-1]) + 1) % 10}"
    elif fault is stockroom.PriceMissing:
        book.price_cents = 0
    else:
        book.author = UNCLEAR

"""The books: what the shop has, what it costs, and what may go wrong. Nothing here knows of gRPC."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable
from dataclasses import dataclass

BOOKS = pathlib.Path(__file__).with_name("books.json")
ARCHIVE = "postgresql://shop:opensesame@archive.internal:5432/books"  # made up, as is its password
WHOLESALE = 100
"""From so many copies on, the wholesaler names the price."""


class OutOfStock(Exception):
    """Fewer copies are left than are wanted. The catalogue maps this class by its name (raised_by)."""

    def __init__(self, isbn: str, left: int) -> None:
        super().__init__(f"{left} copies of {isbn} left")
        self.isbn = isbn
        self.left = left


@dataclass(frozen=True, kw_only=True)
class Book:
    isbn: str
    title: str
    author: str
    year: int
    price_cents: int
    copies: int
    imported: bool = False
    archived: bool = False

    def supplier(self, quantity: int) -> str | None:
        """Return who names the price of so many copies; None: the shop does."""
        if quantity >= WHOLESALE:
            return "wholesaler"
        return "importer" if self.imported else None


class Stock:
    def __init__(self, path: pathlib.Path = BOOKS) -> None:
        books = (Book(**entry) for entry in json.loads(path.read_text(encoding="utf-8")))
        self._books = {book.isbn: book for book in books}

    def find(self, isbn: str) -> Book | None:
        book = self._books.get(isbn)
        return self._from_archive(book) if book is not None and book.archived else book

    def by_author(self, author: str) -> Iterable[Book]:
        return (book for book in self._books.values() if book.author == author)

    def left(self, isbn: str) -> int:
        book = self._books.get(isbn)
        return book.copies if book is not None else 0

    def total(self, wanted: Iterable[tuple[str, int]]) -> int:
        return sum(self._books[isbn].price_cents * quantity for isbn, quantity in wanted)

    def reserve(self, book: Book, quantity: int) -> None:
        if book.supplier(quantity) is None and quantity > book.copies:
            raise OutOfStock(book.isbn, book.copies)

    def _from_archive(self, _book: Book) -> Book:
        # The demo's bug: nobody expected the archive to be away, and the text names its password.
        raise RuntimeError(f"no connection to {ARCHIVE}")

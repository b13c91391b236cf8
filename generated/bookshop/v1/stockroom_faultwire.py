"""The errors that bookshop/v1/stockroom.proto declares.

Made by protoc-gen-faultwire from bookshop/v1/stockroom.proto. Do not edit.
"""

from __future__ import annotations

import typing
from collections import abc

import grpc_faultwire

__all__ = [
    "METHOD_ERRORS",
    "STOCKROOM_ERROR",
    "STOCKROOM_IMPORT_BOOKS_ERRORS",
    "IsbnInvalid",
    "PriceMissing",
    "RightsUnclear",
    "ShelfBusy",
]


class IsbnInvalid(grpc_faultwire.InvalidArgument):
    """The ISBN's check digit is wrong.

    Message: {isbn} is no ISBN-13: its check digit is wrong.
    See https://bookshop.example.com/errors#ISBN_INVALID

    Args:
        message: what is said in place of the declared message.
        isbn: the metadata isbn.
        arguments: what every error takes; see StatusError.
    """

    declaration = grpc_faultwire.Declaration(
        reason="ISBN_INVALID",
        domain="bookshop.example.com",
        code="INVALID_ARGUMENT",
        message="{isbn} is no ISBN-13: its check digit is wrong.",
        metadata=(grpc_faultwire.MetadataKey(key="isbn"),),
        docs_url="https://bookshop.example.com/errors#ISBN_INVALID",
        description="The ISBN's check digit is wrong.",
    )

    def __init__(
        self,
        message: str | None = None,
        *,
        isbn: grpc_faultwire.MetadataValue,
        **arguments: typing.Unpack[grpc_faultwire.ErrorArguments],
    ) -> None:
        super().__init__(message, metadata={"isbn": isbn}, **arguments)


class PriceMissing(grpc_faultwire.InvalidArgument):
    """The record has no price.

    Message: The book {isbn} has no price.
    See https://bookshop.example.com/errors#PRICE_MISSING

    Args:
        message: what is said in place of the declared message.
        isbn: the metadata isbn.
        arguments: what every error takes; see StatusError.
    """

    declaration = grpc_faultwire.Declaration(
        reason="PRICE_MISSING",
        domain="bookshop.example.com",
        code="INVALID_ARGUMENT",
        message="The book {isbn} has no price.",
        metadata=(grpc_faultwire.MetadataKey(key="isbn"),),
        docs_url="https://bookshop.example.com/errors#PRICE_MISSING",
        description="The record has no price.",
    )

    def __init__(
        self,
        message: str | None = None,
        *,
        isbn: grpc_faultwire.MetadataValue,
        **arguments: typing.Unpack[grpc_faultwire.ErrorArguments],
    ) -> None:
        super().__init__(message, metadata={"isbn": isbn}, **arguments)


class RightsUnclear(grpc_faultwire.FailedPrecondition):
    """Nobody knows who has the rights of this author's books.

    Message: The rights of {author} are not cleared.
    See https://bookshop.example.com/errors#RIGHTS_UNCLEAR

    Args:
        message: what is said in place of the declared message.
        author: the metadata author.
        arguments: what every error takes; see StatusError.
    """

    declaration = grpc_faultwire.Declaration(
        reason="RIGHTS_UNCLEAR",
        domain="bookshop.example.com",
        code="FAILED_PRECONDITION",
        message="The rights of {author} are not cleared.",
        metadata=(grpc_faultwire.MetadataKey(key="author"),),
        docs_url="https://bookshop.example.com/errors#RIGHTS_UNCLEAR",
        description="Nobody knows who has the rights of this author's books.",
    )

    def __init__(
        self,
        message: str | None = None,
        *,
        author: grpc_faultwire.MetadataValue,
        **arguments: typing.Unpack[grpc_faultwire.ErrorArguments],
    ) -> None:
        super().__init__(message, metadata={"author": author}, **arguments)


class ShelfBusy(grpc_faultwire.Unavailable):
    """Somebody else is at this shelf.

    Message: Somebody else is at this shelf.
    See https://bookshop.example.com/errors#SHELF_BUSY

    Args:
        message: what is said in place of the declared message.
        arguments: what every error takes; see StatusError.
    """

    declaration = grpc_faultwire.Declaration(
        reason="SHELF_BUSY",
        domain="bookshop.example.com",
        code="UNAVAILABLE",
        retry_scope=grpc_faultwire.RetryScope.REQUEST,
        retry_delay=0.05,
        message="Somebody else is at this shelf.",
        docs_url="https://bookshop.example.com/errors#SHELF_BUSY",
        description="Somebody else is at this shelf.",
    )

    def __init__(
        self,
        message: str | None = None,
        **arguments: typing.Unpack[grpc_faultwire.ErrorArguments],
    ) -> None:
        super().__init__(message, metadata={}, **arguments)


STOCKROOM_ERROR: typing.Final = grpc_faultwire.Catalogue(
    "bookshop.example.com",
    (IsbnInvalid, PriceMissing, RightsUnclear, ShelfBusy),
)
"""The catalogue bookshop.v1.StockroomError."""

STOCKROOM_IMPORT_BOOKS_ERRORS: typing.Final = (
    IsbnInvalid,
    PriceMissing,
    RightsUnclear,
    ShelfBusy,
)
"""What bookshop.v1.Stockroom/ImportBooks declares."""

METHOD_ERRORS: abc.Mapping[str, tuple[type[grpc_faultwire.StatusError], ...]] = {
    "/bookshop.v1.Stockroom/ImportBooks": STOCKROOM_IMPORT_BOOKS_ERRORS,
}
"""What each method declares, by the path that gRPC calls it by."""

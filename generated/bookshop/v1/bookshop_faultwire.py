"""The errors that bookshop/v1/bookshop.proto declares.

Made by protoc-gen-faultwire from bookshop/v1/bookshop.proto. Do not edit.
"""

from __future__ import annotations

import typing
from collections import abc

import grpc_faultwire

__all__ = [
    "BOOKSHOP_ERROR",
    "BOOKSHOP_GET_BOOK_ERRORS",
    "BOOKSHOP_PLACE_ORDER_ERRORS",
    "BOOKSHOP_QUOTE_PRICES_ERRORS",
    "METHOD_ERRORS",
    "BookNotFound",
    "DeliveryAwaited",
    "OrderInvalid",
    "OrderQuotaExceeded",
    "OutOfStock",
    "PricesUnavailable",
]


class BookNotFound(grpc_faultwire.NotFound):
    """No book has the ISBN that was asked for.

    Message: No book has the ISBN {isbn}.
    See https://bookshop.example.com/errors#BOOK_NOT_FOUND

    Args:
        message: what is said in place of the declared message.
        isbn: The ISBN that was asked for.
        arguments: what every error takes; see StatusError.
    """

    declaration = grpc_faultwire.Declaration(
        reason="BOOK_NOT_FOUND",
        domain="bookshop.example.com",
        code="NOT_FOUND",
        message="No book has the ISBN {isbn}.",
        metadata=(
            grpc_faultwire.MetadataKey(
                key="isbn",
                description="The ISBN that was asked for.",
            ),
        ),
        docs_url="https://bookshop.example.com/errors#BOOK_NOT_FOUND",
        description="No book has the ISBN that was asked for.",
    )

    def __init__(
        self,
        message: str | None = None,
        *,
        isbn: grpc_faultwire.MetadataValue,
        **arguments: typing.Unpack[grpc_faultwire.ErrorArguments],
    ) -> None:
        super().__init__(message, metadata={"isbn": isbn}, **arguments)


class OrderInvalid(grpc_faultwire.InvalidArgument):
    """An order has lines that cannot be read; the field violations say which.

    Message: The order has {count} invalid fields.
    See https://bookshop.example.com/errors#ORDER_INVALID

    Args:
        message: what is said in place of the declared message.
        count: the metadata count.
        arguments: what every error takes; see StatusError.
    """

    declaration = grpc_faultwire.Declaration(
        reason="ORDER_INVALID",
        domain="bookshop.example.com",
        code="INVALID_ARGUMENT",
        message="The order has {count} invalid fields.",
        metadata=(grpc_faultwire.MetadataKey(key="count"),),
        docs_url="https://bookshop.example.com/errors#ORDER_INVALID",
        description="An order has lines that cannot be read; the field violations say which.",
    )

    def __init__(
        self,
        message: str | None = None,
        *,
        count: grpc_faultwire.MetadataValue,
        **arguments: typing.Unpack[grpc_faultwire.ErrorArguments],
    ) -> None:
        super().__init__(message, metadata={"count": count}, **arguments)


class OutOfStock(grpc_faultwire.FailedPrecondition):
    """The shelf has fewer copies than were ordered.

    Message: Only {left} copies of {isbn} are left.
    See https://bookshop.example.com/errors#OUT_OF_STOCK

    Args:
        message: what is said in place of the declared message.
        isbn: the metadata isbn.
        left: the metadata left.
        arguments: what every error takes; see StatusError.
    """

    declaration = grpc_faultwire.Declaration(
        reason="OUT_OF_STOCK",
        domain="bookshop.example.com",
        code="FAILED_PRECONDITION",
        message="Only {left} copies of {isbn} are left.",
        metadata=(
            grpc_faultwire.MetadataKey(key="isbn"),
            grpc_faultwire.MetadataKey(key="left"),
        ),
        docs_url="https://bookshop.example.com/errors#OUT_OF_STOCK",
        raised_by=("examples.bookshop.stock.OutOfStock",),
        description="The shelf has fewer copies than were ordered.",
    )

    def __init__(
        self,
        message: str | None = None,
        *,
        isbn: grpc_faultwire.MetadataValue,
        left: grpc_faultwire.MetadataValue,
        **arguments: typing.Unpack[grpc_faultwire.ErrorArguments],
    ) -> None:
        super().__init__(message, metadata={"isbn": isbn, "left": left}, **arguments)


class OrderQuotaExceeded(grpc_faultwire.ResourceExhausted):
    """The customer has used up the orders of this minute.

    Message: A customer may place {limit} orders a minute.
    See https://bookshop.example.com/errors#ORDER_QUOTA_EXCEEDED

    Args:
        message: what is said in place of the declared message.
        limit: the metadata limit.
        customer: the metadata customer. It does not leave the server.
        arguments: what every error takes; see StatusError.
    """

    declaration = grpc_faultwire.Declaration(
        reason="ORDER_QUOTA_EXCEEDED",
        domain="bookshop.example.com",
        code="RESOURCE_EXHAUSTED",
        retry_scope=grpc_faultwire.RetryScope.REQUEST,
        retry_delay=30.0,
        message="A customer may place {limit} orders a minute.",
        metadata=(
            grpc_faultwire.MetadataKey(key="limit"),
            grpc_faultwire.MetadataKey(
                key="customer",
                sensitivity=grpc_faultwire.Sensitivity.PERSONAL,
            ),
        ),
        docs_url="https://bookshop.example.com/errors#ORDER_QUOTA_EXCEEDED",
        description="The customer has used up the orders of this minute.",
    )

    def __init__(
        self,
        message: str | None = None,
        *,
        limit: grpc_faultwire.MetadataValue,
        customer: grpc_faultwire.MetadataValue,
        **arguments: typing.Unpack[grpc_faultwire.ErrorArguments],
    ) -> None:
        super().__init__(
            message,
            metadata={"limit": limit, "customer": customer},
            **arguments,
        )


class PricesUnavailable(grpc_faultwire.Unavailable):
    """The supplier's price service does not answer.

    Message: Prices cannot be read just now.
    See https://bookshop.example.com/errors#PRICES_UNAVAILABLE

    Args:
        message: what is said in place of the declared message.
        arguments: what every error takes; see StatusError.
    """

    declaration = grpc_faultwire.Declaration(
        reason="PRICES_UNAVAILABLE",
        domain="bookshop.example.com",
        code="UNAVAILABLE",
        category=grpc_faultwire.Category.DEPENDENCY,
        retry_scope=grpc_faultwire.RetryScope.REQUEST,
        retry_delay=0.5,
        message="Prices cannot be read just now.",
        docs_url="https://bookshop.example.com/errors#PRICES_UNAVAILABLE",
        description="The supplier's price service does not answer.",
    )

    def __init__(
        self,
        message: str | None = None,
        **arguments: typing.Unpack[grpc_faultwire.ErrorArguments],
    ) -> None:
        super().__init__(message, metadata={}, **arguments)


class DeliveryAwaited(grpc_faultwire.FailedPrecondition):
    """Some lines of an order are short; the precondition's violations say which. All of it can be had after a delivery.

    Message: {count} lines of the order wait for the next delivery.
    See https://bookshop.example.com/errors#DELIVERY_AWAITED

    Args:
        message: what is said in place of the declared message.
        count: the metadata count.
        arguments: what every error takes; see StatusError.
    """

    declaration = grpc_faultwire.Declaration(
        reason="DELIVERY_AWAITED",
        domain="bookshop.example.com",
        code="FAILED_PRECONDITION",
        retry_scope=grpc_faultwire.RetryScope.REQUEST,
        retry_delay=20.0,
        message="{count} lines of the order wait for the next delivery.",
        metadata=(grpc_faultwire.MetadataKey(key="count"),),
        docs_url="https://bookshop.example.com/errors#DELIVERY_AWAITED",
        description="Some lines of an order are short; the precondition's violations say which. All of it can be had after a delivery.",
    )

    def __init__(
        self,
        message: str | None = None,
        *,
        count: grpc_faultwire.MetadataValue,
        **arguments: typing.Unpack[grpc_faultwire.ErrorArguments],
    ) -> None:
        super().__init__(message, metadata={"count": count}, **arguments)


BOOKSHOP_ERROR: typing.Final = grpc_faultwire.Catalogue(
    "bookshop.example.com",
    (
        BookNotFound,
        OrderInvalid,
        OutOfStock,
        OrderQuotaExceeded,
        PricesUnavailable,
        DeliveryAwaited,
    ),
)
"""The catalogue bookshop.v1.BookshopError."""

BOOKSHOP_GET_BOOK_ERRORS: typing.Final = (BookNotFound,)
"""What bookshop.v1.Bookshop/GetBook declares."""

BOOKSHOP_PLACE_ORDER_ERRORS: typing.Final = (
    OrderInvalid,
    OrderQuotaExceeded,
    DeliveryAwaited,
)
"""What bookshop.v1.Bookshop/PlaceOrder declares."""

BOOKSHOP_QUOTE_PRICES_ERRORS: typing.Final = (OutOfStock, PricesUnavailable)
"""What bookshop.v1.Bookshop/QuotePrices declares."""

METHOD_ERRORS: abc.Mapping[str, tuple[type[grpc_faultwire.StatusError], ...]] = {
    "/bookshop.v1.Bookshop/GetBook": BOOKSHOP_GET_BOOK_ERRORS,
    "/bookshop.v1.Bookshop/PlaceOrder": BOOKSHOP_PLACE_ORDER_ERRORS,
    "/bookshop.v1.Bookshop/QuotePrices": BOOKSHOP_QUOTE_PRICES_ERRORS,
}
"""What each method declares, by the path that gRPC calls it by."""

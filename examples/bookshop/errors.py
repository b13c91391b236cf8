"""The shop's errors: its catalogue, declared on an enum of bookshop.proto, and what becomes of other exceptions."""

from __future__ import annotations

from bookshop.v1 import bookshop_pb2
from grpc_faultwire import Catalogue, Category, StatusError, Translator, Unavailable

shop = Catalogue.of(bookshop_pb2.BookshopError)


def translator() -> Translator:
    """Exceptions that the catalogue names (OutOfStock) are mapped; all others are masked."""
    translator = Translator(shop.domain, catalogues=[shop])

    @translator.category_handler(Category.DEPENDENCY)
    def price_service_away(error: StatusError, _call: object) -> StatusError | None:
        return shop.PricesUnavailable() if isinstance(error, Unavailable) else None

    return translator

"""The shop's errors: its catalogue, declared on an enum of bookshop.proto, and what becomes of other exceptions."""

from __future__ import annotations

from bookshop.v1 import bookshop_faultwire as shop
from grpc_faultwire import Category, StatusError, Translator, Unavailable


def translator() -> Translator:
    """Exceptions that the catalogue names (OutOfStock) are mapped; all others are masked."""
    translator = Translator(shop.BOOKSHOP_ERROR.domain, catalogues=[shop.BOOKSHOP_ERROR])

    @translator.category_handler(Category.DEPENDENCY)
    def price_service_away(error: StatusError, _call: object) -> StatusError | None:
        return shop.PricesUnavailable() if isinstance(error, Unavailable) else None

    return translator

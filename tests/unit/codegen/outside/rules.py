"""What the service decides, and what a caller makes of it: typed, without gRPC."""

from __future__ import annotations

from collections.abc import Callable

from ledger.v1 import ledger_faultwire as errors

from grpc_faultwire import StatusError


def book(account: str, cents: int) -> int:
    """Book, or say why not."""
    if account == "closed":
        raise errors.AccountClosed(account=account)
    if cents < -100:
        raise errors.Overdrawn(account=account, cents=-cents - 100, retry_delay=None)
    if account == "odd":
        raise errors.AccountClosed("Said differently.", account=account).replace(reason="NOT_IN_ANY_CATALOGUE")
    return cents


def tell(call: Callable[[], object]) -> str:
    """Call, and say what was caught."""
    try:
        call()
    except errors.Overdrawn as error:
        return f"overdrawn by {error.metadata['cents']}"
    except errors.LEDGER_BOOK_ERRORS as error:
        return f"{type(error).__name__} {error.metadata['account']}"
    except StatusError as error:
        return f"{type(error).__name__} {error.reason}"
    return "booked"

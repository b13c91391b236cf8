"""Trailers beside the details: which ones can travel, and the one that steers the retries of native clients."""

from __future__ import annotations

import re

from grpc_faultwire.category import RetryScope
from grpc_faultwire.errors import StatusError
from grpc_faultwire.truncation import Trailer

PUSHBACK_KEY = "grpc-retry-pushback-ms"
"""The trailer by which a server steers the retries of native clients (gRFC A6)."""
PUSHBACK_JITTER = 0.2
"""A pushback is up to so much longer than the retry delay, or all who were refused together return together."""

_TRAILER_KEY = re.compile(
    r"(?!grpc-timeout$)[0-9a-z_.-]+"
)  # as a trailer, grpc-timeout ends the process in gRPC's core
_TRAILER_TEXT = re.compile(r"[\x20-\x7e]*")
_MAX_PUSHBACK = 2**31 - 1


def valid_trailer(key: str, value: str | bytes) -> bool:
    """Tell whether a trailer can travel. One that cannot makes gRPC's core replace the whole status."""
    if not isinstance(key, str) or not _TRAILER_KEY.fullmatch(key):
        return False
    if key.endswith("-bin"):
        return isinstance(value, bytes)
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    return isinstance(text, str) and _TRAILER_TEXT.fullmatch(text) is not None


def safe_pushback(value: str | bytes) -> str:
    """Return the user's own pushback as one that callers survive: some wait for ever at 0, or end with INTERNAL."""
    try:
        milliseconds = int(value)
    except ValueError:
        return "-1"
    return str(min(max(1, milliseconds), _MAX_PUSHBACK)) if milliseconds >= 0 else "-1"


def pushback(error: StatusError, remaining: float | None, jitter: float) -> tuple[Trailer, ...]:
    """Return the trailer that steers native clients' retries, or none where the error says nothing of them.

    Args:
        error: what is sent.
        remaining: seconds until the caller's deadline; None: no deadline.
        jitter: a random number from 0 up to 1.
    """
    scope, delay = error.declared_retry_scope, error.retry_delay
    if error.already_retried or (scope is not None and scope is not RetryScope.REQUEST):
        return ((PUSHBACK_KEY, "-1"),)
    if delay is None:
        return ()
    if remaining is not None and delay > remaining:
        return ((PUSHBACK_KEY, "-1"),)
    milliseconds = round(delay * 1000 * (1 + PUSHBACK_JITTER * jitter))
    # A 0 makes some releases of gRPC's core wait for ever.
    return ((PUSHBACK_KEY, str(min(max(1, milliseconds), _MAX_PUSHBACK))),)

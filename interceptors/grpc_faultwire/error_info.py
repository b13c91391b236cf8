"""What google.rpc.ErrorInfo and RetryInfo allow: the rules of what an error says, declared or not."""

from __future__ import annotations

import re
from collections.abc import Mapping

from grpc_faultwire.details import MAX_DURATION
from grpc_faultwire.redaction import encodable

REASON = re.compile(r"[A-Z][A-Z0-9_]{1,61}[A-Z0-9]")
"""google.rpc.ErrorInfo's rule for a reason."""
METADATA_KEY = re.compile(r"[a-z][a-zA-Z0-9_-]{0,63}")
"""google.rpc.ErrorInfo's rule for a key of its metadata."""
MAX_DOMAIN = 253
"""The longest DNS name: a domain is one, or a service's full name."""
MAX_RETRY_DELAY = MAX_DURATION
"""The longest time that a RetryInfo can carry, in seconds."""


def check_reason(reason: str) -> None:
    """Raise ValueError if this is no reason that google.rpc.ErrorInfo allows."""
    if not isinstance(reason, str) or not REASON.fullmatch(reason):
        raise ValueError(f"reason {reason!r} does not match {REASON.pattern} (google.rpc.ErrorInfo)")


def check_metadata_key(key: str) -> None:
    """Raise ValueError if this is no key of metadata that google.rpc.ErrorInfo allows."""
    if not isinstance(key, str) or not METADATA_KEY.fullmatch(key):
        raise ValueError(f"metadata key {key!r} does not match {METADATA_KEY.pattern} (google.rpc.ErrorInfo)")


def metadata_texts(metadata: Mapping[str, object]) -> dict[str, str]:
    """Return metadata as texts that UTF-8 can carry; raise ValueError for a key that ErrorInfo does not allow."""
    texts: dict[str, str] = {}
    for key, value in metadata.items():
        check_metadata_key(key)
        texts[key] = encodable(str(value))
    return texts


def check_domain(domain: str) -> None:
    """Raise ValueError if this cannot be a domain."""
    if not isinstance(domain, str) or not domain or len(domain) > MAX_DOMAIN or not domain.isprintable():
        raise ValueError(f"domain {domain!r} is not a printable name of 1 to {MAX_DOMAIN} characters")


def check_retry_delay(seconds: float | None) -> None:
    """Raise ValueError if this is no time to wait."""
    if seconds is not None and not (isinstance(seconds, int | float) and 0 <= seconds <= MAX_RETRY_DELAY):
        raise ValueError(f"retry_delay {seconds!r} is not between 0 and {MAX_RETRY_DELAY:.0f} seconds")

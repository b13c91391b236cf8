"""What a service says of one of its errors before it ever happens: the entry of a catalogue."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from grpc_faultwire.category import Category, RetryScope, Sensitivity, Severity
from grpc_faultwire.redaction import REDACTED

REASON = re.compile(r"[A-Z][A-Z0-9_]{0,61}[A-Z0-9]")
"""google.rpc.ErrorInfo's rule for a reason."""
METADATA_KEY = re.compile(r"[a-z][a-zA-Z0-9_-]{0,63}")
"""google.rpc.ErrorInfo's rule for a key of its metadata."""
MAX_DOMAIN = 253
"""The longest DNS name: a domain is one, or a service's full name."""

_PLACEHOLDER = re.compile(r"\{([a-z][a-zA-Z0-9_-]*+)\}")


@dataclass(frozen=True, kw_only=True, slots=True)
class MetadataKey:
    """A key of ErrorInfo's metadata that an error declares.

    Attributes:
        key: the key.
        sensitivity: who may see its value. None (the default) is public, unless the key's own name speaks of a secret.
        description: for people.
    """

    key: str
    sensitivity: Sensitivity | None = None
    description: str = ""

    def __post_init__(self) -> None:
        if not METADATA_KEY.fullmatch(self.key):
            raise ValueError(f"metadata key {self.key!r} does not match {METADATA_KEY.pattern} (google.rpc.ErrorInfo)")

    @property
    def public(self) -> bool:
        """Whether a value of this key may leave the server."""
        return self.sensitivity in (None, Sensitivity.PUBLIC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Declaration:
    """One error as its service declares it.

    Attributes:
        reason: UPPER_SNAKE_CASE, unique in its domain (google.rpc.ErrorInfo).
        domain: a DNS name or a service's full name.
        code: the status code by name, "NOT_FOUND".
        category: None: what the code means.
        severity: None: what the category means.
        retry_scope: None: what the code means.
        retry_delay: seconds a caller should wait at least before it tries again; None: not said.
        message: "{key}" is replaced by the metadata of that key.
        metadata: the keys that it carries. No other key leaves a server.
        docs_url: a page about it.
        raised_by: dotted names of Python exceptions that become it on a server.
        description: for people.

    Raises:
        ValueError: a reason, domain, delay or message that breaks its rule.
    """

    reason: str
    domain: str
    code: str
    category: Category | None = None
    severity: Severity | None = None
    retry_scope: RetryScope | None = None
    retry_delay: float | None = None
    message: str = ""
    metadata: tuple[MetadataKey, ...] = ()
    docs_url: str = ""
    raised_by: tuple[str, ...] = ()
    description: str = ""

    def __post_init__(self) -> None:
        check_reason(self.reason)
        check_domain(self.domain)
        check_retry_delay(self.retry_delay)
        keys = [key.key for key in self.metadata]
        if len(set(keys)) < len(keys):
            raise ValueError(f"{self.reason} declares a metadata key twice: {', '.join(keys)}")
        unknown = set(_PLACEHOLDER.findall(self.message)) - set(keys)
        if unknown:
            raise ValueError(f"the message of {self.reason} uses metadata it does not declare: {sorted(unknown)}")

    def render(self, metadata: Mapping[str, str]) -> str:
        """Return the message with its placeholders filled; values that may not leave are redacted."""
        public = {key.key for key in self.metadata if key.public}
        return _PLACEHOLDER.sub(lambda found: _value(found[1], metadata, public), self.message)


def _value(key: str, metadata: Mapping[str, str], public: set[str]) -> str:
    return metadata.get(key, "") if key in public else REDACTED


def check_reason(reason: str) -> None:
    """Raise ValueError if this is no reason that google.rpc.ErrorInfo allows."""
    if not isinstance(reason, str) or not REASON.fullmatch(reason):
        raise ValueError(f"reason {reason!r} does not match {REASON.pattern} (google.rpc.ErrorInfo)")


def check_domain(domain: str) -> None:
    """Raise ValueError if this cannot be a domain."""
    if not isinstance(domain, str) or not domain or len(domain) > MAX_DOMAIN or not domain.isprintable():
        raise ValueError(f"domain {domain!r} is not a printable name of 1 to {MAX_DOMAIN} characters")


def check_retry_delay(seconds: float | None) -> None:
    """Raise ValueError if this is no time to wait."""
    if seconds is not None and not 0 <= seconds <= MAX_RETRY_DELAY:
        raise ValueError(f"retry_delay {seconds!r} is not between 0 and {MAX_RETRY_DELAY:.0f} seconds")


MAX_RETRY_DELAY = 315_576_000_000.0
"""The longest google.protobuf.Duration, in seconds."""

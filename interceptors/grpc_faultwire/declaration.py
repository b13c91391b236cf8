"""What a service says of one of its errors before it ever happens: the entry of a catalogue."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from grpc_faultwire.category import REDACTED, Category, RetryScope, Sensitivity, Severity
from grpc_faultwire.error_info import check_domain, check_metadata_key, check_reason, check_retry_delay
from grpc_faultwire.redaction import speaks_of_secret

RESERVED_ARGUMENTS = frozenset(
    {
        "self",
        "message",
        "reason",
        "domain",
        "metadata",
        "error_details",
        "retry_delay",
        "retry_scope",
        "category",
        "severity",
        "causes",
        "arguments",
        "super",
    }
)
"""What an error's constructor takes or uses itself: a metadata key of such a name gets an underscore behind it."""

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
        check_metadata_key(self.key)

    @property
    def public(self) -> bool:
        """Whether a value of this key may leave the server."""
        if self.sensitivity is None:
            return not speaks_of_secret(self.key)
        return self.sensitivity is Sensitivity.PUBLIC

    @property
    def argument(self) -> str:
        """The argument of the error's class that gives its value: "book-id" is ``book_id``, "class" is ``class_``."""
        name = self.key.replace("-", "_")
        return f"{name}_" if name in RESERVED_ARGUMENTS or keyword.iskeyword(name) else name


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
        description: for people. Declarations that differ in nothing else are the same.

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
    # Comments are known where a module is generated, and not at run time.
    description: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        check_reason(self.reason)
        check_domain(self.domain)
        check_retry_delay(self.retry_delay)
        keys = [key.key for key in self.metadata]
        if len({key.argument for key in self.metadata}) < len(keys):
            raise ValueError(f"{self.reason} declares a metadata key twice: {', '.join(keys)}")
        unknown = placeholders(self.message) - set(keys)
        if unknown:
            raise ValueError(f"the message of {self.reason} uses metadata it does not declare: {sorted(unknown)}")

    def render(self, metadata: Mapping[str, str]) -> str:
        """Return the message with its placeholders filled; values that may not leave are redacted."""
        public = {key.key for key in self.metadata if key.public}
        return _PLACEHOLDER.sub(lambda found: _value(found[1], metadata, public), self.message)


def class_name(reason: str) -> str:
    """Return the name of the class for a reason: "BOOK_NOT_FOUND" gives "BookNotFound"."""
    name = "".join(word.capitalize() for word in reason.split("_"))
    return f"{name}_" if keyword.iskeyword(name) else name


def placeholders(message: str) -> set[str]:
    """Return the metadata keys that a message uses."""
    return set(_PLACEHOLDER.findall(message))


def _value(key: str, metadata: Mapping[str, str], public: set[str]) -> str:
    return metadata.get(key, "") if key in public else REDACTED

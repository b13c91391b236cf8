"""What a status code means: category, fault, severity, and the retry scope that follows.

The tables are keyed by the number of the gRPC status code, so that policies can use them without grpc.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class Category(enum.Enum):
    """What kind of failure it was; finer than a code where codes are ambiguous. The value is the proto number."""

    VALIDATION = 1
    AUTHENTICATION = 2
    AUTHORIZATION = 3
    NOT_FOUND = 4
    CONFLICT = 5
    PRECONDITION = 6
    QUOTA = 7
    OVERLOAD = 8
    DEPENDENCY = 9
    TIMEOUT = 10
    CANCELLED = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    DATA_LOSS = 14
    TRANSPORT = 15

    fault: Fault
    """Who has to act for this not to happen again."""
    severity: Severity
    """How loudly a server reports it, unless the error says otherwise."""
    word: str
    """Its name as metrics, spans and events spell it: "not_found"."""


class Fault(enum.Enum):
    """Whose fault a failure was."""

    CLIENT = 1
    SERVER = 2
    DEPENDENCY = 3
    NONE = 4


class Severity(enum.IntEnum):
    """How bad it is; ordered, so that ``max()`` finds the worst. The value is the proto number."""

    DEBUG = 1
    INFO = 2
    WARNING = 3
    ERROR = 4
    CRITICAL = 5


class Origin(enum.Enum):
    """Where an error came from."""

    RAISED = "raised"
    """Raised by code in this process."""
    REMOTE = "remote"
    """Received, and it bears error details: its server said it."""
    LOCAL = "local"
    """Made here by a policy of a wrapped channel: an open circuit, an exhausted deadline."""
    UNKNOWN = "unknown"
    """Received without details: gRPC's core, a proxy or a plain server. These cannot be told apart."""


class RetryScope(enum.Enum):
    """What may be tried again. The value is the proto number."""

    NEVER = 1
    """Nothing: the same request will fail the same way."""
    REQUEST = 2
    """This call."""
    OPERATION = 3
    """The whole operation (a transaction) that this call is part of: AIP-194 on ABORTED."""
    AFTER_REFRESH = 4
    """This call, once the caller has fresh credentials."""


class Sensitivity(enum.Enum):
    """Who may see a value. The value is the proto number."""

    PUBLIC = 1
    """Anyone who may call the method."""
    PERSONAL = 2
    """Data about a person: it never leaves the server, nor does it reach logs and spans."""
    SECRET = 3
    """Keys, passwords, tokens: as PERSONAL."""


REDACTED = "[redacted]"
"""What stands where a value was that may not leave."""


class Meaning(NamedTuple):
    """What a status code means where nothing better is known."""

    category: Category
    retry_scope: RetryScope


_FAULT = {
    Category.VALIDATION: Fault.CLIENT,
    Category.AUTHENTICATION: Fault.CLIENT,
    Category.AUTHORIZATION: Fault.CLIENT,
    Category.NOT_FOUND: Fault.CLIENT,
    Category.CONFLICT: Fault.CLIENT,
    Category.PRECONDITION: Fault.CLIENT,
    Category.QUOTA: Fault.CLIENT,
    Category.OVERLOAD: Fault.SERVER,
    Category.DEPENDENCY: Fault.DEPENDENCY,
    Category.TIMEOUT: Fault.SERVER,
    Category.CANCELLED: Fault.NONE,
    Category.UNIMPLEMENTED: Fault.CLIENT,
    Category.INTERNAL: Fault.SERVER,
    Category.DATA_LOSS: Fault.SERVER,
    Category.TRANSPORT: Fault.DEPENDENCY,
}

_SEVERITY = {
    Category.VALIDATION: Severity.INFO,
    Category.AUTHENTICATION: Severity.INFO,
    Category.AUTHORIZATION: Severity.WARNING,
    Category.NOT_FOUND: Severity.INFO,
    Category.CONFLICT: Severity.INFO,
    Category.PRECONDITION: Severity.INFO,
    Category.QUOTA: Severity.WARNING,
    Category.OVERLOAD: Severity.WARNING,
    Category.DEPENDENCY: Severity.ERROR,
    Category.TIMEOUT: Severity.WARNING,
    Category.CANCELLED: Severity.DEBUG,
    Category.UNIMPLEMENTED: Severity.WARNING,
    Category.INTERNAL: Severity.ERROR,
    Category.DATA_LOSS: Severity.CRITICAL,
    Category.TRANSPORT: Severity.WARNING,
}

# Attributes and no properties: each error is asked for them more than once.
for _category in Category:
    _category.fault = _FAULT[_category]
    _category.severity = _SEVERITY[_category]
    _category.word = _category.name.lower()

_MEANING = {
    1: Meaning(Category.CANCELLED, RetryScope.NEVER),
    2: Meaning(Category.INTERNAL, RetryScope.NEVER),
    3: Meaning(Category.VALIDATION, RetryScope.NEVER),
    4: Meaning(Category.TIMEOUT, RetryScope.REQUEST),
    5: Meaning(Category.NOT_FOUND, RetryScope.NEVER),
    6: Meaning(Category.CONFLICT, RetryScope.NEVER),
    7: Meaning(Category.AUTHORIZATION, RetryScope.NEVER),
    8: Meaning(Category.QUOTA, RetryScope.REQUEST),
    9: Meaning(Category.PRECONDITION, RetryScope.NEVER),
    10: Meaning(Category.CONFLICT, RetryScope.OPERATION),
    11: Meaning(Category.VALIDATION, RetryScope.NEVER),
    12: Meaning(Category.UNIMPLEMENTED, RetryScope.NEVER),
    13: Meaning(Category.INTERNAL, RetryScope.NEVER),
    14: Meaning(Category.OVERLOAD, RetryScope.REQUEST),
    15: Meaning(Category.DATA_LOSS, RetryScope.NEVER),
    16: Meaning(Category.AUTHENTICATION, RetryScope.AFTER_REFRESH),
}


def meaning(code_number: int) -> Meaning:
    """Return what the status code of this number (1 to 16) means; any other number means UNKNOWN's."""
    return _MEANING.get(code_number, _MEANING[2])

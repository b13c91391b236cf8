"""Ready-made maps from the exceptions of well-known libraries, by name; nothing is imported for them.

None is on by default: they can turn a server's bug into a caller's fault (a KeyError is rarely a missing book). All
messages are constants, except pydantic's own, which describe the rule that a field broke; what a validator of one's own
raised is as any exception's text.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

from google.rpc import error_details_pb2

from grpc_faultwire.category import Category
from grpc_faultwire.error_info import REASON
from grpc_faultwire.errors import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    StatusError,
    Unavailable,
    Unimplemented,
)
from grpc_faultwire.redaction import encodable

Make = Callable[[Any], StatusError]

MAX_VIOLATIONS = 100
"""How many field violations an error names at the most."""
MAX_RETRY_AFTER = 3600.0
"""A Retry-After longer than this many seconds is not passed on."""


def _constant(error: type[StatusError], message: str, category: Category | None = None) -> Make:
    return lambda _raised: error(message, category=category)


def _unavailable(_raised: Any) -> StatusError:
    return Unavailable("A dependency is unavailable.", reason="DEPENDENCY_UNAVAILABLE", category=Category.DEPENDENCY)


def _dependency(_raised: Any) -> StatusError:
    return Internal("A dependency failed.", reason="DEPENDENCY_FAILED", category=Category.DEPENDENCY)


def _pydantic(raised: Any) -> StatusError:
    violations = list(_violations(raised))
    return InvalidArgument(
        "The request has invalid fields.",
        reason="INVALID_FIELDS",
        error_details=[error_details_pb2.BadRequest(field_violations=violations)],
    )


def _violations(raised: Any) -> Iterator[error_details_pb2.BadRequest.FieldViolation]:
    for problem in raised.errors(include_url=False, include_context=False, include_input=False)[:MAX_VIOLATIONS]:
        rule = problem["msg"] if problem["type"] in _pydantic_rules() else "The value is not accepted."
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=encodable(".".join(map(str, problem["loc"]))), description=encodable(rule)
        )
        reason = problem["type"].upper()
        if REASON.fullmatch(reason):
            violation.reason = reason
        yield violation


@functools.cache
def _pydantic_rules() -> frozenset[str]:
    """Return the types of pydantic's own problems whose messages hold neither an exception's text nor the input."""
    core: Any = sys.modules["pydantic_core._pydantic_core"]
    return frozenset(rule["type"] for rule in core.list_all_errors()) - _TELLING


_TELLING = {
    "assertion_error",
    "bytes_invalid_encoding",
    "datetime_object_invalid",
    "get_attribute_error",
    "iteration_error",
    "mapping_type",
    "union_tag_invalid",
    "value_error",
}


def _integrity(raised: Any) -> StatusError:
    if _is_duplicate(getattr(raised, "orig", None), _sqlstate(raised)):
        return AlreadyExists("It exists already.", reason="ALREADY_EXISTS")
    return FailedPrecondition("It conflicts with other data.", reason="INTEGRITY", category=Category.CONFLICT)


def _is_duplicate(original: Any, state: str) -> bool:
    # Drivers tell it by SQLSTATE, by the exception's type, by SQLite's name or by MySQL's number.
    name = f"{type(original).__name__} {getattr(original, 'sqlite_errorname', '')}".lower()
    return state == "23505" or "unique" in name or "primarykey" in name or _number(original) == 1062


def _number(original: Any) -> Any:
    arguments = getattr(original, "args", ())
    return arguments[0] if arguments else None


def _conflict(raised: Any, otherwise: Make) -> StatusError:
    # Serialization failures and deadlocks, in PostgreSQL and MySQL: the whole transaction may be tried again.
    if _sqlstate(raised) in ("40001", "40P01") or _number(getattr(raised, "orig", None)) == 1213:
        return Aborted("The transaction conflicted with another.", reason="TRANSACTION_CONFLICT")
    return otherwise(raised)


def _operational(raised: Any) -> StatusError:
    return _conflict(raised, _unavailable)


def _database(raised: Any) -> StatusError:
    return _conflict(raised, _dependency)


def _sqlstate(raised: Any) -> str:
    original = getattr(raised, "orig", None)
    return str(getattr(original, "sqlstate", None) or getattr(original, "pgcode", None) or "")


def _http_status(raised: Any) -> StatusError:
    response = getattr(raised, "response", None)
    if getattr(response, "status_code", None) not in (429, 503):
        return _dependency(raised)
    return _unavailable(raised).replace(retry_delay=_retry_after(response))


def _retry_after(response: Any) -> float | None:
    try:
        delay = float(response.headers["retry-after"])
    except (KeyError, ValueError, TypeError, AttributeError):
        return None
    return delay if math.isfinite(delay) and 0 <= delay <= MAX_RETRY_AFTER else None


def _google(raised: Any) -> StatusError:
    code = getattr(getattr(raised, "grpc_status_code", None), "name", "")
    return _unavailable(raised) if code == "UNAVAILABLE" else _dependency(raised)


_STDLIB: dict[str, Make] = {
    "builtins.ValueError": _constant(InvalidArgument, "A value is invalid."),
    "builtins.LookupError": _constant(NotFound, "It does not exist."),
    "builtins.IndexError": _constant(OutOfRange, "An index is out of range."),
    "builtins.FileNotFoundError": _constant(NotFound, "It does not exist."),
    "builtins.FileExistsError": _constant(AlreadyExists, "It exists already."),
    "builtins.PermissionError": _constant(PermissionDenied, "It is not permitted."),
    "builtins.NotImplementedError": _constant(Unimplemented, "It is not implemented."),
    "builtins.TimeoutError": _constant(DeadlineExceeded, "It took too long."),
    "builtins.ConnectionError": _unavailable,
    "builtins.MemoryError": _constant(ResourceExhausted, "The server is out of memory.", Category.OVERLOAD),
}

_SQLALCHEMY: dict[str, Make] = {
    "sqlalchemy.exc.NoResultFound": _constant(NotFound, "It does not exist."),
    "sqlalchemy.exc.IntegrityError": _integrity,
    "sqlalchemy.exc.DataError": _constant(InvalidArgument, "A value is invalid."),
    "sqlalchemy.exc.OperationalError": _operational,
    "sqlalchemy.exc.InterfaceError": _unavailable,
    "sqlalchemy.exc.TimeoutError": _constant(Unavailable, "The server is busy.", Category.OVERLOAD),
    "sqlalchemy.exc.DBAPIError": _database,
    "sqlalchemy.orm.exc.StaleDataError": _constant(Aborted, "It was changed by another."),
}

_REDIS_NAMES: dict[str, Make] = {
    "ConnectionError": _unavailable,
    # Both are ConnectionErrors there; but a wrong password is as wrong the next time.
    "AuthenticationError": _dependency,
    "AuthorizationError": _dependency,
    "TimeoutError": _unavailable,
    "BusyLoadingError": _unavailable,
    "ReadOnlyError": _unavailable,
    "ClusterDownError": _unavailable,
    "WatchError": _constant(Aborted, "It was changed by another."),
    "LockError": _constant(Aborted, "It is locked by another."),
    "RedisError": _dependency,
    "ValkeyError": _dependency,
}
_REDIS = {
    f"{library}.exceptions.{name}": make for library in ("redis", "valkey") for name, make in _REDIS_NAMES.items()
}

_HTTP: dict[str, Make] = {
    "httpx.HTTPStatusError": _http_status,
    "httpx.TransportError": _unavailable,
    "httpx.HTTPError": _dependency,
    "requests.exceptions.HTTPError": _http_status,
    "requests.exceptions.ConnectionError": _unavailable,
    "requests.exceptions.Timeout": _unavailable,
    "requests.exceptions.RequestException": _dependency,
}

MAPS: dict[str, dict[str, Make]] = {
    "stdlib": _STDLIB,
    "pydantic": {"pydantic_core._pydantic_core.ValidationError": _pydantic},
    "sqlalchemy": _SQLALCHEMY,
    "redis": _REDIS,
    "http": _HTTP,
    "google": {
        "google.api_core.exceptions.GoogleAPICallError": _google,
        "google.api_core.exceptions.RetryError": _unavailable,
    },
}
"""By name: what each exception, by its dotted name, becomes."""

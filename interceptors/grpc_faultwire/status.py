"""The wire: StatusError <-> google.rpc.Status <-> trailers.

Decoding never raises, and never masks the RPC's own error: ``grpc-status`` and ``grpc-message`` win over a details
trailer that contradicts them, and the contradiction is kept in the error's `anomalies`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from faultwire.v1 import errors_pb2
from grpc_faultwire.category import Category, RetryScope, Severity
from grpc_faultwire.details import Details, seconds
from grpc_faultwire.errors import Origin, StatusError, error_class

DETAILS_KEY = "grpc-status-details-bin"
"""The trailer that carries a google.rpc.Status."""
PUSHBACK_KEY = "grpc-retry-pushback-ms"
"""The trailer by which a server steers the retries of native clients (gRFC A6)."""

MAX_STATUS_BYTES = 1 << 20
"""A details trailer larger than this is not read; the default transport allows 16 KiB."""

_OVERSIZE = "received metadata size exceeds"
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def decode(
    code: grpc.StatusCode | None,
    message: str | None,
    *,
    initial_metadata: Any = None,
    trailing_metadata: Any = None,
    debug_error_string: str | None = "",
) -> StatusError:
    """Make the typed error of an RPC that ended with this status. Never raises over what a peer sent.

    Args:
        code: the RPC's own code. None or OK gives UNKNOWN: an error was asked for.
        message: the RPC's own message.
        initial_metadata: kept as it is.
        trailing_metadata: kept as it is; any iterable of pairs, or None.
        debug_error_string: kept as it is.
    """
    anomalies: list[str] = []
    code = code if isinstance(code, grpc.StatusCode) and code is not grpc.StatusCode.OK else grpc.StatusCode.UNKNOWN
    message = message or ""
    status = _read_status(_pairs(trailing_metadata), anomalies)
    recovered = status is not None and _was_oversize(code, message, status)
    if status is not None:
        if recovered:
            code, message = _CODES[status.code], status.message
        else:
            _compare(code, message, status, anomalies)
    details = Details(status.details if status is not None else ())
    error = _typed(code, message, details)
    error.anomalies = (*anomalies, *details.anomalies)
    error.recovered = recovered
    error._initial_metadata = initial_metadata
    error._trailing_metadata = trailing_metadata
    error._debug_error_string = debug_error_string
    return error


def from_rpc_error(error: grpc.RpcError | Any) -> StatusError:
    """Decode any error or finished call from a channel that nobody wrapped; a StatusError is returned as it is.

    Args:
        error: a grpc.RpcError, a grpc.aio.AioRpcError or a finished sync call that failed.

    Returns:
        The typed error; its ``__cause__`` is the original. Something without a status gives `Unknown`.
    """
    if isinstance(error, StatusError):
        return error
    decoded = decode(
        _ask(error, "code"),
        _ask(error, "details"),
        initial_metadata=_ask(error, "initial_metadata"),
        trailing_metadata=_ask(error, "trailing_metadata"),
        debug_error_string=_debug(error),
    )
    if isinstance(error, BaseException):
        decoded.__cause__ = error
    return decoded


def _ask(error: Any, name: str) -> Any:
    try:
        return getattr(error, name)()
    except Exception:  # noqa: BLE001  # whatever a foreign error does, its caller gets an error to look at
        return None


def _debug(error: Any) -> str | None:
    # On a call that was cancelled here, grpc's own debug_error_string() never returns.
    return None if isinstance(error, grpc.Future) and not _is_snapshot(error) else _ask(error, "debug_error_string")


def _is_snapshot(error: Any) -> bool:
    return type(error).__name__ == "_InactiveRpcError"


def _pairs(metadata: Any) -> Iterable[tuple[Any, Any]]:
    try:
        return [(pair[0], pair[1]) for pair in metadata or ()]
    except (TypeError, IndexError):
        return ()


def _read_status(trailers: Iterable[tuple[Any, Any]], anomalies: list[str]) -> status_pb2.Status | None:
    values = [value for key, value in trailers if key == DETAILS_KEY]
    if len(values) > 1:
        anomalies.append(f"{len(values)} {DETAILS_KEY} trailers: the first is read")
    if not values:
        return None
    value = values[0]
    if not isinstance(value, bytes) or len(value) > MAX_STATUS_BYTES:
        anomalies.append(f"the {DETAILS_KEY} trailer is too large or no bytes")
        return None
    try:
        return status_pb2.Status.FromString(value)
    except DecodeError:
        anomalies.append(f"the {DETAILS_KEY} trailer cannot be decoded")
        return None


def _was_oversize(code: grpc.StatusCode, message: str, status: status_pb2.Status) -> bool:
    return code is grpc.StatusCode.RESOURCE_EXHAUSTED and _OVERSIZE in message and 1 <= status.code <= 16


def _compare(code: grpc.StatusCode, message: str, status: status_pb2.Status, anomalies: list[str]) -> None:
    if status.code != code.value[0]:
        anomalies.append(f"the details say code {status.code}, the RPC ended with {code.value[0]}")
    if status.message != message:
        anomalies.append("the details have another message than the RPC")


def _typed(code: grpc.StatusCode, message: str, details: Details) -> StatusError:
    info = details.find(error_details_pb2.ErrorInfo) or error_details_pb2.ErrorInfo()
    report = details.find(errors_pb2.ErrorReport) or errors_pb2.ErrorReport()
    state: dict[str, Any] = {
        "origin": Origin.REMOTE if len(details) else Origin.UNKNOWN,
        "_reason": info.reason or None,
        "_domain": info.domain or None,
        "_metadata": dict(info.metadata),
        "_retry_delay": _retry_delay(details, report),
        "_retry_scope": _member(RetryScope, report.retry.scope),
        "_category": _member(Category, report.category),
        "_severity": _member(Severity, report.severity),
        "_error_id": report.error_id or _request_id(details),
    }
    return error_class(code, info.domain, info.reason)._received(message, details, state)


def _retry_delay(details: Details, report: errors_pb2.ErrorReport) -> float | None:
    retry = details.find(error_details_pb2.RetryInfo)
    if retry is not None and retry.HasField("retry_delay"):
        return seconds(retry.retry_delay)
    return seconds(report.retry.delay) if report.retry.HasField("delay") else None


def _request_id(details: Details) -> str:
    request = details.find(error_details_pb2.RequestInfo)
    return request.request_id if request is not None else ""


def _member(kind: type[Any], number: int) -> Any:
    # A number that a newer peer knows and we do not is no member: then the code speaks.
    return kind._value2member_map_.get(number)

"""The wire: StatusError <-> google.rpc.Status <-> trailers.

Decoding never raises, and never masks the RPC's own error: ``grpc-status`` and ``grpc-message`` win over a details
trailer that contradicts them, and the contradiction is kept in the error's `anomalies`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from faultwire.v1 import errors_pb2
from grpc_faultwire.category import Category, RetryScope, Severity
from grpc_faultwire.details import Details, duration, seconds
from grpc_faultwire.error_info import MAX_DOMAIN
from grpc_faultwire.errors import Origin, StatusError, error_class
from grpc_faultwire.getters import ask, debug_error_string, error_within
from grpc_faultwire.redaction import Redactor, encodable
from grpc_faultwire.status_error import declaration_for
from grpc_faultwire.trailers import PUSHBACK_KEY, pushback, safe_pushback, valid_trailer
from grpc_faultwire.truncation import BUDGET, Draft, Trailer, fit

if TYPE_CHECKING:
    from grpc_faultwire.declaration import Declaration, MetadataKey

DETAILS_KEY = "grpc-status-details-bin"
"""The trailer that carries a google.rpc.Status."""

MAX_STATUS_BYTES = 1 << 20
"""A details trailer larger than this is not read; the default transport allows 16 KiB."""

MAX_ERROR_ID = 128
"""How much of a received error id is kept; ours have 32 characters."""

MAX_CAUSES = 32
"""How many causes of an error travel at the most."""

# What an error composes of all else that it says; any other DebugInfo would be a way round the exposure of stacks.
_OWN_KINDS = (
    error_details_pb2.ErrorInfo,
    error_details_pb2.RetryInfo,
    errors_pb2.ErrorReport,
    error_details_pb2.DebugInfo,
)
_OWN_NAMES = frozenset(kind.DESCRIPTOR.full_name for kind in _OWN_KINDS)
_OVERSIZE = "received metadata size exceeds"
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_SCOPES: dict[int, RetryScope] = {scope.value: scope for scope in RetryScope}
_CATEGORIES: dict[int, Category] = {category.value: category for category in Category}
_SEVERITIES: dict[int, Severity] = {severity.value: severity for severity in Severity}


class Reply(NamedTuple):
    """What a server answers for an error.

    Attributes:
        code: of the RPC.
        message: of the RPC, without secrets.
        trailers: the user's own and ours.
        dropped: what did not fit (see truncation.py).
        undeclared: keys of the error's metadata that nobody declared, and that did not leave.
    """

    code: grpc.StatusCode
    message: str
    trailers: tuple[Trailer, ...]
    dropped: tuple[str, ...] = ()
    undeclared: tuple[str, ...] = ()


def encode(
    error: StatusError,
    *,
    service: str,
    method: str,
    redactor: Redactor,
    now: float,
    jitter: float = 0.0,
    domain: str = "",
    trailers: Iterable[Trailer] = (),
    stack: Sequence[str] = (),
    remaining: float | None = None,
    budget: int = BUDGET,
) -> Reply:
    """Make what a server answers for an error: redacted, within the size budget, with exactly one details trailer.

    Args:
        error: what to send.
        service: full name of the service that failed.
        method: the method that failed.
        redactor: decides what may leave.
        now: seconds since the epoch.
        jitter: a random number from 0 up to 1.
        domain: for errors without one; the service's name if empty.
        trailers: the user's own.
        stack: lines of a stack trace that may be shown; empty: none.
        remaining: seconds until the caller's deadline; None: no deadline.
        budget: bytes for message and details as they travel.
    """
    # Most errors have no metadata, delay, causes or trailers: then nothing is asked about them.
    metadata, undeclared = _declared_metadata(error, redactor) if error._metadata else (None, ())
    info = error_details_pb2.ErrorInfo(
        reason=(error._reason or error.reason)[:63],
        domain=(error._domain or domain or service)[:MAX_DOMAIN],
        metadata=metadata,
    )
    delay = None if error._retry_delay is None else duration(error._retry_delay)
    message, error_id = error._details or "", error.error_id
    draft = Draft(
        code=error._number,
        message=redactor.text(message if message.isascii() else encodable(message)),
        info=info,
        retry=None if delay is None else error_details_pb2.RetryInfo(retry_delay=delay),
        report=_report(error, error_id, redactor, service=service, method=method, now=now, delay=delay),
        details=_details(error, error_id, redactor, stack),
        trailers=_sendable(trailers) if trailers else [],
    )
    status = fit(draft, budget)
    # Only what the report says of retries steers them.
    steering = pushback(error, remaining, jitter) if draft.report.HasField("retry") else ()
    if steering:
        # Peers differ in which of two they obey.
        draft.trailers = [trailer for trailer in draft.trailers if trailer[0] != PUSHBACK_KEY]
    return Reply(
        error._code,
        draft.message,
        (*draft.trailers, (DETAILS_KEY, status.SerializeToString()), *steering),
        tuple(draft.report.truncation.dropped) if draft.report.HasField("truncation") else (),
        undeclared,
    )


def _declared_metadata(error: StatusError, redactor: Redactor) -> tuple[Mapping[str, str], tuple[str, ...]]:
    keys = _keys(error.declaration)
    kept = redactor.metadata(error.metadata, keys)
    return kept, tuple(name for name in error.metadata if name not in kept and name not in (keys or ()))


def _declared_keys(domain: str, reason: str) -> Mapping[str, MetadataKey] | None:
    return _keys(declaration_for(domain, reason))


def _keys(declaration: Declaration | None) -> Mapping[str, MetadataKey] | None:
    return {key.key: key for key in declaration.metadata} if declaration is not None else None


def _report(
    error: StatusError,
    error_id: str,
    redactor: Redactor,
    *,
    service: str,
    method: str,
    now: float,
    delay: Duration | None,
) -> errors_pb2.ErrorReport:
    category = error.category
    plain = error.declaration is None and error._severity is None
    report = errors_pb2.ErrorReport(
        error_id=error_id,
        # Not .value, which is two functions of Python before 3.12.
        category=category._value_,  # pyright: ignore[reportArgumentType]  # the numbers are the proto's
        severity=(category.severity if plain else error.severity)._value_,  # type: ignore[arg-type]  # as above
        service=service,
        method=method,
        causes=_causes(error, redactor) if error._causes or error.__cause__ is not None else None,
    )
    occurred_at = report.occurred_at
    occurred_at.seconds, occurred_at.nanos = int(now), int(now % 1 * 1e9)
    scope = error._retry_scope if error.declaration is None else error.declared_retry_scope
    if scope is not None:
        report.retry.scope = scope.value  # type: ignore[assignment]  # the numbers are the proto's
    if error.already_retried:
        report.retry.already_retried = True
    if delay is not None:
        report.retry.delay.CopyFrom(delay)
    return report


def _causes(error: StatusError, redactor: Redactor) -> list[errors_pb2.Cause]:
    causes: list[errors_pb2.Cause] = []
    seen = {id(error)}
    level = [(-1, cause) for cause in error.causes]
    while level and len(causes) < MAX_CAUSES:
        following: list[tuple[int, StatusError]] = []
        for parent, cause in level:
            # Only what was raised here travels: what others said is theirs.
            if id(cause) not in seen and cause.origin is Origin.RAISED and len(causes) < MAX_CAUSES:
                seen.add(id(cause))
                following.extend((len(causes), child) for child in cause.causes)
                causes.append(_cause(parent, cause, redactor))
        level = following
    return causes


def _cause(parent: int, cause: StatusError, redactor: Redactor) -> errors_pb2.Cause:
    return errors_pb2.Cause(
        parent=parent,
        code=cause._number,
        message=redactor.text(encodable(cause.message)),
        reason=cause.reason,
        domain=cause.domain or "",
        category=cause.category.value,  # pyright: ignore[reportArgumentType]  # the numbers are the proto's
    )


def _details(error: StatusError, error_id: str, redactor: Redactor, stack: Sequence[str]) -> list[Message]:
    said = error._given if error._all is None else error._all
    kept: list[Message] = []
    for name, packed in zip(said.names, said.packed, strict=True):
        if name not in _OWN_NAMES:
            # As it is packed, as it is read into a copy of its own.
            one = redactor.packed(packed, _declared_keys)
            # What is ours may have come in an Any in an Any.
            if one is not None and not isinstance(one, _OWN_KINDS):
                kept.append(one)
    kinds = set(map(type, kept))
    if error_details_pb2.RequestInfo not in kinds:
        kept.append(error_details_pb2.RequestInfo(request_id=error_id))
    docs = error.declaration.docs_url if error.declaration is not None else ""
    if docs and error_details_pb2.Help not in kinds:
        kept.append(error_details_pb2.Help(links=[{"description": "About this error", "url": docs}]))
    if stack:
        kept.append(error_details_pb2.DebugInfo(stack_entries=stack))
    return kept


def _sendable(trailers: Iterable[Trailer]) -> list[Trailer]:
    return [
        (key, safe_pushback(value) if key == PUSHBACK_KEY else value)
        for key, value in trailers
        if key != DETAILS_KEY and valid_trailer(key, value)
    ]


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
    message = message if isinstance(message, str) else ""
    status = _read_status(trailing_metadata, anomalies)
    recovered = False
    if status is not None and (_CODES.get(status.code) is not code or status.message != message):
        recovered = _was_oversize(code, message, status)
        if recovered:
            code, message = _CODES[status.code], status.message
        else:
            _compare(code, message, status, anomalies)
    details = Details(status.details if status is not None else ())
    error = _typed(code, message, details)
    error._anomalies = tuple(anomalies)
    error.recovered = recovered
    error._initial_metadata = initial_metadata
    error._trailing_metadata = trailing_metadata
    error._debug_error_string = debug_error_string
    return error


def from_rpc_error(error: grpc.RpcError | Any) -> StatusError:
    """Decode any error or finished call from a channel that nobody wrapped; a StatusError is returned as it is.

    Args:
        error: a grpc.RpcError, a grpc.aio.AioRpcError, or a finished call that failed, of either world. A sync call
            that is under way is waited for.

    Returns:
        The typed error; its ``__cause__`` is the original, if that is an exception. A call on a wrapped channel gives
        the error that it raises. Something without a status, or that did not fail, gives `Unknown`.

    Raises:
        ValueError: a grpc.aio call is under way; await it first.
    """
    if isinstance(error, StatusError):
        return error
    raised = isinstance(error, BaseException)
    if not raised and isinstance(error, grpc.aio.Call) and ask(error, "done") is False:
        raise ValueError(f"{type(error).__name__} has not ended: await it before its error is decoded")
    code = ask(error, "code")  # what waits for a sync call: only then is there an error in it
    known = error_within(error)
    if known is not None:
        return known
    decoded = decode(
        code,
        ask(error, "details"),
        initial_metadata=ask(error, "initial_metadata"),
        trailing_metadata=ask(error, "trailing_metadata"),
        debug_error_string=debug_error_string(error),
    )
    if raised:
        decoded.__cause__ = error
    return decoded


def _values(metadata: Any, key: str) -> list[Any]:
    try:
        return [pair[1] for pair in metadata or () if pair[0] == key]
    except Exception:  # noqa: BLE001  # a foreign error may keep anything in the place of metadata
        return []


def _read_status(trailers: Any, anomalies: list[str]) -> status_pb2.Status | None:
    values = _values(trailers, DETAILS_KEY)
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
    metadata = info.metadata
    state: dict[str, Any] = {
        "origin": Origin.REMOTE if details.packed else Origin.UNKNOWN,
        "_reason": info.reason or None,
        "_domain": info.domain or None,
        "_metadata": dict(metadata) if metadata else {},
        "_retry_delay": _retry_delay(details, report),
        # A number that a newer peer knows and we do not is no member: then the code speaks.
        "_retry_scope": _SCOPES.get(report.retry.scope),
        "_category": _CATEGORIES.get(report.category),
        "_severity": _SEVERITIES.get(report.severity),
        "_error_id": (report.error_id or _request_id(details))[:MAX_ERROR_ID],
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

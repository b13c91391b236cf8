"""What a handler says of its status itself: by `context.abort`, `abort_with_status` or `set_code`."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from grpc_faultwire.details import Details, seconds
from grpc_faultwire.errors import Origin, StatusError, error_class
from grpc_faultwire.redaction import encodable, escaped
from grpc_faultwire.status import DETAILS_KEY
from grpc_faultwire.truncation import Trailer

logger = logging.getLogger("grpc_faultwire.server")

_CODES = {code.value[0]: code for code in grpc.StatusCode}


def said_error(code: Any, message: Any, trailers: Iterable[Trailer]) -> StatusError:
    """Return the error of a code and message that a handler chose, with the details it sent along in its trailers."""
    cls = error_class(status_code(code))
    text = "" if message is None else encodable(str(message))
    status = next((_parsed(value) for key, value in trailers if key == DETAILS_KEY), None)
    if status is None:
        return cls(text)
    details = Details(status.details)
    return cls._received(text, details, {"origin": Origin.RAISED} | _said_info(details))


def status_code(code: Any) -> grpc.StatusCode:
    """Return the code that a handler chose, however it said it; UNKNOWN for what is the code of no error."""
    if isinstance(code, grpc.StatusCode):
        found: grpc.StatusCode | None = code
    else:
        found = _CODES.get(code) if isinstance(code, int) else None
    if found is None or found is grpc.StatusCode.OK:
        logger.error("a handler aborted with %s, which is the code of no error; UNKNOWN was sent", escaped(repr(code)))
        return grpc.StatusCode.UNKNOWN
    return found


def _parsed(value: Any) -> status_pb2.Status | None:
    try:
        return status_pb2.Status.FromString(value)
    except (DecodeError, TypeError):
        return None


def _said_info(details: Details) -> dict[str, Any]:
    info = details.find(error_details_pb2.ErrorInfo)
    retry = details.find(error_details_pb2.RetryInfo)
    return {
        "_reason": (info.reason if info is not None else None) or None,
        "_domain": (info.domain if info is not None else None) or None,
        "_metadata": dict(info.metadata) if info is not None else {},
        "_retry_delay": seconds(retry.retry_delay) if retry is not None else None,
    }

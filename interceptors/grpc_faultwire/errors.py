"""The errors: `StatusError`, and one subclass for each status code, with gRPC's own advice on when to raise it."""

from __future__ import annotations

import grpc

from grpc_faultwire import status_error
from grpc_faultwire.category import Origin
from grpc_faultwire.status_error import StatusError, error_class

__all__ = [
    "Aborted",
    "AlreadyExists",
    "Cancelled",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "Internal",
    "InvalidArgument",
    "NotFound",
    "Origin",
    "OutOfRange",
    "PermissionDenied",
    "ResourceExhausted",
    "StatusError",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Unknown",
    "error_class",
]


class Cancelled(StatusError):
    """The operation was cancelled, typically by the caller."""

    status_code = grpc.StatusCode.CANCELLED


class Unknown(StatusError):
    """An error of unknown nature, or one from another world whose code means nothing here."""

    status_code = grpc.StatusCode.UNKNOWN


class InvalidArgument(StatusError):
    """The request is wrong whatever the state of the system."""

    status_code = grpc.StatusCode.INVALID_ARGUMENT


class DeadlineExceeded(StatusError):
    """The deadline expired before the operation completed; it may have completed all the same."""

    status_code = grpc.StatusCode.DEADLINE_EXCEEDED


class NotFound(StatusError):
    """Something that was asked for does not exist."""

    status_code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(StatusError):
    """What should be made exists already."""

    status_code = grpc.StatusCode.ALREADY_EXISTS


class PermissionDenied(StatusError):
    """The caller is known, and may not do this. Check it before existence (AIP-193)."""

    status_code = grpc.StatusCode.PERMISSION_DENIED


class ResourceExhausted(StatusError):
    """A quota is used up, or some space is full."""

    status_code = grpc.StatusCode.RESOURCE_EXHAUSTED


class FailedPrecondition(StatusError):
    """The system is not in the state that this needs; do not retry until it has been mended."""

    status_code = grpc.StatusCode.FAILED_PRECONDITION


class Aborted(StatusError):
    """The operation was aborted, typically by a conflict; retry the whole operation, not the call."""

    status_code = grpc.StatusCode.ABORTED


class OutOfRange(StatusError):
    """The operation went past the valid range; the state of the system may make it valid later."""

    status_code = grpc.StatusCode.OUT_OF_RANGE


class Unimplemented(StatusError):
    """The operation is not implemented, or not enabled."""

    status_code = grpc.StatusCode.UNIMPLEMENTED


class Internal(StatusError):
    """An invariant is broken: something is wrong with the server."""

    status_code = grpc.StatusCode.INTERNAL


class Unavailable(StatusError):
    """The service cannot answer just now; a retry with backoff may succeed."""

    status_code = grpc.StatusCode.UNAVAILABLE


class DataLoss(StatusError):
    """Data are lost or corrupted beyond recovery."""

    status_code = grpc.StatusCode.DATA_LOSS


class Unauthenticated(StatusError):
    """The request has no valid credentials."""

    status_code = grpc.StatusCode.UNAUTHENTICATED


status_error._classes.update({id(cls.status_code): cls for cls in StatusError.__subclasses__()})

"""Errors between gRPC servers and callers, whole: rich, safe, bounded, and acted upon.

category, declaration, details, redaction    what an error may say, and who may see it
errors, catalogue, status, truncation        the errors, how they are declared, and the one way onto the wire
translation, mappings                        from exceptions to errors
records, audience, observers                 what is told of a call, and to whom
server_call, messages, interception          one call on a server, without I/O
flow, policies                               one call of a client, without I/O
sync, aio                                    grpc's two worlds; they only carry out what was decided
testing                                      for your own tests
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpc_faultwire.homes import at_home

if TYPE_CHECKING:
    from grpc_faultwire.catalogue import Catalogue, ErrorArguments, MetadataValue
    from grpc_faultwire.category import Category, Fault, RetryScope, Sensitivity, Severity
    from grpc_faultwire.declaration import Declaration, MetadataKey
    from grpc_faultwire.errors import (
        Aborted,
        AlreadyExists,
        Cancelled,
        DataLoss,
        DeadlineExceeded,
        FailedPrecondition,
        Internal,
        InvalidArgument,
        NotFound,
        Origin,
        OutOfRange,
        PermissionDenied,
        ResourceExhausted,
        StatusError,
        Unauthenticated,
        Unavailable,
        Unimplemented,
        Unknown,
    )
    from grpc_faultwire.exposure import Exposure
    from grpc_faultwire.records import Attempt, CallInfo, Event, Kind, Observer, Outcome, Side
    from grpc_faultwire.redaction import Redactor
    from grpc_faultwire.status import from_rpc_error
    from grpc_faultwire.translation import Translator

__all__ = [
    "Aborted",
    "AlreadyExists",
    "Attempt",
    "CallInfo",
    "Cancelled",
    "Catalogue",
    "Category",
    "DataLoss",
    "DeadlineExceeded",
    "Declaration",
    "ErrorArguments",
    "Event",
    "Exposure",
    "FailedPrecondition",
    "Fault",
    "Internal",
    "InvalidArgument",
    "Kind",
    "MetadataKey",
    "MetadataValue",
    "NotFound",
    "Observer",
    "Origin",
    "OutOfRange",
    "Outcome",
    "PermissionDenied",
    "Redactor",
    "ResourceExhausted",
    "RetryScope",
    "Sensitivity",
    "Severity",
    "Side",
    "StatusError",
    "Translator",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Unknown",
    "from_rpc_error",
]

_HOMES = {
    "Aborted": "errors",
    "AlreadyExists": "errors",
    "Attempt": "records",
    "CallInfo": "records",
    "Cancelled": "errors",
    "Catalogue": "catalogue",
    "Category": "category",
    "DataLoss": "errors",
    "DeadlineExceeded": "errors",
    "Declaration": "declaration",
    "ErrorArguments": "catalogue",
    "Event": "records",
    "Exposure": "exposure",
    "FailedPrecondition": "errors",
    "Fault": "category",
    "Internal": "errors",
    "InvalidArgument": "errors",
    "Kind": "records",
    "MetadataKey": "declaration",
    "MetadataValue": "catalogue",
    "NotFound": "errors",
    "Observer": "records",
    "Origin": "errors",
    "OutOfRange": "errors",
    "Outcome": "records",
    "PermissionDenied": "errors",
    "Redactor": "redaction",
    "ResourceExhausted": "errors",
    "RetryScope": "category",
    "Sensitivity": "category",
    "Severity": "category",
    "Side": "records",
    "StatusError": "errors",
    "Translator": "translation",
    "Unauthenticated": "errors",
    "Unavailable": "errors",
    "Unimplemented": "errors",
    "Unknown": "errors",
    "from_rpc_error": "status",
}


__getattr__ = at_home(__name__, _HOMES)
# The command reads trailers without gRPC, which takes longer to import than everything else that it does.


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

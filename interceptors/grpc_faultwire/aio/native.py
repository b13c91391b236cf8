"""What grpc.aio's own call objects can be asked, and what their words mean."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio

from grpc_faultwire.category import Category
from grpc_faultwire.errors import Origin, StatusError
from grpc_faultwire.local_errors import failed
from grpc_faultwire.status import decode

LOCALLY_CANCELLED = "Locally cancelled by application!"
COLLECTED = "Cancelled upon garbage collection!"
ALREADY_FINISHED = "RPC already finished."
HALF_CLOSED = 'RPC is half closed after calling "done_writing".'
# grpc.aio's own sentences: the first two tell a call that this side cancelled from a CANCELLED that was received.

_FROM_CORE = "Internal error from Core"

try:
    # Private, and nothing else tells that a call deserializes its response right after its status.
    from grpc.aio._call import StreamUnaryCall as _StreamUnaryCall
    from grpc.aio._call import UnaryUnaryCall as _UnaryUnaryCall
except ImportError:  # pragma: no cover  # a grpcio that has no such calls
    OWN: tuple[type, ...] = ()
else:
    OWN = (_UnaryUnaryCall, _StreamUnaryCall)
"""The types of grpc.aio's own call objects with one response, which no interceptor has made."""


async def failure(call: Any) -> StatusError | None:
    """Return what a call that is done has failed with; None: OK."""
    try:
        code = await call.code()
        if code is grpc.StatusCode.OK:
            return None
        error = decode(
            code,
            await call.details(),
            initial_metadata=await call.initial_metadata(),
            trailing_metadata=await call.trailing_metadata(),
            debug_error_string=await call.debug_error_string() if hasattr(call, "debug_error_string") else "",
        )
    except Exception as raised:  # noqa: BLE001  # an interceptor of the bare channel raised something of its own
        return failed(raised, grpc.aio.Metadata())
    if is_local(error):
        error.origin = Origin.LOCAL
    elif is_doubtful(error):
        error._category = Category.TRANSPORT
    return error


def is_local(error: StatusError) -> bool:
    """Whether the call was cancelled on this side: ``cancelled()`` is also true for a CANCELLED that was received."""
    return (
        error.code() is grpc.StatusCode.CANCELLED
        and not error.debug_error_string()
        and error.message in (LOCALLY_CANCELLED, COLLECTED)
    )


def is_doubtful(error: StatusError) -> bool:
    """Whether the status is grpc's own after a write has failed; the server's often arrives a moment later."""
    return error.code() is grpc.StatusCode.INTERNAL and error.message == _FROM_CORE


def is_usage(raised: BaseException) -> bool:
    """Whether something was raised that says nothing of the call: the caller used it in a way that grpc refuses."""
    return isinstance(raised, (grpc.aio.BaseError, asyncio.InvalidStateError, RuntimeError, StopAsyncIteration))

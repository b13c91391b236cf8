"""Errors of calls that ended on their own side of the wire."""

from __future__ import annotations

from typing import Any

from grpc_faultwire.errors import Cancelled, Origin, StatusError, Unknown


def cancelled(message: str, metadata: Any) -> StatusError:
    """Make the error of a call that ended on its own side of the wire.

    Args:
        message: grpc's sentence for it.
        metadata: the empty metadata of this world: () in sync, Metadata() in aio.
    """
    return _local(Cancelled(message), metadata)


def failed(exception: BaseException, metadata: Any) -> StatusError:
    """Make the error of a call that an exception kept from having a status.

    Args:
        exception: what was raised instead of an RpcError; it becomes the cause.
        metadata: as for `cancelled`.
    """
    error = _local(Unknown(f"{type(exception).__name__} before the call had a status"), metadata)
    error.__cause__ = exception
    return error


def _local(error: StatusError, metadata: Any) -> StatusError:
    error.origin = Origin.LOCAL
    error._initial_metadata = error._trailing_metadata = metadata
    return error

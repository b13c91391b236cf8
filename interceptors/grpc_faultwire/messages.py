"""Requests and responses on a server: what cannot be read or written is found out while it can be answered well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from google.protobuf.message import Message

from grpc_faultwire.category import Category
from grpc_faultwire.errors import Internal, StatusError, Unimplemented


class Malformed(NamedTuple):
    """Stands for a request that its deserializer refused."""

    exception: Exception


class MalformedRequestError(Exception):
    """Raised where a handler would read a request that its deserializer refused."""


class UnserializableError(Exception):
    """Raised where a handler answers with what its serializer refuses."""


class UnknownMethodError(Exception):
    """Raised in place of a handler where the server has no such method."""


def reading(deserializer: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """Return a deserializer that gives a `Malformed` where this one raises."""
    if deserializer is None:
        return None

    def read(data: bytes) -> Any:
        try:
            return deserializer(data)
        except Exception as refusal:  # noqa: BLE001  # whatever a deserializer raises
            return Malformed(refusal)

    return read


def checked(request: Any) -> Any:
    """Return a request, unless its deserializer refused it.

    Raises:
        MalformedRequestError: it did.
    """
    if isinstance(request, Malformed):
        raise MalformedRequestError from request.exception
    return request


UNCHECKED = object()
"""In the place of a serializer: there is no single response to check."""


def check(response: Any, serializer: Callable[[Any], Any] | None) -> None:
    """Find out now whether a response can be serialized: when grpc does, it is too late to answer well.

    A protobuf message is only asked whether it is complete. Any other serializer is run, and later run again by grpc:
    an interceptor outside may change the response in between.

    Raises:
        UnserializableError: it cannot.
    """
    if serializer is UNCHECKED:
        return
    if serializer is None:
        fine = isinstance(response, bytes)
    elif isinstance(response, Message) and getattr(serializer, "__name__", "") == "SerializeToString":
        fine = response.IsInitialized()
    else:
        try:
            fine = isinstance(serializer(response), bytes)
        except Exception as refusal:
            raise UnserializableError(f"the serializer refused a {type(response).__name__}") from refusal
    if not fine:
        raise UnserializableError(f"a {type(response).__name__} is no response of this method")


OWN_EXCEPTIONS = (MalformedRequestError, UnserializableError, UnknownMethodError)


def own_error(exception: BaseException) -> StatusError:
    """Return the error that one of these exceptions ends its RPC with."""
    if isinstance(exception, UnknownMethodError):
        return Unimplemented("Method not found!", reason="METHOD_NOT_FOUND")
    if isinstance(exception, MalformedRequestError):
        # The code is what gRPC sends; but it was the caller that sent what cannot be read.
        return Internal("The request cannot be read.", reason="REQUEST_MALFORMED", category=Category.VALIDATION)
    return Internal("The response cannot be serialized.", reason="RESPONSE_UNSERIALIZABLE")

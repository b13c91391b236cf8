"""Serializers that tell their call of a fault.

grpc.aio logs what a serializer raises and goes on without the message: the server gets an empty request, the caller
None as a response, and the call ends with OK.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol

Serializer = Callable[[Any], Any]


class Owner(Protocol):
    """The call that a message belongs to."""

    def fault(self, exception: Exception, message: str) -> None:
        """End the call: a serializer raised."""

    def sent(self, data: Any, *, again: bool) -> None:
        """Take note of a request's bytes, which may be sent again."""

    def deserialized(self) -> None:
        """Learn that the one response could be deserialized."""


OWNER: ContextVar[weakref.ref[Any] | None] = ContextVar("grpc_faultwire.aio.owner", default=None)
"""Whose messages are serialized here. Tasks that outlive a call inherit it, so it does not keep the call."""


class Kept:
    """The bytes of a request that is sent again. Not the message: callers change it once it has been sent."""

    __slots__ = ("data",)

    def __init__(self, data: Any) -> None:
        self.data = data


def serializing(serializer: Serializer | None, *, telling: bool) -> Serializer | None:
    """Wrap a request serializer.

    Args:
        serializer: the caller's; None passes bytes on.
        telling: whether the call is told of the bytes.
    """
    if not telling:
        return None if serializer is None else _guarding(serializer, "Exception serializing request!")

    def serialize(message: Any) -> Any:
        again = type(message) is Kept
        data = message.data if again else message if guarded is None else guarded(message)
        owner = _owner()
        if owner is not None:
            owner.sent(data, again=again)
        return data

    guarded = serializing(serializer, telling=False)
    return serialize


def deserializing(deserializer: Serializer | None, *, telling: bool) -> Serializer | None:
    """Wrap a response deserializer.

    Args:
        deserializer: the caller's; None passes bytes on.
        telling: whether the call is told that its response could be deserialized.
    """
    guarded = None if deserializer is None else _guarding(deserializer, "Exception deserializing response!")
    if not telling:
        return guarded

    def deserialize(data: Any) -> Any:
        message = data if guarded is None else guarded(data)
        reference = OWNER.get()  # _owner(), written out: every call comes here
        owner = None if reference is None else reference()
        if owner is not None:
            owner.deserialized()
        return message

    return deserialize


def _guarding(transform: Serializer, sentence: str) -> Serializer:
    def guarded(message: Any) -> Any:
        try:
            return transform(message)
        except Exception as fault:
            owner = _owner()
            if owner is not None:
                owner.fault(fault, sentence)
            raise

    return guarded


def _owner() -> Owner | None:
    reference = OWNER.get()
    return None if reference is None else reference()

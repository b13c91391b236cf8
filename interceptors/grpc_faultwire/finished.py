"""The face of a call that has ended with an error, as grpc's own errors show it.

Interceptors and libraries outside Faultwire treat a raised RpcError as a finished grpc.Call and grpc.Future.
"""

from __future__ import annotations

import abc
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, Self

import grpc

if TYPE_CHECKING:
    _Future = grpc.Future[Any]
else:
    _Future = grpc.Future


class ErrorType(abc.ABCMeta):
    """The type of errors: classes are compared as plain ones are.

    grpc.Call is an abstract base class, and Python compares classes several times whenever an error is raised or
    caught. Asking about virtual subclasses, which errors have none of, takes as long as making the error.
    """

    __instancecheck__ = type.__instancecheck__
    __subclasscheck__ = type.__subclasscheck__


class FinishedCall(grpc.Call, _Future, metaclass=ErrorType):
    """What grpc.Call and grpc.Future answer once an RPC has failed; for exceptions to inherit."""

    __traceback__: types.TracebackType | None

    def is_active(self) -> bool:
        """Return False: the RPC has ended."""
        return False

    def time_remaining(self) -> None:  # type: ignore[override]  # None is grpc's own answer where no deadline is left
        """Return None: the RPC has ended."""

    def cancel(self) -> bool:
        """Return False: it is too late."""
        return False

    def add_callback(self, callback: Callable[[], None]) -> bool:  # noqa: ARG002  # grpc.RpcContext's signature
        """Return False: the callback will not be called."""
        return False

    def cancelled(self) -> bool:
        """Return False, as grpc's own errors do."""
        return False

    def running(self) -> bool:
        """Return False: the RPC has ended."""
        return False

    def done(self) -> bool:
        """Return True: the RPC has ended."""
        return True

    def result(self, timeout: float | None = None) -> NoReturn:  # noqa: ARG002  # grpc.Future's signature
        """Raise this error."""
        raise self  # type: ignore[misc]  # whoever inherits is an exception

    def exception(self, timeout: float | None = None) -> Self:  # type: ignore[override]  # noqa: ARG002  # as above
        """Return this error."""
        return self

    def traceback(self, timeout: float | None = None) -> types.TracebackType | None:  # noqa: ARG002  # as above
        """Return this error's traceback."""
        return self.__traceback__

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Call fn with this error, now."""
        fn(self)

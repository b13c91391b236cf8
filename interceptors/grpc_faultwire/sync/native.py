"""What grpc's own call objects can be asked, and when.

In a callback only the status may be asked for: initial metadata may still be on their way in the same thread, and the
debug string of a call that was ended on this side never comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import grpc

from grpc_faultwire.errors import StatusError
from grpc_faultwire.status import decode, from_rpc_error


def reports_its_end(call: Any) -> bool:
    """Whether the call's callbacks come by themselves; otherwise only while it is read."""
    own = getattr(call, "_running", None)
    return bool(own.reports) if own is not None else not isinstance(call, (_single_threaded(), PlainIterator))


@cache
def _single_threaded() -> Any:
    """Return the class of calls that have no thread behind them."""
    try:
        # Private, and nothing else tells such a call. grpc imports it with its first channel, and not before.
        from grpc._channel import _SingleThreadedRendezvous  # noqa: PLC0415
    except ImportError:  # pragma: no cover  # a grpcio that has no such calls
        return ()
    return _SingleThreadedRendezvous


def failure(call: Any) -> StatusError | None:
    """Return what an ended call failed with; None: OK. It may be called in the call's own callback."""
    own = getattr(call, "_running", None)
    if own is not None:
        error: StatusError | None = own.flow.error
        return error
    try:
        code = call.code()
        if code is grpc.StatusCode.OK:
            return None
        error = decode(code, call.details(), trailing_metadata=call.trailing_metadata() or ())
    except Exception:  # noqa: BLE001  # another interceptor's call object; an error without a status is better than none
        error = decode(None, "", trailing_metadata=())
    return caused(error, call)


def caused(error: StatusError, call: Any) -> StatusError:
    """Make a call the cause of its error; what cannot be asked for in a callback is asked for when it is wanted."""
    cause = call.exception() if type(call).__name__ == "_FailureOutcome" else call
    error.__cause__ = cause if isinstance(cause, BaseException) else None
    error._initial_metadata = partial(_initial_metadata, call)
    error._debug_error_string = _debug(call)
    return error


def _initial_metadata(call: Any) -> Any:
    try:
        return call.initial_metadata() or ()
    except Exception:  # noqa: BLE001  # as in failure()
        return ()


def _debug(call: Any) -> str:
    # Asked for as it should be, the string of a call that was ended on this side would never come.
    text = getattr(getattr(call, "_state", None), "debug_error_string", None)
    return text.decode(errors="replace") if isinstance(text, bytes) else text or ""


def refused(error: StatusError) -> None:
    """Make a policy's error look like one of this world: no metadata are an empty tuple here."""
    error.with_traceback(None)
    error._initial_metadata = error._initial_metadata or ()
    error._trailing_metadata = error._trailing_metadata or ()


def visible(error: StatusError) -> Exception:
    """Return what the caller gets to see: the error, or the exception that kept an RPC from having one, as in grpc."""
    cause = error.__cause__
    return cause if isinstance(cause, Exception) and not isinstance(cause, grpc.RpcError) else error


def raised_by(call: Any, raised: grpc.RpcError) -> StatusError:
    """Return the typed error for what reading a call raised."""
    if raised is call:
        return failure(call) or from_rpc_error(raised)
    return from_rpc_error(raised)


def as_call(call: Any) -> Any:
    """Return the call object, or a face for what is none: some interceptors return generators for streams."""
    return call if hasattr(call, "add_done_callback") else PlainIterator(call)


class PlainIterator:
    """A bare iterator of responses, as far as it can pass for a call."""

    def __init__(self, responses: Iterator[Any]) -> None:
        self._responses = iter(responses)
        self._code: grpc.StatusCode | None = None

    def __next__(self) -> Any:
        try:
            return next(self._responses)
        except StopIteration:
            self._code = grpc.StatusCode.OK
            raise
        except grpc.RpcError:
            self._code = grpc.StatusCode.UNKNOWN
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._responses, name)

    def cancel(self) -> bool:
        """Stop as far as possible: a generator is closed, unless another thread is in it."""
        close = getattr(self._responses, "close", None)
        if self._code is None and close is not None:
            try:
                close()
            except ValueError:
                return False
        return self._code is None

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Do nothing: who reads it sees its end."""

    def done(self) -> bool:
        """Whether it has been read to its end."""
        return self._code is not None

    def code(self) -> grpc.StatusCode | None:
        """Return OK at its end; what it failed with was raised."""
        return self._code

    def details(self) -> str:
        """Return nothing: it does not say."""
        return ""

    def initial_metadata(self) -> tuple[()]:
        """Return nothing: it does not say."""
        return ()

    def trailing_metadata(self) -> tuple[()]:
        """Return nothing: it does not say."""
        return ()

    def debug_error_string(self) -> str:
        """Return nothing: it does not say."""
        return ""

"""The call object that callers hold: grpc's Call, Future and iterator in one, as grpc's own is."""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Self

import grpc

from grpc_faultwire.sync.native import visible
from grpc_faultwire.sync.running import ENDED, Running

if TYPE_CHECKING:
    _Future = grpc.Future[Any]
else:
    _Future = grpc.Future


class Call(grpc.RpcError, grpc.Call, _Future):
    """A future or a stream on a wrapped channel.

    It is what grpc returns there, an RpcError included, and waits where grpc's waits. Dropping it cancels the RPC. The
    errors that it raises and returns are `StatusError`s, whose ``__cause__`` is grpc's own call object.
    """

    def __init__(self, running: Running) -> None:
        super().__init__()
        self._running = running

    def __del__(self) -> None:
        self._abandon()

    def close(self) -> None:
        """Drop the RPC, and wait a moment for its end: a generator that delegates to a stream closes it with itself.

        So whoever wraps a stream in a generator (OpenTelemetry's instrumentation does) learns of the end before it has
        left the generator.
        """
        self._abandon()
        self._running.part()

    def _abandon(self) -> None:
        running = self.__dict__.get("_running")
        if running is not None and not running.done:
            running.abandon()

    # Iterating.

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        response = self._running.next()
        if response is not ENDED:
            return response
        error = self._running.flow.error
        if error is None:
            raise StopIteration
        raise visible(error) from error.__cause__

    def next(self) -> Any:
        """Return the next response, as ``next(call)``.

        Raises:
            StopIteration: there are no more.
            StatusError: the RPC has failed.
        """
        return self.__next__()

    # grpc.RpcContext.

    def is_active(self) -> bool:
        """Whether the RPC has not ended."""
        return not self._running.done

    def time_remaining(self) -> float | None:  # type: ignore[override]  # the stub forgets calls without a deadline
        """Return the seconds left of the timeout that was given, at least 0; None if none was."""
        return self._running.flow.time_remaining()

    def cancel(self) -> bool:
        """Cancel the RPC.

        Returns:
            True if it had not ended.
        """
        return self._running.cancel()

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Call back once the RPC has ended.

        Returns:
            False if it has ended, and the callback will not be called.
        """
        return self._running.call_back(callback)

    # grpc.Call.

    def initial_metadata(self) -> Any:
        """Return what the server sent first; waits for it."""
        metadata = self._running.initial_metadata()
        error = self._running.flow.error
        return metadata if metadata is not None or error is None else error.initial_metadata()

    def trailing_metadata(self) -> Any:
        """Return what the server sent last; waits for the end."""
        return self._ask("trailing_metadata")

    def code(self) -> Any:
        """Return the status code; waits for the end."""
        return self._ask("code")

    def details(self) -> Any:
        """Return the status message; waits for the end."""
        return self._ask("details")

    def debug_error_string(self) -> Any:
        """Return grpc's notes for debugging; waits for the end."""
        return self._ask("debug_error_string")

    # grpc.Future.

    def cancelled(self) -> bool:
        """Whether ``cancel()`` ended the RPC."""
        return self._running.flow.how == "cancelled"

    def running(self) -> bool:
        """Whether the RPC has not ended."""
        return not self._running.done

    def done(self) -> bool:
        """Whether the RPC has ended."""
        return self._running.done

    def result(self, timeout: float | None = None) -> Any:
        """Return the response; waits for it.

        Args:
            timeout: seconds to wait. None: as long as it takes.

        Raises:
            StatusError: the RPC has failed.
            grpc.FutureTimeoutError: it has not ended in time.
            grpc.FutureCancelledError: it was cancelled.
        """
        error = self._outcome(timeout)
        if error is not None:
            raise error from error.__cause__
        return self._running.inner.result()

    def exception(self, timeout: float | None = None) -> Exception | None:
        """Return the error that the RPC failed with, or None; waits and raises as `result`."""
        return self._outcome(timeout)

    def traceback(self, timeout: float | None = None) -> types.TracebackType | None:
        """Return the error's traceback, or None; waits and raises as `result`."""
        self._must_not_wait_alone()
        try:
            self.result(timeout)
        except (grpc.FutureTimeoutError, grpc.FutureCancelledError):
            raise
        except Exception as raised:  # noqa: BLE001  # what the RPC failed with
            return raised.__traceback__
        return None

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Call fn with this object once the RPC has ended, or now if it has."""
        if not self._running.call_back_unless_done(partial(fn, self)):
            fn(self)

    def __repr__(self) -> str:
        running = self._running
        if not running.done:
            return f"<{type(self).__name__} object>"
        code = running.flow.error.code() if running.flow.error is not None else grpc.StatusCode.OK
        return f"<{type(self).__name__} of RPC that terminated with: {running.flow.error or code}>"

    __str__ = __repr__

    # Waiting.

    def _ask(self, name: str) -> Any:
        self._must_not_wait_alone()
        self._running.wait()
        error = self._running.flow.error
        return getattr(self._running.inner if error is None else error, name)()

    def _outcome(self, timeout: float | None) -> Exception | None:
        self._must_not_wait_alone()
        if not self._running.wait(timeout):
            raise grpc.FutureTimeoutError
        if self.cancelled():
            raise grpc.FutureCancelledError
        error = self._running.flow.error
        return None if error is None else visible(error)

    def _must_not_wait_alone(self) -> None:
        if not self._running.reports and not self._running.done:
            _refuse_to_wait()


def _refuse_to_wait() -> NoReturn:
    from grpc import experimental  # noqa: PLC0415  # grpc does not import it either until it is asked to

    # grpc's own answer: nothing goes on in a single-threaded stream while nobody reads it.
    raise experimental.UsageError("A single-threaded stream can be asked this only when the RPC is completed.")

"""What users' functions do for a call that has failed: other credentials, a request that goes on, another answer.

They may block, so none of them runs in a thread that serves others.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import grpc

from grpc_faultwire.faults import warn_once
from grpc_faultwire.flow import Flow
from grpc_faultwire.plan import UNANSWERED
from grpc_faultwire.sync.native import refused
from grpc_faultwire.sync.timer import TIMER

_LOGGER = logging.getLogger(__name__)


def refreshed(flow: Flow) -> bool:
    """Ask for other credentials, if the last error calls for them.

    Returns:
        False if there are none, and the call was given up: its own error stands.
    """
    refresh = flow.refresh
    if refresh is None:
        return True
    try:
        pairs = refresh()
        if pairs is not None:
            flow.credentials = tuple((key, value) for key, value in pairs)
    except Exception as fault:  # noqa: BLE001  # whatever a user's function raises, the call's own error stands
        warn_once(_LOGGER, getattr(refresh, "func", refresh), fault, "Credentials could not be refreshed")
        flow.give_up()
        return False
    return True


def resumed(flow: Flow, request: Any, last: Any) -> Any:
    """Return the request that continues a stream after its last response; UNANSWERED if the call was given up."""
    resume = flow.resume
    if resume is None:
        return request
    try:
        return resume(request, last)
    except Exception as fault:  # noqa: BLE001  # as above
        warn_once(_LOGGER, resume, fault, "A stream could not be resumed")
        flow.give_up()
        return UNANSWERED


def fallen_back(flow: Flow, request: Any, *, streaming: bool = False) -> Any:
    """End a call that was falling, and return what is answered in place of its error; UNANSWERED: the error stands.

    Args:
        flow: the call.
        request: the caller's, or its requests, of which no fallback is told.
        streaming: an iterator of responses is wanted.
    """
    answer = flow.fall_back(None if flow.plan.call.kind.request_streaming else request)
    if streaming and answer is not UNANSWERED:
        try:
            answer = iter(answer)
        except Exception as fault:  # noqa: BLE001  # as above
            warn_once(_LOGGER, type(answer), fault, "A fallback of a response stream must answer an iterable")
            answer = UNANSWERED
    ended = flow.fallen(answer)
    if flow.how == "refused" and flow.error is not None:
        refused(flow.error)
    return answer if ended else UNANSWERED


def elsewhere(action: Callable[[], None]) -> None:
    """Run an action in a thread of its own."""
    try:
        threading.Thread(target=action, name="faultwire-recovery", daemon=True).start()
    except RuntimeError:
        # No more threads are to be had. To hold others up is better than to leave the call without an end.
        TIMER.after(0.0, action)


class Answered(grpc.Call, grpc.Future):  # type: ignore[type-arg]  # not generic at run time
    """The call object of an answer that no server gave: it has ended, with OK.

    Args:
        answer: the response.
    """

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def result(self, timeout: float | None = None) -> Any:  # noqa: ARG002  # grpc's signature
        """Return the response."""
        return self._answer

    def exception(self, timeout: float | None = None) -> None:
        """Return None: it did not fail."""

    def traceback(self, timeout: float | None = None) -> None:
        """Return None, as `exception`."""

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Call back now."""
        fn(self)

    def add_callback(self, callback: Callable[[], None]) -> bool:  # noqa: ARG002  # as above
        """Return False: it has ended."""
        return False

    def done(self) -> bool:
        """Return True."""
        return True

    def running(self) -> bool:
        """Return False."""
        return False

    def is_active(self) -> bool:
        """Return False."""
        return False

    def cancel(self) -> bool:
        """Return False: it has ended."""
        return False

    def cancelled(self) -> bool:
        """Return False."""
        return False

    def time_remaining(self) -> None:  # type: ignore[override]  # the stub forgets calls without a deadline
        """Return None: nothing is awaited."""

    def initial_metadata(self) -> tuple[()]:
        """Return none."""
        return ()

    def trailing_metadata(self) -> tuple[()]:
        """Return none."""
        return ()

    def code(self) -> grpc.StatusCode:
        """Return OK."""
        return grpc.StatusCode.OK

    def details(self) -> str:
        """Return nothing."""
        return ""

    def debug_error_string(self) -> str:
        """Return nothing."""
        return ""

"""The callbacks that a caller adds to a call."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

_LOGGER = logging.getLogger(__name__)


class Callbacks:
    """Functions that are called once, when the call has ended, in the order in which they came."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Callable[[], Any]] | None = []

    def add(self, callback: Callable[[], Any]) -> bool:
        """Remember one; False if they have been called."""
        with self._lock:
            if self._waiting is None:
                return False
            self._waiting.append(callback)
            return True

    def closed_empty(self) -> bool:
        """Whether nothing is left to be called; then nothing can be added any more."""
        with self._lock:
            self._waiting = self._waiting or None
            return self._waiting is None

    def fire(self, *, raising: bool) -> None:
        """Call them.

        Args:
            raising: let what they raise through; else it is logged.
        """
        with self._lock:
            callbacks, self._waiting = self._waiting or (), None
        for callback in callbacks:
            try:
                callback()
            except BaseException:
                if raising:
                    raise
                _LOGGER.exception("Exception in callback %r", callback)

"""Keys as they are pressed, without a wait for the end of the line."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Iterator

_NAMES = {"\x1b[A": "up", "\x1b[B": "down", "\x1bOA": "up", "\x1bOB": "down", "k": "up", "j": "down"}


class Keyboard:
    """Reads keys; where there is no terminal to read from there are none."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def press(self, timeout: float) -> list[str]:
        """Return the keys pressed meanwhile: "up", "down" or a character.

        Args:
            timeout: seconds to wait for one.
        """
        if self._descriptor is None:
            time.sleep(timeout)
            return []
        ready, _, _ = select.select([self._descriptor], [], [], timeout)
        text = os.read(self._descriptor, 64).decode("ascii", "replace") if ready else ""
        if ready and not text:
            self._descriptor = None  # the terminal has gone
        return list(keys(text))


def keys(text: str) -> Iterator[str]:
    """Return the names of what a terminal sends."""
    while text:
        length = 3 if text[:3] in _NAMES else 1
        yield _NAMES.get(text[:length], text[:length])
        text = text[length:]


@contextlib.contextmanager
def keyboard() -> Iterator[Keyboard]:
    """Let standard input give keys one by one, and nothing be echoed, for as long as the block lasts."""
    try:
        import termios  # noqa: PLC0415  # not on every system
        import tty  # noqa: PLC0415  # as above
    except ImportError:
        yield Keyboard(None)
        return
    if not sys.stdin.isatty():
        yield Keyboard(None)
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield Keyboard(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)

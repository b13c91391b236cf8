"""What work takes, counted: function calls and memory, which are the same on a busy machine and on an idle one."""

from __future__ import annotations

import gc
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NamedTuple, Self

import grpc

import grpc_faultwire

OURS = str(Path(grpc_faultwire.__file__).parent)
_THEIRS = (str(Path(grpc.__file__).parent), str(Path(__file__).parent))
_FILTERS = [tracemalloc.Filter(True, f"{OURS}/*")]


class Calls(NamedTuple):
    """How many functions were called.

    Attributes:
        ours: functions of our package.
        caused: all that ours called, be they ours, another package's or C's; grpc's would be called without us too.
    """

    ours: int
    caused: int


class CallCounter:
    """Counts in all threads that are started while it is entered, when it is told to.

    What is called inside grpc, even by us, is not counted: how often its threads wake depends on the machine.
    """

    def __init__(self) -> None:
        self._on = False
        # Appending is atomic; adding is not.
        self._ours: list[None] = []
        self._caused: list[None] = []

    def __enter__(self) -> Self:
        threading.setprofile(self._hook)
        sys.setprofile(self._hook)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def count(self, work: Callable[[], object]) -> Calls:
        """Return what was called meanwhile."""
        self._ours.clear()
        self._caused.clear()
        self._on = True
        try:
            work()
        finally:
            self._on = False
        return Calls(len(self._ours), len(self._caused))

    def _hook(self, frame: FrameType, event: str, _argument: Any) -> None:
        if not self._on or event not in ("call", "c_call"):
            return
        if event == "call" and frame.f_code.co_filename.startswith(OURS):
            self._ours.append(None)
            self._caused.append(None)
        elif _caused(frame):
            self._caused.append(None)


def _caused(frame: FrameType | None) -> bool:
    """Whether one of our functions stands nearer than one of grpc's or of the benchmark's."""
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(OURS):
            return True
        if name.startswith(_THEIRS):
            return False
        frame = frame.f_back
    return False


def held() -> int:
    """Return the bytes that lines of our package have allocated, and that are still alive."""
    return sum(one.size for one in tracemalloc.take_snapshot().filter_traces(_FILTERS).statistics("filename"))


def peak(work: Callable[[], object]) -> int:
    """Return the most bytes that were alive at once beyond those alive before."""
    gc.collect()
    gc.disable()
    try:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        gc.enable()

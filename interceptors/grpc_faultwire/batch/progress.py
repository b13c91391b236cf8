"""`ProgressBar`: how far a batch is, drawn on a terminal by rich (the extra ``cli``), elsewhere as plain lines."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self, TextIO

from grpc_faultwire.batch.result import Progress

LINES = 10
"""Lines for a batch whose size is known where there is no terminal; of others each doubling is told."""


class ProgressBar:
    """Shows how far a batch is. Use it in ``with``, and give it to a `BatchCaller` as ``on_progress``.

    Args:
        title: what is going on, such as "import".
        console: rich's, to draw on one that there is already. None: one for the stream.
        stream: where it goes. Default: standard error, so that standard output stays free for results.
    """

    def __init__(self, title: str = "batch", *, console: Any = None, stream: TextIO | None = None) -> None:
        self._title = title
        self._stream = stream or sys.stderr
        self._bar, self._task = self._drawn(console)
        self._shown = -1

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        """Show how far it is now."""
        done = progress.ok + progress.failed + progress.unknown
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=progress.total, told=summary(progress))
            return
        # The end is always shown, and what is between once for each part of the way.
        part = done.bit_length() if progress.total is None else LINES * done // max(1, progress.total)
        if part > self._shown:
            self._shown = part
            of = f" of {progress.total:,}" if progress.total is not None else ""
            self._stream.write(f"{self._title}  {done:,}{of}  {summary(progress)}\n")
            self._stream.flush()

    def _drawn(self, console: Any) -> tuple[Any, Any]:
        """Return rich's bar and the number of its task; None where there is no terminal, or no rich."""
        try:
            from rich import console as consoles  # noqa: PLC0415  # an extra, which the core does without
            from rich import progress as bars  # noqa: PLC0415  # as above
        except ImportError:
            return None, None
        console = console or consoles.Console(file=self._stream)
        if not console.is_terminal:
            return None, None
        bar = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(bar_width=30),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.fields[told]}"),
            bars.TimeElapsedColumn(),
            console=console,
        )
        return bar, bar.add_task(self._title, total=None, told="")


def summary(progress: Progress) -> str:
    """Return the numbers that are not 0, in words."""
    numbers = (
        ("ok", progress.ok),
        ("failed", progress.failed),
        ("unknown", progress.unknown),
        ("to be sent again", progress.waiting),
        ("calls", progress.requests),
    )
    return ", ".join(f"{number:,} {name}" for name, number in numbers if number)

"""How far a batch is: lines in a pipe, a bar on a terminal, and lines where rich is not there."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from rich.console import Console

from grpc_faultwire.batch import Progress, ProgressBar


def progress(done: int, total: int | None = 1000, **numbers: int) -> Progress:
    told = {"failed": 0, "unknown": 0, "in_flight": 0, "waiting": 0, "requests": 1} | numbers
    return Progress(total=total, ok=done - told["failed"] - told["unknown"], **told)


def lines(*reports: Progress) -> list[str]:
    stream = io.StringIO()
    with ProgressBar("books", stream=stream) as bar:
        for report in reports:
            bar(report)
    return stream.getvalue().splitlines()


def test_a_pipe_gets_a_line_for_each_tenth() -> None:
    """However many requests there are; the last one is there."""
    told = lines(*(progress(done) for done in range(0, 1001, 10)))
    assert len(told) == 11
    assert told[0] == "books  0 of 1,000  1 calls"
    assert told[-1] == "books  1,000 of 1,000  1,000 ok, 1 calls"


def test_a_batch_of_unknown_size_gets_a_line_for_each_doubling() -> None:
    """An endless one does not fill a log."""
    assert len(lines(*(progress(done, None) for done in range(1000)))) == 11


def test_only_numbers_that_are_not_0_are_told() -> None:
    """In words."""
    assert lines(progress(9, failed=2, unknown=1, waiting=4, requests=3)) == [
        "books  9 of 1,000  6 ok, 2 failed, 1 unknown, 4 to be sent again, 3 calls"
    ]


def test_a_terminal_gets_a_bar() -> None:
    """Drawn over itself, with the same words."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120, legacy_windows=False)
    with ProgressBar("books", console=console) as bar:
        bar(progress(500, failed=3))
        bar(progress(1000, failed=3))
    assert "1000/1000" in stream.getvalue()
    assert "997 ok, 3 failed" in stream.getvalue()


def test_without_rich_a_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is needed for the bar alone."""
    for name in [one for one in sys.modules if one.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    assert lines(progress(1000)) == ["books  1,000 of 1,000  1,000 ok, 1 calls"]


def test_batches_do_not_import_rich() -> None:
    """Only a bar that is made does."""
    code = "import sys, grpc_faultwire.batch.sync, grpc_faultwire.batch.aio; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

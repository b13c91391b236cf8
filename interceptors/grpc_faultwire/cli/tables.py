"""Tables: as rich draws them on a terminal, else as aligned columns."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from grpc_faultwire.cli.terminal import Painter
from grpc_faultwire.redaction import escaped

MAX_WIDTH = 120
"""Columns that a table may take on a terminal."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]], paint: Painter) -> Iterator[str]:
    """Return the lines of a table.

    Args:
        head: the columns' names.
        rows: a text for each column.
        paint: without colours, columns are only aligned.
    """
    plain = [[escaped(cell) for cell in row] for row in rows]
    if paint.on:
        try:
            yield from _drawn(head, plain)
        except ImportError:
            yield from _aligned(head, plain)
    else:
        yield from _aligned(head, plain)


def _drawn(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    # Imported where it is used: it is an extra, and takes longer than all that most commands do.
    from rich import box, console, table, text  # noqa: PLC0415

    drawn = table.Table(box=box.SIMPLE_HEAD, header_style="bold cyan")
    for name in head:
        drawn.add_column(name, overflow="fold")
    for row in rows:
        drawn.add_row(*(text.Text(cell) for cell in row))
    output = console.Console(file=io.StringIO(), force_terminal=True, width=MAX_WIDTH, legacy_windows=False)
    with output.capture() as captured:
        output.print(drawn)
    yield from (line.rstrip() for line in captured.get().rstrip("\n").split("\n"))


def _aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    lines = [list(head), *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()

"""The live view: a `Board` as rich draws it. Needs the extra."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from grpc_faultwire.cli.board import BREAKER_HEAD, BUDGET_HEAD, GROUP_HEAD, HELP, Board
from grpc_faultwire.redaction import escaped

WIDE = 130
"""Columns from which all of a group's columns have room."""
FIRST_TO_GO = ("first", "where", "code")
"""The columns that a narrower terminal does without."""
LEAST = 8
"""Lines that groups of errors get in any terminal."""

_STATES = {"closed": "green", "open": "bold red", "half open": "yellow", "forced open": "bold red reverse"}


def draw(board: Board, target: str, console: Console) -> Group:
    """Return what a terminal shows."""
    breakers, budgets = _breakers(board), _table(BUDGET_HEAD, board.budgets())
    # What is below is drawn whole, and the groups get the lines that are left.
    below = len(board.breakers()) + len(board.budgets()) + 12
    rows = board.groups()[: max(LEAST, console.height - below)]
    return Group(
        Text.assemble((escaped(target), "bold cyan"), "  ", board.title()),
        Text(escaped(board.stale), "bold red"),
        _groups(rows, wide=console.width >= WIDE) if rows else Text("No errors.", "green"),
        *([breakers] if board.breakers() else []),
        *([budgets] if board.budgets() else []),
        Text(escaped(board.question() or board.news) or " ", "bold yellow"),
        Text(HELP, "dim"),
    )


def _groups(rows: Sequence[Sequence[str]], *, wide: bool) -> Table:
    shown = [number for number, name in enumerate(GROUP_HEAD) if wide or name not in FIRST_TO_GO]
    table = _table([GROUP_HEAD[number] for number in shown], [[row[number] for number in shown] for row in rows])
    for column, number in zip(table.columns, shown, strict=True):
        column.justify = "right" if GROUP_HEAD[number] in ("count", "per s", "first", "last") else "left"
    return table


def _breakers(board: Board) -> Table:
    table = _table(BREAKER_HEAD, [])
    for name, state, *others in board.breakers():
        chosen = name == board.chosen
        style = next((style for word, style in _STATES.items() if state.startswith(word)), "")
        cells = [Text(f"{'▶' if chosen else ' '} {escaped(name)}", "bold" if chosen else ""), Text(state, style)]
        table.add_row(*cells, *map(Text, others))
    return table


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(*head, box=box.SIMPLE_HEAD, header_style="bold cyan", padding=(0, 1, 0, 0))
    for column in table.columns:
        column.no_wrap, column.overflow = True, "ellipsis"
    for row in rows:
        table.add_row(*(Text(escaped(cell)) for cell in row))
    return table

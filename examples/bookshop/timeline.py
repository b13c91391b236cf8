"""Shows act two: a timeline that grows while it is played, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from rich.live import Live
from rich.table import Table
from rich.text import Text

from examples.bookshop.moods import DOWN, FLAKY, WELL
from examples.bookshop.screen import WIDE, Screen
from examples.bookshop.storm import Outcome, Row, attempts_per_call, success
from grpc_faultwire.policies import BreakerState

Column = tuple[str, str, int, Callable[[Row], object]]
COLUMNS: Sequence[Column] = (
    ("", "calls", 5, lambda row: row.naive["calls"]),
    ("naive", "ok", 4, lambda row: row.naive["succeeded"]),
    ("", "attempts", 8, lambda row: row.naive["attempts"]),
    ("", "calls", 6, lambda row: row.ours["calls"]),
    ("ours", "ok", 4, lambda row: row.ours["succeeded"]),
    ("", "attempts", 8, lambda row: row.ours["attempts"]),
    ("", "retries", 7, lambda row: row.ours["retries"]),
    ("", "tokens", 6, lambda row: f"{row.tokens:.0f}"),
    ("", "rejected", 8, lambda row: row.ours["rejected"]),
)
"""Whose it is, what it is, its width, and where it comes from."""
STYLES = {WELL: "green", FLAKY: "yellow", DOWN: "bold red"}
STATES = {BreakerState.CLOSED: "green", BreakerState.HALF_OPEN: "yellow", BreakerState.OPEN: "bold red"}
BREAKER_WIDTH = len("half_open > closed")
ATTEMPTS_PER_BLOCK = 6
FRAME = 6
"""Lines of a terminal that hold no row: titles, rules and what stands below."""


def show_rows(screen: Screen, rows: Iterable[tuple[Row, bool]]) -> list[Row]:
    """Show rows as they come; return those that are complete."""
    return _print(rows) if screen.piped else _animate(screen, rows)


def _print(rows: Iterable[tuple[Row, bool]]) -> list[Row]:
    done: list[Row] = []
    print()
    print(f"   {'':7}  {'':5}" + _aligned(whose for whose, *_ in COLUMNS))
    print(f"   seconds  {'shop':<5}" + _aligned(title for _, title, *_ in COLUMNS) + "  breaker", flush=True)
    for row, complete in rows:
        if complete:
            done.append(row)
            numbers = _aligned(value(row) for *_, value in COLUMNS)
            print(f"   {row.begins:7.1f}  {row.mood:<5}{numbers}  {_path(row)}", flush=True)
    print()
    return done


def _aligned(cells: Iterable[object]) -> str:
    return "".join(f"  {cell!s:>{width}}" for cell, (_, _, width, _) in zip(cells, COLUMNS, strict=True)).rstrip()


def _animate(screen: Screen, rows: Iterable[tuple[Row, bool]]) -> list[Row]:
    done: list[Row] = []
    with Live(console=screen.console, auto_refresh=False) as live:
        for row, complete in rows:
            # A live table is cut at its end, where the news is; so in a low terminal the oldest rows go.
            room = max(1, screen.console.height - FRAME)
            live.update(_table([*done, row][-room:], wide=screen.console.width >= WIDE), refresh=True)
            if complete:
                done.append(row)
        live.update(_table(done, wide=screen.console.width >= WIDE), refresh=True)
    return done


def _table(rows: Iterable[Row], *, wide: bool) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="cyan")
    table.add_column("\ns", justify="right", no_wrap=True)
    table.add_column("\nshop", no_wrap=True)
    for whose, title, *_ in _shown(wide=wide):
        table.add_column(f"{whose}\n{title}", justify="right", no_wrap=True)
    table.add_column("\nbreaker", min_width=BREAKER_WIDTH if wide else 0)
    if wide:
        table.add_column(Text("load: ours,\n", "green") + Text("and naive", "red"), no_wrap=True, min_width=14)
    for row in rows:
        table.add_row(*_cells(row, wide=wide))
    return table


def _cells(row: Row, *, wide: bool) -> Iterator[Text]:
    yield Text(f"{row.begins:.1f}", "dim")
    yield Text(row.mood, STYLES[row.mood])
    for *_, value in _shown(wide=wide):
        yield Text(str(value(row)))
    yield Text(_path(row) if wide else row.breaker[-1].value, STATES.get(row.breaker[-1], ""))
    if wide:
        yield _bar(row)


def _shown(*, wide: bool) -> Sequence[Column]:
    # What has to go for 80 columns: both callers make as many calls.
    return COLUMNS if wide else COLUMNS[1:]


def _bar(row: Row) -> Text:
    """Draw what the naive caller sent, the part in green being as much as ours sent."""
    naive, ours = (-(-counts["attempts"] // ATTEMPTS_PER_BLOCK) for counts in (row.naive, row.ours))
    return Text("▬" * ours, "green") + Text("▬" * (naive - ours), "red")


def _path(row: Row) -> str:
    return " > ".join(state.value for state in row.breaker)


def show_outcome(screen: Screen, outcome: Outcome) -> None:
    """Show what came of it for either caller."""
    lines = [("", "naive", "ours"), *_lines(outcome)]
    if screen.piped:
        for what, naive, ours in lines:
            print(f"   {what:<46}{naive:>12}{ours:>12}", flush=True)
        return
    table = Table(*lines[0], box=None, padding=(0, 1), header_style="cyan")
    for column in table.columns[1:]:
        column.justify = "right"
    for what, naive, ours in lines[1:]:
        table.add_row(what, naive, Text(ours, "bold"))
    screen.console.print(table)


def _lines(outcome: Outcome) -> Iterator[tuple[str, str, str]]:
    flaky, down = outcome.flaky, outcome.down
    yield f"succeeded while flaky (bare calls: {flaky.bare:.0%})", *(f"{success(one):.1%}" for one in flaky)
    yield "attempts that the shop saw during the outage", *(str(one["attempts"]) for one in down)
    yield "that is, attempts for each call", *(f"{attempts_per_call(one):.2f}" for one in down)
    yield "first answer after the recovery", _seconds(outcome.naive_back), _seconds(outcome.ours_back)
    yield "circuit closed after the recovery", "-", _seconds(outcome.closed_after)


def _seconds(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.2f} s"

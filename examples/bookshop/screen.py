"""Shows a scene: in a wide terminal side by side, in a narrow one and in a pipe one below the other."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from examples.bookshop import orders, service, stock
from examples.bookshop.players import METHODS, Evidence
from examples.bookshop.scenes import Scene
from faultwire.v1 import errors_pb2

WIDE = 112
"""Columns from which there is room for three side by side."""
SOURCE_WIDTH = 36
MAX_LOGGED = 560
"""Characters of a log line that a terminal shows; a pipe gets all."""


@dataclass(frozen=True)
class Line:
    text: str
    style: str = ""


@dataclass(frozen=True, kw_only=True)
class View:
    """A scene as it is shown: what happened in one world, and that the other agrees."""

    title: str
    story: str
    raised: Sequence[Line]
    travelled: Sequence[Line]
    caught: Sequence[Line]
    does: Sequence[Line]
    logged: Line
    error_id: str
    worlds: str

    @classmethod
    def of(cls, number: int, scene: Scene, shown: Evidence, other: Evidence) -> View:
        return cls(
            title=f"{number}  {scene.title}",
            story=scene.story,
            raised=source_of(scene.source),
            travelled=list(_travelled(scene, shown)),
            caught=list(_caught(shown)),
            does=[Line(text, "green") for text in scene.does(shown)],
            logged=Line(shown.logged, "dim"),
            error_id=shown.error.error_id,
            worlds=" · ".join(f"{seen.world} {seen.seconds * 1000:.0f} ms" for seen in (shown, other)) + " · alike",
        )


def source_of(fragment: str) -> list[Line]:
    """Return the line of the server's source that has this in it, and where it stands."""
    for module in (service, orders, stock):
        for number, line in enumerate(inspect.getsource(module).splitlines(), start=1):
            if fragment in line:
                place = f"{module.__name__.rpartition('.')[2]}.py:{number}"
                return [*(Line(part, "bold") for part in _split(line.strip())), Line(place, "dim")]
    raise LookupError(f"no line of the server has {fragment!r}")


def _split(code: str) -> list[str]:
    """Put each argument of a long call on a line of its own."""
    source = f"def f():\n {code}"
    call = next(node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    arguments = [ast.get_source_segment(source, one) for one in (*call.args, *call.keywords)]
    if len(code) <= SOURCE_WIDTH:
        return [code]
    head = code[: code.index("(") + 1]
    return [head, *(f"    {argument}," for argument in arguments[:-1]), f"    {arguments[-1]})"]


def _travelled(scene: Scene, seen: Evidence) -> Iterator[Line]:
    if METHODS[scene.method].server_streaming and seen.received:
        yield Line(f"{len(seen.received)} messages, then")
    details = [(packed.type_url.rpartition(".")[2], len(packed.value)) for packed in seen.status.details]
    yield Line(seen.error.code().name, "bold")
    for name, size in details:
        yield Line(f"{name:<21}{size:>6,} B")
    others = [(key, value) for key, value in seen.trailers.items() if key != "grpc-status-details-bin"]
    for key, value in others:
        yield Line(f"{key} {value}")
    yield Line(f"{'in all, as base64':<21}{seen.details_size:>6,} B" if details else "no details", "dim")
    yield from _truncated(seen.error.report)


def _truncated(report: errors_pb2.ErrorReport | None) -> Iterator[Line]:
    if report is not None and report.HasField("truncation"):
        yield Line(f"{'whole, it had':<21}{report.truncation.original_bytes:>6,} B", "dim")
        yield Line(f"cut: {', '.join(report.truncation.dropped)}", "yellow")


def _caught(seen: Evidence) -> Iterator[Line]:
    error = seen.error
    yield Line(type(error).__name__, "bold")
    yield Line(error.message)
    yield Line(f"category  {error.category.name}, fault {error.fault.name}")
    yield Line(f"origin    {error.origin.name}, retry scope {error.retry_scope.name}")
    if error.reason != error.code().name:
        yield Line(f"reason    {error.reason}")
    if error.metadata:
        yield Line("metadata  " + ", ".join(f"{key}={value}" for key, value in sorted(error.metadata.items())))
    if error.retry_delay is not None:
        yield Line(f"delay     {error.retry_delay:.3g} s before any retry")
    if error.error_id:
        yield Line(f"error id  {error.error_id}")


class Screen:
    """Where the demo is seen; it decides for itself how much it can show.

    Attributes:
        console: a terminal, if it is one.
        piped: whether it is none: plain lines then.
    """

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self.piped = not sys.stdout.isatty()

    def say(self, text: str, style: str = "") -> None:
        if self.piped:
            print(text, flush=True)
        else:
            self.console.print(Text(text, style))

    def show(self, view: View) -> None:
        if self.piped:
            print("\n".join(_plain(view)), flush=True)
        else:
            self.console.print(_panel(view, wide=self.console.width >= WIDE))


LABELS = ("raised", "travelled", "caught", "so it", "logged")


def _parts(view: View) -> list[tuple[str, Sequence[Line]]]:
    return list(zip(LABELS, (view.raised, view.travelled, view.caught, view.does, [view.logged]), strict=True))


def _plain(view: View) -> Iterator[str]:
    yield ""
    yield f"{view.title}  ({view.worlds})"
    yield f"   {view.story}"
    for label, lines in _parts(view):
        for number, line in enumerate(lines):
            yield f"   {label if number == 0 else '':<10} {line.text}"


def _panel(view: View, *, wide: bool) -> Panel:
    body = [_side_by_side(view), _stacked(view, LABELS[3:])] if wide else [_stacked(view, LABELS)]
    return Panel(
        Group(Text(view.story, "italic"), Text(), *body),
        title=Text(view.title, "bold cyan"),
        title_align="left",
        subtitle=Text(view.worlds, "dim"),
        subtitle_align="right",
        border_style="cyan",
    )


def _side_by_side(view: View) -> Table:
    table = Table(box=None, expand=True, padding=(0, 2, 0, 0), header_style="cyan")
    table.add_column("the handler raised", ratio=1, overflow="fold")
    table.add_column("what travelled", width=30)
    table.add_column("the caller caught", width=43, overflow="fold")
    table.add_row(*(_text(lines, view) for lines in (view.raised, view.travelled, view.caught)))
    return table


def _stacked(view: View, labels: Sequence[str]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for label, lines in _parts(view):
        if label in labels:
            table.add_row(label, _text(lines, view))
    return table


def _text(lines: Sequence[Line], view: View) -> Text:
    text = Text("\n").join(Text(_shortened(line.text), line.style) for line in lines)
    if view.error_id:
        # The same colour on both sides: that is how the one is found in the other.
        text.highlight_words([view.error_id], "bold magenta")
    return text


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_LOGGED else f"{text[:MAX_LOGGED]}…"

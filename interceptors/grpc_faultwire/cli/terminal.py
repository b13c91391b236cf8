"""What all commands share: exit codes, colours, trees of facts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

from grpc_faultwire.redaction import escaped

FINE = 0
"""Exit code: nothing to complain of."""
FOUND = 1
"""Exit code: there is something to look at."""
RUBBISH = 2
"""Exit code: the input or the arguments make no sense; a sentence on standard error says why."""

_COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


class Problem(Exception):
    """What is wrong with the input, as a sentence for standard error. The exit code is `RUBBISH`."""


class Painter:
    """Colours text, if anybody sees it.

    Args:
        choice: "always", "never", or "auto": when `stream` is a terminal and NO_COLOR is not set.
        stream: where the text goes.
    """

    def __init__(self, choice: str, stream: TextIO | None = None) -> None:
        seen = (stream or sys.stdout).isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        self.on = seen if choice == "auto" else choice == "always"

    def __call__(self, text: str, *colours: str) -> str:
        """Return text in these colours: bold, dim, red, green, yellow, cyan."""
        if not self.on or not text:
            return text
        return f"\x1b[{';'.join(_COLOURS[colour] for colour in colours)}m{text}\x1b[0m"


def say(text: str) -> None:
    """Write a line to standard output; what the terminal's encoding lacks is escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def complain(text: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(f"faultwire: {text}\n")


def tree(facts: Mapping[str, Any], paint: Painter, *, branches: bool = True) -> Iterator[str]:
    """Return the lines of nested facts.

    Args:
        facts: by name; a value is text, a number, a mapping or a sequence of these.
        paint: colours the names.
        branches: draw them; else lines are only indented.
    """
    yield from _branches(list(facts.items()), "", paint, branches=branches)


def _branches(items: Sequence[tuple[str, Any]], indent: str, paint: Painter, *, branches: bool) -> Iterator[str]:
    for number, (name, value) in enumerate(items, 1):
        last = number == len(items)
        stem, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
        if not branches:
            stem, below = "", "  "
        label = paint(escaped(name), "cyan")
        nested = _items(value)
        if nested is None:
            yield (
                f"{indent}{paint(stem, 'dim')}{label}: {escaped(str(value))}"
                if name
                else (f"{indent}{paint(stem, 'dim')}{escaped(str(value))}")
            )
        else:
            yield f"{indent}{paint(stem, 'dim')}{label}"
            yield from _branches(
                nested, indent + (paint(below, "dim") if branches else below), paint, branches=branches
            )


def _items(value: Any) -> list[tuple[str, Any]] | None:
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_named(item) for item in value]
    return None


def _named(item: Any) -> tuple[str, Any]:
    # A mapping that says what it is gives its branch the name.
    if isinstance(item, Mapping) and item:
        (_, title), *rest = item.items()
        return (str(title), dict(rest)) if rest else ("", title)
    return "", item

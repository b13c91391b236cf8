"""Python expressions, laid out as ruff and black lay them out, so that formatters leave generated modules alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 88
"""The line length of ruff and black. What is broken here ends in commas, so wider settings leave it alone too."""

_INDENT = "    "


@dataclass(frozen=True, slots=True)
class Brackets:
    """Something with items in brackets: a call, a tuple or a dict.

    Attributes:
        opening: "Catalogue(".
        items: each with what stands before it, such as "domain=".
        closing: ")".
        single: what follows a single item on the same line: a tuple's comma.
    """

    opening: str
    items: Sequence[tuple[str, Expression]]
    closing: str
    single: str = ""

    def __str__(self) -> str:
        comma = self.single if len(self.items) == 1 else ""
        return f"{self.opening}{', '.join(f'{before}{item}' for before, item in self.items)}{comma}{self.closing}"


Expression = str | Brackets


def call(name: str, *items: Expression, **named: Expression | None) -> Brackets:
    """Return a call; named arguments that are None are left out."""
    given = [(f"{key}=", value) for key, value in named.items() if value is not None]
    return Brackets(f"{name}(", [*(("", item) for item in items), *given], ")")


def sequence(items: Sequence[Expression]) -> Brackets:
    """Return a tuple."""
    return Brackets("(", [("", item) for item in items], ")", single=",")


def mapping(items: Sequence[tuple[str, Expression]]) -> Brackets:
    """Return a dict whose keys are strings."""
    return Brackets("{", [(f"{quoted(key)}: ", value) for key, value in items], "}")


def lay_out(expression: Expression, *, before: str = "", after: str = "", indent: str = "") -> list[str]:
    """Return the lines of an expression: one if it fits, else one for each item.

    Args:
        expression: what to write.
        before: stands in front of it on its first line, such as "x = ".
        after: stands behind it on its last line, such as ",".
        indent: of all its lines.
    """
    line = f"{indent}{before}{expression}{after}"
    if isinstance(expression, str) or not expression.items or len(line) <= WIDTH:
        return [line]
    inner = indent + _INDENT
    lines = [f"{indent}{before}{expression.opening}"]
    for prefix, item in expression.items:
        lines += lay_out(item, before=prefix, after=",", indent=inner)
    return [*lines, f"{indent}{expression.closing}{after}"]


def quoted(text: str) -> str:
    """Return a string literal with the quotes that need fewer escapes; double ones if that is equal."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    return quote + "".join(f"\\{quote}" if char == quote else _escaped(char) for char in text) + quote


def _escaped(char: str) -> str:
    return char if char in "'\"" else repr(char)[1:-1]

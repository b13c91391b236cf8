"""What the simulations found, as text: a table for each case, and what was demanded of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping

from .cases import Bound, Case
from .record import Record


def shown(value: float) -> str:
    """A figure for people."""
    return "never" if math.isinf(value) else f"{value:.4g}"


def verdicts(case: Case, records: Mapping[str, Record]) -> Iterator[tuple[Bound, str, bool]]:
    """Each bound of a case, what was measured, and whether every run kept it."""
    for bound in case.bounds:
        values = records[bound.stack.name].figures[bound.figure]
        mean = f"on average {shown(statistics.fmean(values))}, " if bound.on_average else ""
        yield bound, f"{mean}{shown(min(values))} to {shown(max(values))} in {len(values)} runs", bound.holds(values)


def demand(bound: Bound) -> str:
    """What is demanded, in symbols."""
    return f">= {shown(bound.least)}" if bound.least > -math.inf else f"<= {shown(bound.most)}"


def table(case: Case, records: Mapping[str, Record]) -> str:
    """The medians of a case, a row for each set of policies."""
    figures = list(next(iter(records.values())).figures)
    lines = [f"\n{case.name}: {case.title}", f"{'':36}" + "".join(f"{figure:>17}" for figure in figures) + "    runs"]
    for name, record in records.items():
        medians = "".join(f"{shown(statistics.median(record.figures[figure])):>17}" for figure in figures)
        lines.append(f"{name:36}{medians}{len(record.figures[figures[0]]):>8}")
    for bound, measured, kept in verdicts(case, records):
        mark = "ok    " if kept else "MISSED"
        lines.append(f"  {mark} {bound.stack.name}: {bound.figure} {demand(bound)}: {measured}")
    return "\n".join(lines)

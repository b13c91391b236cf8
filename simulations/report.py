"""What a simulation leaves behind: a table, a JSON file, and plots as SVG."""

from __future__ import annotations

import json
import math
import pathlib
import statistics
from collections.abc import Iterable

from .cases import Case
from .client import Stack
from .runs import Runs

COLOURS = ("#888888", "#c0392b", "#e67e22", "#8e44ad", "#2980b9", "#16a085", "#7f8c8d", "#27ae60", "#2c3e50")
WIDTH, HEIGHT, LEFT, TOP = 640, 220, 50, 30


def shown(value: float) -> str:
    """A figure for people."""
    return "never" if math.isinf(value) else f"{value:.4g}"


def verdicts(case: Case, runs: Runs) -> list[tuple[str, bool]]:
    """Each bound of a case as a sentence, and whether every run kept it."""
    found = []
    for bound in case.bounds:
        values = [result.figures[bound.figure] for result in runs[case.name, bound.stack.name]]
        demand = f">= {shown(bound.least)}" if bound.least > -math.inf else f"<= {shown(bound.most)}"
        mean = f"on average {shown(statistics.fmean(values))}, " if bound.on_average else ""
        measured = f"{mean}{shown(min(values))} to {shown(max(values))} in {len(values)} runs"
        found.append((f"{bound.stack.name}: {bound.figure} {demand}: {measured}", bound.holds(values)))
    return found


def table(case: Case, stacks: Iterable[Stack], runs: Runs) -> str:
    """The medians of a case, a row for each set of policies."""
    rows = [(stack.name, runs[case.name, stack.name]) for stack in stacks]
    figures = list(rows[0][1][0].figures)
    lines = [f"\n{case.name}: {case.title}", f"{'':36}" + "".join(f"{figure:>17}" for figure in figures) + "    runs"]
    for name, results in rows:
        medians = (statistics.median(result.figures[figure] for result in results) for figure in figures)
        lines.append(f"{name:36}" + "".join(f"{shown(median):>17}" for median in medians) + f"{len(results):>8}")
    for sentence, kept in verdicts(case, runs):
        lines.append(f"  {'ok    ' if kept else 'MISSED'} {sentence}")
    return "\n".join(lines)


def write_json(path: pathlib.Path, cases: Iterable[Case], runs: Runs) -> None:
    """All figures of all runs; what never happens is null."""
    document = {
        case.name: {
            "title": case.title,
            "runs": {
                name: [
                    {figure: None if math.isinf(value) else round(value, 6) for figure, value in result.figures.items()}
                    for result in results
                ]
                for (of, name), results in runs.items()
                if of == case.name
            },
            "bounds": [{"bound": sentence, "kept": kept} for sentence, kept in verdicts(case, runs)],
        }
        for case in cases
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def write_plot(path: pathlib.Path, case: Case, stacks: Iterable[Stack], runs: Runs) -> None:
    """Success and load of one run over time, a line for each set of policies."""
    firsts = [(stack.name, runs[case.name, stack.name][0]) for stack in stacks]
    height = 2 * HEIGHT + 20 * len(firsts) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"',
        ' font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        *_panel("calls begun in this second that succeed", [result.success for _, result in firsts], 0, 1.0),
        *_panel("attempts sent per call begun", [result.load for _, result in firsts], HEIGHT, 4.2),
    ]
    for n, (name, _) in enumerate(firsts):
        y, colour = 2 * HEIGHT + 20 * n + 10, COLOURS[n % len(COLOURS)]
        parts.append(f'<path d="M{LEFT} {y}h30" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{LEFT + 40}" y="{y + 4}">{name}</text>')
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")


def _panel(title: str, series: list[list[float]], y: int, top: float) -> list[str]:
    """Axes and lines of one plot."""
    wide, tall = WIDTH - LEFT - 20, HEIGHT - TOP - 30
    base = y + TOP + tall
    seconds = len(series[0])
    parts = [
        f'<text x="{LEFT}" y="{y + 20}" font-weight="bold">{title}</text>',
        f'<path d="M{LEFT} {y + TOP}v{tall}h{wide}" fill="none" stroke="black"/>',
        f'<text x="{LEFT - 8}" y="{y + TOP + 8}" text-anchor="end">{top:g}</text>',
        f'<text x="{LEFT - 8}" y="{base}" text-anchor="end">0</text>',
        f'<text x="{LEFT + wide}" y="{base + 16}" text-anchor="end">{seconds} s</text>',
    ]
    for n, values in enumerate(series):
        points = " ".join(
            f"{LEFT + wide * second / seconds:.1f},{base - tall * min(value, top) / top:.1f}"
            for second, value in enumerate(values)
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[n % len(COLOURS)]}" opacity="0.8"/>')
    return parts

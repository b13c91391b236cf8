"""Interleaved rounds (A B A B …), CPU time, medians and their spread: one time on a shared machine says little."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple


class Figure(NamedTuple):
    """Microseconds of CPU for one call: the median of the rounds, and the middle half of them."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.1f} ({self.low:.1f}-{self.high:.1f})"


def figure(samples: list[float]) -> Figure:
    low, median, high = statistics.quantiles(samples, n=4) if len(samples) > 1 else samples * 3
    return Figure(median, low, high)


def rounds_of(cases: Mapping[str, Callable[[int], float]], *, rounds: int, number: int) -> dict[str, list[float]]:
    """Measure cases in turn.

    Args:
        cases: each runs so many calls and returns the CPU seconds that they took.
        rounds: how often each case is measured.
        number: calls in a round.

    Returns:
        Microseconds for one call: of each case a sample for each round.
    """
    samples: dict[str, list[float]] = {name: [] for name in cases}
    for case in cases.values():
        case(max(1, number // 5))
    gc.collect()
    for _ in range(rounds):
        for name, case in cases.items():
            samples[name].append(case(number) / number * 1e6)
    return samples


def interleave(cases: Mapping[str, Callable[[int], float]], *, rounds: int, number: int) -> dict[str, Figure]:
    """Measure cases in turn, as `rounds_of`; return the figure of each."""
    return {name: figure(values) for name, values in rounds_of(cases, rounds=rounds, number=number).items()}


def in_process(function: Callable[[], object]) -> Callable[[int], float]:
    """Return a case that measures a function of this process."""

    def case(number: int) -> float:
        started = time.process_time()
        for _ in range(number):
            function()
        return time.process_time() - started

    return case


def table(title: str, figures: Mapping[str, Figure], base: str | None = None) -> str:
    """Return a Markdown table; with a base, each row says how much more it takes."""
    lines = [f"### {title}", "", "| case | µs CPU, median (middle half) | against the first |", "|---|---|---|"]
    for name, found in figures.items():
        more = "" if base is None or name == base else f"{found.median - figures[base].median:+.1f}"
        lines.append(f"| {name} | {found} | {more} |")
    return "\n".join([*lines, ""])

"""Success and load over time, as SVG; written by hand, since the environment of the tests has nothing that draws."""

from __future__ import annotations

from collections.abc import Mapping

from .record import Record

COLOURS = ("#888888", "#c0392b", "#e67e22", "#8e44ad", "#2980b9", "#16a085", "#b7950b", "#27ae60", "#2c3e50")
WIDTH, HEIGHT, LEFT, TOP = 640, 220, 50, 30
WIDE, TALL = WIDTH - LEFT - 20, HEIGHT - TOP - 30
MOST_LOAD = 4.2


def plot(title: str, records: Mapping[str, Record], trouble: tuple[int, int] | None) -> str:
    """Draw the first run of each set of policies, a line in each of two panels, behind them the time of the trouble."""
    height = 2 * HEIGHT + 20 * len(records) + 20
    kept = list(records.values())
    seconds = kept[0].every * len(kept[0].success)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"',
        ' font-family="sans-serif" font-size="11">',
        f"<title>{title}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        *_shade(trouble, seconds, 0),
        *_panel("Goodput: share of the calls begun that succeed", [one.success for one in kept], seconds, 0, 1.0),
        *_shade(trouble, seconds, HEIGHT),
        *_panel("Load: attempts sent for each call begun", [one.load for one in kept], seconds, HEIGHT, MOST_LOAD),
    ]
    for n, name in enumerate(records):
        y = 2 * HEIGHT + 20 * n + 10
        parts.append(f'<path d="M{LEFT} {y}h30" stroke="{colour(n)}" stroke-width="3"/>')
        parts.append(f'<text x="{LEFT + 40}" y="{y + 4}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def colour(number: int) -> str:
    """Return the colour of a line."""
    return COLOURS[number % len(COLOURS)]


def _shade(trouble: tuple[int, int] | None, seconds: int, y: int) -> list[str]:
    if trouble is None:
        return []
    start, end = (LEFT + WIDE * second / seconds for second in trouble)
    return [f'<rect x="{start:.1f}" y="{y + TOP}" width="{end - start:.1f}" height="{TALL}" fill="#fdebd0"/>']


def _panel(title: str, courses: list[list[float]], seconds: int, y: int, top: float) -> list[str]:
    """Axes and lines."""
    base = y + TOP + TALL
    parts = [
        f'<text x="{LEFT}" y="{y + 20}" font-weight="bold">{title}</text>',
        f'<path d="M{LEFT} {y + TOP}v{TALL}h{WIDE}" fill="none" stroke="black"/>',
        f'<text x="{LEFT - 8}" y="{y + TOP + 8}" text-anchor="end">{top:g}</text>',
        f'<text x="{LEFT - 8}" y="{base}" text-anchor="end">0</text>',
        f'<text x="{LEFT + WIDE}" y="{base + 16}" text-anchor="end">{seconds} s</text>',
    ]
    for n, values in enumerate(courses):
        points = " ".join(
            f"{LEFT + WIDE * point / len(values):.1f},{base - TALL * min(value, top) / top:.1f}"
            for point, value in enumerate(values)
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour(n)}" opacity="0.8"/>')
    return parts

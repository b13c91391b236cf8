"""Whether cost grows: with calls at a time, with methods, with breaker keys. Ours against bare under the same load."""

from __future__ import annotations

import contextlib
import statistics
from typing import Any

from benchmarks.load import Answer, Load, Loader
from benchmarks.processes import Server

SIZES = (1, 10, 100, 1000)
KEYS = (1, 10_000)

Table = dict[str, dict[str, list[float]]]
"""By load and stack: the fields of an `Answer`, each the median of the rounds."""


def loads() -> dict[str, Load]:
    """Return the loads, by name."""
    return {
        **{f"{size} at a time": Load(concurrent=size, calls=2000 if size < 1000 else 4000) for size in SIZES},
        **{f"{size} methods": Load(methods=size) for size in SIZES},
        **{f"{keys} breaker keys": Load(keys=keys, calls=2000) for keys in KEYS},
    }


def table(world: str, rounds: int) -> Table:
    """Measure clients of a world, which call a bare server."""
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(Server("aio", "bare", methods=max(SIZES)))
        loaders = {name: stack.enter_context(Loader(world, name, address)) for name in ("bare", "ours")}
        return {name: measured(loaders, load, rounds) for name, load in loads().items()}


def measured(loaders: dict[str, Any], load: Load, rounds: int) -> dict[str, list[float]]:
    answers: dict[str, list[Answer]] = {name: [] for name in loaders}
    warm_up = load._replace(calls=max(load.methods, load.concurrent, load.keys))
    for loader in loaders.values():
        loader.run(warm_up)
    for _ in range(rounds):
        for name, loader in loaders.items():
            answers[name].append(loader.run(load))
    return {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in answers.items()}

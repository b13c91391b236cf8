"""Hold what is counted against what is committed: `python -m benchmarks.budgets [--update]`, or `make bench-check`.

Counts do not depend on how busy the machine is, so a check in CI can be strict. They depend on the version of CPython:
the budgets say which they are for, and on others nothing is judged. Instructions are judged by its very build alone.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("budgets.json")
VERSION = ".".join(platform.python_version_tuple()[:2])


def budget(name: str, measured: float) -> float:
    """Return the budget of a figure: one call more, or 2 % for what is large; 10 % and 256 bytes for memory."""
    if "bytes" in name:
        return math.ceil(measured * 1.1) + 256
    if name.endswith("instructions"):
        return math.ceil(measured * 1.03)
    return math.ceil(measured + max(0.5, measured * 0.02))


def judged(entries: Mapping[str, Any], figures: Mapping[str, float]) -> dict[str, float]:
    """Return the budgets that these figures are held against: instructions only if they could be counted here."""
    same = entries["build"] == sys.version and any(name.endswith("instructions") for name in figures)
    return {
        name: entry["budget"] for name, entry in entries["figures"].items() if same or not name.endswith("instructions")
    }


def exceeded(figures: Mapping[str, float], budgets: Mapping[str, float]) -> list[str]:
    """Return a sentence for each figure that is over its budget, or has none, or is gone."""
    problems = [
        f"{name}: {measured:g}, and its budget is {budgets[name]:g}"
        for name, measured in figures.items()
        if name in budgets and measured > budgets[name]
    ]
    problems += [f"{name}: it has no budget" for name in figures if name not in budgets]
    return problems + [f"{name}: it was not measured" for name in budgets if name not in figures]


def committed() -> dict[str, Any]:
    return json.loads(FILE.read_text())


def update(figures: Mapping[str, float]) -> None:
    entries = {name: {"measured": value, "budget": budget(name, value)} for name, value in figures.items()}
    FILE.write_text(json.dumps({"python": VERSION, "build": sys.version, "figures": entries}, indent=1) + "\n")


def judge(figures: Mapping[str, float]) -> int:
    """Print every figure that moved, and return the exit status."""
    entries = committed()
    if entries["python"] != VERSION:
        print(f"The budgets are for CPython {entries['python']}; this is {VERSION}: nothing is judged.")
        return 0
    for name, value in figures.items():
        before = entries["figures"].get(name, {}).get("measured")
        if before is not None and "bytes" not in name and value != before:
            print(f"{name}: {before:g} -> {value:g}")
    if entries["build"] != sys.version:
        print("This is another build of CPython than the budgets': instructions are not judged.")
        figures = {name: value for name, value in figures.items() if not name.endswith("instructions")}
    problems = exceeded(figures, judged(entries, figures))
    for problem in problems:
        print(f"OVER BUDGET  {problem}")
    print(f"{len(figures)} figures, {len(problems)} over budget.")
    return 1 if problems else 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.budgets", description=__doc__)
    parser.add_argument("--update", action="store_true", help="write the budgets anew from what is counted now")
    parser.add_argument("--json", action="store_true", help="only print the figures")
    arguments = parser.parse_args()
    logging.getLogger("grpc_faultwire").addHandler(logging.NullHandler())
    logging.getLogger("grpc_faultwire").propagate = False
    from benchmarks import callgrind, counted  # noqa: PLC0415  # grpc is not needed for the help

    found = counted.figures() | callgrind.figures()
    if arguments.json:
        print(json.dumps(found, indent=1))
    elif arguments.update:
        update(found)
        print(f"{len(found)} budgets are written to {FILE.name}.")
    else:
        sys.exit(judge(found))


if __name__ == "__main__":
    main()

"""Run the benchmarks: `python -m benchmarks [quick|full] [section ...]`; see docs/benchmarks.md.

quick: unary calls that succeed or fail, with every stack, and the parts in nanoseconds; under 90 seconds.
full: everything. A run that was cut goes on where it stopped, if the code is the same.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import batches, cancelling, imports, micro, peers, rpc, scale, wire
from benchmarks.docs import report
from benchmarks.harness import rounds_of
from benchmarks.record import Record

Wanted = Callable[[str], bool]
"""Whether a figure is not there yet."""
Found = Iterator[tuple[str, Any]]

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "15"))
"""Of a full run; less for a trial of the benchmark itself."""


def cpu(wanted: Wanted, *, quick: bool) -> Found:
    for group in rpc.groups(quick=quick):
        yield from group(wanted, 5 if quick else ROUNDS)


def parts(wanted: Wanted, *, quick: bool) -> Found:
    tables = {"parts": micro.operations, "breakers": peers.breakers, "retries": peers.retries}
    for name, operations in tables.items():
        if wanted(name):
            yield name, micro.nanoseconds(operations(), rounds=7 if quick else 31, number=500 if quick else 2000)


def worst(wanted: Wanted, *, quick: bool) -> Found:
    if wanted("worst trailers"):
        yield "worst trailers", rounds_of(wire.worst_cases(), rounds=5 if quick else 31, number=20)


def cancels(wanted: Wanted, *, quick: bool) -> Found:
    if wanted("cancels"):
        yield "cancels", dict(cancelling.latencies(20 if quick else 300))


def importing(wanted: Wanted, *, quick: bool) -> Found:
    if wanted("imports"):
        yield "imports", imports.samples(5 if quick else 15)
    if wanted("heaviest"):
        yield "heaviest", {name: number / 1000 for number, name in imports.heaviest(imports.STATEMENTS[-1])}


def scaled(wanted: Wanted, *, quick: bool) -> Found:
    for world in ("sync", "aio"):
        if wanted(f"client {world}"):
            yield f"client {world}", scale.table(world, 1 if quick else min(5, ROUNDS))


def soaked(wanted: Wanted, *, quick: bool) -> Found:
    """Soak in a process of its own, where nothing else has left anything."""
    if wanted("soak"):
        command = [sys.executable, "-m", "benchmarks.soak", "15" if quick else "300"]
        shown = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
        yield "soak", json.loads(shown.stdout)


def batched(wanted: Wanted, *, quick: bool) -> Found:
    if wanted("batches"):
        yield "batches", batches.run(3 if quick else 15)


SECTIONS = {
    "cpu": cpu,
    "parts": parts,
    "wire": worst,
    "batches": batched,
    "cancel": cancels,
    "imports": importing,
    "scale": scaled,
    "soak": soaked,
}
QUICK = ("cpu", "parts")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("mode", choices=("quick", "full"), nargs="?", default="quick")
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], help="which; all of the mode if none is named")
    arguments = parser.parse_args()
    quick = arguments.mode == "quick"
    chosen = arguments.sections or (QUICK if quick else SECTIONS)
    record = Record("-".join([arguments.mode, *arguments.sections]))
    started = time.monotonic()
    for section in chosen:
        wanted = lambda name, section=section: not record.has(section, name)  # noqa: E731  # one word for one question
        for name, figures in SECTIONS[section](wanted, quick=quick):
            record.add(section, name, figures)
            print(f"{time.monotonic() - started:5.0f} s  {section}: {name}", file=sys.stderr, flush=True)
    path = record.finish()
    print(report(json.loads(path.read_text())))
    print(f"The samples are in {os.path.relpath(path)}.")


if __name__ == "__main__":
    main()

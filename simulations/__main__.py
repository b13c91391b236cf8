"""Run the simulations: ``python -m simulations`` prints a table for each case and fails if a figure is missed.

python -m simulations                     all cases, 20 seeds where something is demanded, 5 elsewhere
python -m simulations --quick             only what something is demanded of, shorter, 2 seeds
python -m simulations --case overload     one case; may be repeated
python -m simulations --loopback          the main case, small, with real gRPC processes; no virtual time
python -m simulations --out FOLDER        where results.json and the plots go (default: simulations/results)

``make simulate`` has them in ``docs/simulations``, and ``python -m simulations.docs`` makes the page of them.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
import time

from . import loopback, record
from .cases import CASES
from .plot import plot
from .report import table, verdicts
from .runs import simulate


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="simulations", description="Drive the policies in virtual time.")
    parser.add_argument("--quick", action="store_true", help="only what is demanded, shorter, 2 seeds")
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES], help="only this one")
    parser.add_argument("--loopback", action="store_true", help="the main case with real processes, and nothing else")
    parser.add_argument("--seeds", type=int, help="runs where something is demanded (default: 20, quick 2)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "results", help="folder for the results"
    )
    return parser.parse_args()


def main() -> int:
    """Run, report, and return 1 if a bound was missed."""
    asked, began = arguments(), time.perf_counter()
    if asked.loopback:
        return loopback.main()
    cases = [case for case in CASES if not asked.case or case.name in asked.case]
    runs = simulate(cases, seeds=asked.seeds or (2 if asked.quick else 20), quick=asked.quick, jobs=asked.jobs)
    records = record.records_of(runs)
    asked.out.mkdir(parents=True, exist_ok=True)
    record.write(asked.out / "results.json", records)
    for case in cases:
        print(table(case, records[case.name]))
        trouble = None if asked.quick else case.trouble  # a quick run has it at other times
        (asked.out / f"{case.name}.svg").write_text(plot(case.title, records[case.name], trouble))
    missed = [bound for case in cases for bound, _, kept in verdicts(case, records[case.name]) if not kept]
    spent = os.times()
    cpu = spent.user + spent.system + spent.children_user + spent.children_system
    took = f"{time.perf_counter() - began:.0f} s, {cpu:.0f} s of CPU"
    print(f"\n{len(missed)} figures missed; {took}; results in {asked.out}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

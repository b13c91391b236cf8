"""Run the simulations: ``python -m simulations`` prints a table for each case and fails if a figure is missed.

python -m simulations                     all cases, 20 seeds where something is demanded, 5 elsewhere
python -m simulations --quick             only what something is demanded of, shorter, 2 seeds
python -m simulations --case overload     one case; may be repeated
python -m simulations --loopback          the main case, small, with real gRPC processes; no virtual time
python -m simulations --out docs/figures  where results.json and the plots go (default: simulations/results)
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
import time

from . import loopback, report
from .cases import CASES
from .runs import simulate, stacks_of


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
    asked.out.mkdir(parents=True, exist_ok=True)
    for case in cases:
        stacks = stacks_of(case, quick=asked.quick)
        print(report.table(case, stacks, runs))
        report.write_plot(asked.out / f"{case.name}.svg", case, stacks, runs)
    report.write_json(asked.out / "results.json", cases, runs)
    missed = [sentence for case in cases for sentence, kept in report.verdicts(case, runs) if not kept]
    print(f"\n{len(missed)} figures missed; {time.perf_counter() - began:.0f} s; results in {asked.out}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

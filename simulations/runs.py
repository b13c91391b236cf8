"""The runs of a simulation, spread over processes."""

from __future__ import annotations

import gc
import multiprocessing

from .cases import CASES, Case, Result
from .client import Stack

Runs = dict[tuple[str, str], list[Result]]
Task = tuple[str, str, int, bool]


def stacks_of(case: Case, *, quick: bool) -> list[Stack]:
    """The policies that are run in a case."""
    return [stack for stack in case.stacks if case.bounded(stack) or not quick]


def tasks_of(cases: list[Case], *, seeds: int, quick: bool) -> list[Task]:
    """Every run there is to make; few seeds suffice where nothing is demanded."""
    return [
        (case.name, stack.name, seed, quick)
        for case in cases
        for stack in stacks_of(case, quick=quick)
        for seed in range(1, 1 + (seeds if case.bounded(stack) else min(5, seeds)))
    ]


def run(task: Task) -> Result:
    """One run, in whatever process."""
    case_name, stack_name, seed, quick = task
    case = next(case for case in CASES if case.name == case_name)
    stack = next(stack for stack in case.stacks if stack.name == stack_name)
    gc.disable()  # a run makes no cycles to speak of, and the collector would take a fifth of its time
    try:
        return case.run(stack, seed, quick)
    finally:
        gc.enable()
        gc.collect()


def simulate(cases: list[Case], *, seeds: int, quick: bool, jobs: int) -> Runs:
    """All runs, by the names of case and policies."""
    tasks = tasks_of(cases, seeds=seeds, quick=quick)
    runs: Runs = {}
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for task, result in zip(tasks, pool.imap(run, tasks), strict=True):
            runs.setdefault(task[:2], []).append(result)
    return runs

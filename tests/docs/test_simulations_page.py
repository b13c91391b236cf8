"""The page about outages and its plots are those of the committed results, and these are those of today's policies."""

from __future__ import annotations

import math

import pytest
from simulations import docs, record
from simulations.cases import CASES
from simulations.plot import plot
from simulations.report import verdicts
from simulations.runs import run, tasks_of

RECORDS = record.read(docs.COMMITTED)


def test_the_page_is_that_of_the_committed_results() -> None:
    """To the letter: `python -m simulations.docs` writes it."""
    assert docs.PAGE.read_text() == docs.page(RECORDS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_plots_are_those_of_the_committed_results(case) -> None:
    """To the letter, and the page shows each."""
    path = docs.FOLDER / f"{case.name}.svg"
    assert path.read_text() == plot(case.title, RECORDS[case.name], case.trouble)
    assert f"({path.relative_to(docs.DOCS)})" in docs.PAGE.read_text()


def test_all_runs_are_there_and_keep_what_is_demanded() -> None:
    """Twenty seeds wherever something is demanded."""
    for case_name, stack_name, seed, _ in tasks_of(list(CASES), seeds=20, quick=False):
        for values in RECORDS[case_name][stack_name].figures.values():
            assert len(values) >= seed
    assert [bound for case in CASES for bound, _, kept in verdicts(case, RECORDS[case.name]) if not kept] == []


@pytest.mark.parametrize(
    "task", [("errors-10", "faultwire: budget + breaker"), ("shards", "faultwire, breaker per shard")]
)
def test_the_committed_results_are_those_of_today(task) -> None:
    """A seed is a run: if this fails, policies decide differently, and `make simulate` is due."""
    case, policies = task
    result = run((case, policies, 2, False))
    for name, values in RECORDS[case][policies].figures.items():
        assert result.figures[name] == pytest.approx(values[1], rel=1e-9), name


def test_results_are_read_as_they_were_written(tmp_path) -> None:
    """Also that something never happens; and a figure that is missed shows on the page."""
    record.write(tmp_path / "results.json", RECORDS)
    assert record.read(tmp_path / "results.json") == RECORDS
    assert (tmp_path / "results.json").read_text() == docs.COMMITTED.read_text()
    ours = RECORDS["overload"]["faultwire: budget + breaker"]
    missed = ours._replace(figures=ours.figures | {"recovery": [math.inf] * 20})
    overload = next(case for case in CASES if case.name == "overload")
    shown = docs.section(overload, RECORDS["overload"] | {"faultwire: budget + breaker": missed})
    assert "| never to never in 20 runs | **no** |" in shown

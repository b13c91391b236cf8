"""The page about cost, and the README's figures, are those of the committed run."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import docs
from benchmarks.promises import promises

RESULTS = json.loads(docs.COMMITTED.read_text())


def test_the_page_is_that_of_the_committed_run() -> None:
    """To the letter: `python -m benchmarks.docs` writes it."""
    assert docs.PAGE.read_text() == docs.page(RESULTS)


def test_the_figures_in_the_readme_are_those_of_the_committed_run() -> None:
    """Every number of the table."""
    shown = docs.FIGURES.search(docs.README.read_text())
    assert shown is not None
    assert shown[0] == docs.summary(RESULTS)
    changed = json.loads(json.dumps(RESULTS))
    samples = changed["sections"]["cpu"]["client sync: OK"]
    samples["ours: all on"] = [one + 100 for one in samples["ours: all on"]]
    assert shown[0] != docs.summary(changed)


def test_a_promise_that_is_not_kept_shows() -> None:
    """A run that is slower than promised says so on the page."""
    samples = {"bare": [100.0, 100.0], "sum": [150.0] * 2, "sum with OpenTelemetry": [200.0] * 2}
    ours = {"ours: all on": [130.0] * 2, "ours: all on, own span": [150.0] * 2}
    found = list(promises({"cpu": {"server sync: OK": samples | ours}}))
    assert [one.measured.split()[0] for one in found] == ["30.0", "0.60", "0.50"]
    assert [one.kept for one in found] == [False, False, True]
    lost = samples | ours | {"sum": [99.0] * 2}
    assert [one.measured.split()[0] for one in promises({"cpu": {"server sync: OK": lost}})][1] == "inf"


def test_growth_under_load_shows() -> None:
    """What ours adds may grow by a tenth of a call; what bare grpc gains or loses is its own."""
    few, flat, grown = ({"bare": [bare], "ours": [ours]} for bare, ours in ((200, 250), (100, 150), (100, 200)))
    kinds = ("at a time", "methods", "breaker keys")
    for many, kept in ((flat, True), (grown, False)):
        loads = {f"{size} {kind}": found for kind in kinds for size, found in ((1, few), (1000, many))}
        assert [one.kept for one in promises({"scale": {"client aio": loads}})] == [kept] * 3


def test_the_plot_is_there() -> None:
    """The page shows it."""
    assert docs.PLOT.read_text().lstrip().startswith("<?xml")
    assert Path(docs.PLOT).name in docs.PAGE.read_text()

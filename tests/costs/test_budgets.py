"""`make bench-check` sees what it is there to see."""

from __future__ import annotations

import pytest
from benchmarks import budgets
from benchmarks.counting import CallCounter
from benchmarks.micro import policies

from grpc_faultwire.policies import checks

ENTRIES = budgets.committed()["figures"]


def test_what_is_over_its_budget_fails() -> None:
    """Each committed figure, with a budget one lower than what was measured."""
    figures = {name: entry["measured"] for name, entry in ENTRIES.items()}
    assert budgets.exceeded(figures, {name: entry["budget"] for name, entry in ENTRIES.items()}) == []
    for name, measured in figures.items():
        lowered = {**figures, name: measured - 1}
        assert budgets.exceeded(figures, lowered) == [f"{name}: {measured:g}, and its budget is {measured - 1:g}"]


def test_what_has_no_budget_or_is_gone_fails() -> None:
    """A case that was renamed would be watched by nobody."""
    assert budgets.exceeded({"new": 1}, {"old": 1}) == ["new: it has no budget", "old: it was not measured"]


def test_budgets_leave_little_room() -> None:
    """One call more than measured, 2 % for what is large; memory has more."""
    assert [budgets.budget("x", number) for number in (0, 1, 24, 499)] == [1, 2, 25, 509]
    assert budgets.budget("peak bytes", 1000) == 1356


def test_one_call_more_is_counted() -> None:
    """Real counts: the same twice, and one more of ours if one more of ours is called."""
    operation = policies()["budget: take and refund"]

    def longer() -> None:
        operation()
        checks.positive("seconds", 1.0)

    with CallCounter() as counter:
        operation()
        counted, again, more = (counter.count(work) for work in (operation, operation, longer))
    assert counted == again
    assert more.ours == counted.ours + 1
    assert more.caused > counted.caused


@pytest.mark.skipif(budgets.committed()["python"] != budgets.VERSION, reason="the budgets are another CPython's")
def test_the_parts_are_within_their_budgets() -> None:
    """Those that take no RPC; `make bench-check` counts the others too."""
    with CallCounter() as counter:
        for name, operation in policies().items():
            operation()
            counted = counter.count(operation)
            for kind, number in counted._asdict().items():
                assert number <= ENTRIES[f"{name}: functions {kind}"]["budget"], name

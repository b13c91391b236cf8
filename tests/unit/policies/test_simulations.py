"""The decisive cases of the simulations, short and with one seed: the policies in a world that overloads."""

import pytest
from simulations.cases import CASES
from simulations.report import shown

DECISIVE = ["overload", "errors-10", "errors-25-fast", "tiers"]


@pytest.mark.parametrize("name", DECISIVE)
def test_what_is_demanded_holds(name):
    """Every bound of the case holds, also that naive retries never let the server recover."""
    case = next(case for case in CASES if case.name == name)
    for stack in filter(case.bounded, case.stacks):
        figures = case.run(stack, 1, True).figures
        for bound in case.bounds:
            if bound.stack is stack:
                assert bound.holds([figures[bound.figure]]), f"{stack.name}: {bound.figure} {figures[bound.figure]}"


def test_a_seed_is_a_run():
    """The same seed gives the same run to the last figure, and another seed another."""
    case = next(case for case in CASES if case.name == "errors-25-slow")
    stack = case.bounds[1].stack
    assert case.run(stack, 1, True) == case.run(stack, 1, True)
    assert case.run(stack, 1, True) != case.run(stack, 2, True)


def test_a_bound_that_is_missed_is_noticed():
    """A figure outside its bound fails in any run, or on average where that is what counts."""
    case = next(case for case in CASES if case.name == "overload")
    most = case.bounds[0]
    assert most.holds([8.0, 12.0])
    assert not most.holds([8.0, 12.5])
    assert not most.holds([float("inf")])
    assert most._replace(on_average=True).holds([8.0, 12.5])
    never = case.bounds[-1]
    assert never.holds([float("inf")])
    assert not never.holds([float("inf"), 100.0])
    assert (shown(float("inf")), shown(0.12345)) == ("never", "0.1235")

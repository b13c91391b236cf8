"""Repeats: what is said of many alike, and that no count is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpc_faultwire.observers import repeats
from grpc_faultwire.observers.repeats import Repeats


def said(counter: Repeats, count: int, now: float = 0.0) -> list[int]:
    return [number for number in range(1, count + 1) if counter.turn("kind", now).say]


def test_first_five_then_powers_of_two() -> None:
    """Of 40 in a second, the first five are said, and the 8th, 16th and 32nd."""
    assert said(Repeats(), 40) == [1, 2, 3, 4, 5, 8, 16, 32]


def test_one_a_period() -> None:
    """After a period without a word one is said, with the number of those that were not."""
    counter = Repeats(period=60)
    said(counter, 7)
    assert counter.turn("kind", 59.9).say
    assert not counter.turn("kind", 60.0).say
    assert counter.turn("kind", 120.0) == (True, 1)


def test_first_of_another_kind_is_said() -> None:
    """The flood of one kind never hides the first of another."""
    counter = Repeats()
    said(counter, 100)
    assert counter.turn("other", 0.0) == (True, 0)


def test_forgotten_kinds_leave_their_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind that has to make room leaves what was not said of it."""
    monkeypatch.setattr(repeats, "MAX_KINDS", 2)
    counter = Repeats()
    said(counter, 7)
    counter.turn("second", 0.0)
    counter.turn("third", 0.0)
    assert counter.overdue(0.0) == [("kind", 2)]
    assert counter.overdue(1e9) == []


def test_period_must_be_positive() -> None:
    """A period of 0 is refused by name."""
    with pytest.raises(ValueError, match="period is 0"):
        Repeats(0)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 40)), max_size=200))
def test_no_count_is_lost(steps: list[tuple[str, float]]) -> None:
    """Whatever comes and when: said + suppressed + summaries = all."""
    counter, now, total = Repeats(), 0.0, 0
    for kind, passed in steps:
        now += passed
        turn = counter.turn(kind, now)
        total += turn.say + turn.suppressed + sum(summary.suppressed for summary in counter.overdue(now))
    assert total + sum(summary.suppressed for summary in counter.overdue(float("inf"))) == len(steps)

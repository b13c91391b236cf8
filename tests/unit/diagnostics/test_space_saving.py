"""Space-Saving keeps what its paper promises, for every sequence of events."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grpc_faultwire.diagnostics.space_saving import SpaceSaving


@given(st.integers(1, 8), st.lists(st.integers(0, 20), max_size=200))
@settings(max_examples=300, deadline=None)
def test_the_bounds_of_the_paper(size: int, events: list[int]) -> None:
    """Counts add up; none is too low, none too high by more than it admits; no frequent kind is missing."""
    counters: SpaceSaving[int, None] = SpaceSaving(size)
    for event in events:
        counters.add(event, None)
    true = Counter(events)
    top = counters.top()
    assert counters.total == len(events) == sum(one.count for one in top)
    assert len(top) <= size
    for one in top:
        assert one.count - one.over <= true[one.kind] <= one.count
        assert one.over <= len(events) / size
    assert {kind for kind, count in true.items() if count > len(events) / size} <= {one.kind for one in top}
    assert [one.count for one in top] == sorted((one.count for one in top), reverse=True)
    lowest = min((one.count for one in top), default=0)
    for kind, count in true.items():
        if kind not in {one.kind for one in top}:
            assert count <= lowest


@given(st.lists(st.integers(0, 7), max_size=100))
def test_few_kinds_are_counted_exactly(events: list[int]) -> None:
    """Where there is a counter for each kind, nothing is overcounted."""
    counters: SpaceSaving[int, None] = SpaceSaving(8)
    for event in events:
        counters.add(event, None)
    assert {one.kind: one.count for one in counters.top()} == Counter(events)
    assert all(one.over == 0 for one in counters.top())


def test_a_size_below_one_is_refused() -> None:
    """There must be a counter."""
    with pytest.raises(ValueError, match="size is 0"):
        SpaceSaving(0)

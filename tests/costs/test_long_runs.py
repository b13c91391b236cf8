"""The soak of `make scale`, for seconds: it ends, it counts, and it sees what grows."""

from __future__ import annotations

import pytest
from benchmarks.soak import State, grown, soak


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_nothing_is_left_behind() -> None:
    """All kinds of calls in both worlds, for a quarter of a minute."""
    states = soak(15)
    assert states[-1].calls > 200
    assert grown(states) == []


def test_what_grows_is_seen() -> None:
    """Memory, threads, files and tasks, each by itself."""
    steady = State(calls=1, megabytes=60, traced=1000, threads=20, files=20, tasks=3)
    assert grown([steady] * 10) == []
    for change in ({"megabytes": 80}, {"traced": 1500}, {"threads": 25}, {"files": 21}, {"tasks": 4}):
        assert len(grown([*[steady] * 9, steady._replace(**change)])) == 1

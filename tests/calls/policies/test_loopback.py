"""The simulation's main case with real processes: retries without limit keep a server down, ours let it recover."""

from __future__ import annotations

import pytest
from simulations import loopback


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_ours_recovers_and_the_naive_one_does_not() -> None:
    """After three seconds at a tenth of its capacity, a server is overrun for good by naive retries only."""
    results = loopback.simulate()
    assert [sentence for sentence, kept in loopback.verdicts(results) if not kept] == [], results

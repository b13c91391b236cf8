"""The fixture that runs a test in every world."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from worlds import WORLDS, World


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        yield World(request.param, stack)

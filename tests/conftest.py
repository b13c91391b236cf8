"""What all tests have in common."""

from __future__ import annotations

import gc

import pytest


def pytest_collection_finish(session: pytest.Session) -> None:  # pytest's signature
    """Let collections of garbage, which many tests ask for, pass over all that was imported: it takes half the time."""
    gc.collect()
    gc.freeze()

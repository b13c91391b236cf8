"""`caller`: one flaky server, called from both worlds."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from policy_lab import WORLDS, Caller, Flaky

from grpc_faultwire.testing import serve


@pytest.fixture(scope="session")
def flaky() -> Iterator[tuple[Flaky, str]]:
    """Serve one flaky server for the whole run."""
    server = Flaky()
    with serve([server], max_workers=60) as running:
        yield server, running.address


@pytest.fixture(params=WORLDS)
def caller(request: pytest.FixtureRequest, flaky: tuple[Flaky, str]) -> Iterator[Caller]:
    """Return what calls the flaky server; its channels are closed in the end, and every call has ended once."""
    caller: Caller = request.param(*flaky)
    try:
        yield caller
        gc.collect()
        caller.ledger.outcomes()
    finally:
        caller.stop()
        flaky[0].quiet()

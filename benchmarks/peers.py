"""Policies alone, in nanoseconds: ours and the peers' around a function that does nothing."""

from __future__ import annotations

import random
import time
from typing import Any

from benchmarks import client_stacks
from benchmarks.micro import Operation, flows
from grpc_faultwire.policies import Breaker, Health


def nothing() -> None:
    return None


def breakers() -> dict[str, Operation]:
    """Return breakers around a call that succeeds."""
    breaker = Breaker(rng=random.random)

    def ours() -> None:
        permit: Any = breaker.acquire(time.monotonic())
        nothing()
        permit.record(Health.SUCCESS, time.monotonic())

    guards = (client_stacks.circuitbreaker, client_stacks.pybreaker, client_stacks.purgatory)
    return {
        "the function alone": nothing,
        "ours: acquire and record": ours,
        **{guard.__name__: guard("sync", nothing) for guard in guards},
    }


def retries() -> dict[str, Operation]:
    """Return what decides about retries, around a call that succeeds."""
    ours = flows()
    return {
        "the function alone": nothing,
        "ours: retry, budget, breaker and deadline": ours["plan: one call, all policies"],
        "ours: the same call without policies": ours["plan: one call"],
        "google-api-core Retry": client_stacks.api_core("sync", nothing),
        "tenacity": client_stacks.tenacity("sync", nothing),
        "stamina": client_stacks.stamina("sync", nothing),
    }

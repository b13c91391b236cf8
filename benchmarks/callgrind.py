"""Instructions of the processor for one operation, where valgrind is on hand.

Each operation is run in a process of its own, and what Python takes to start is taken off. Only parts that need no
grpc are measured: under valgrind everything is fifty times slower.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import grpc_faultwire

NUMBER = 500
"""Operations in a run."""

PROGRAM = """
import sys
from grpc_faultwire.policies import OK, Breaker, Health, RetryBudget
breaker, budget = Breaker(rng=lambda: 0.5), RetryBudget()
refusing = Breaker(rng=lambda: 0.5)
refusing.force_open(0.0)
def guarded(now):
    breaker.acquire(now).record(Health.SUCCESS, now)
def refused(now):
    refusing.acquire(now)
def spent(now):
    budget.take(5.0), budget.refund(5.0)
def credited(now):
    budget.credit(OK)
def nothing(now):
    pass
operation = globals()[sys.argv[1]]
for number in range(int(sys.argv[2])):
    operation(number / 1000)
"""

OPERATIONS = {
    "breaker: acquire and record": "guarded",
    "breaker: refuse": "refused",
    "budget: take and refund": "spent",
    "budget: credit": "credited",
}


def instructions(operation: str) -> int:
    # Without site-packages Python starts faster; the policies need the standard library alone.
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, "-S", "-c", PROGRAM]
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(Path(grpc_faultwire.__file__).parents[1])}
    command += [operation, str(NUMBER)]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    found = re.search(r"Collected : (\d+)", shown.stderr)
    if found is None:
        raise RuntimeError(f"callgrind told no count: {shown.stderr[-500:]}")
    return int(found[1])


def figures() -> dict[str, float]:
    """Return the instructions for each operation; none where there is no valgrind."""
    if shutil.which("valgrind") is None:
        print("There is no valgrind here: no instructions are counted.", file=sys.stderr)
        return {}
    nothing = instructions("nothing")
    return {
        f"{name}: instructions": round((instructions(operation) - nothing) / NUMBER)
        for name, operation in OPERATIONS.items()
    }

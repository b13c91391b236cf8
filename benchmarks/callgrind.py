"""Instructions of the processor for one operation, where valgrind is on hand: `python -m benchmarks.callgrind`.

Each operation is run in a process of its own, with two numbers of repetitions; the difference is free of what Python
takes to start. Only parts that need no grpc are measured: under valgrind everything is fifty times slower.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

FEW, MANY = 200, 1200

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


def instructions(operation: str, number: int) -> int:
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, "-c", PROGRAM]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    command += [operation, str(number)]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    found = re.search(r"Collected : (\d+)", shown.stderr)
    if found is None:
        raise RuntimeError(f"callgrind told no count: {shown.stderr[-500:]}")
    return int(found[1])


def figures() -> dict[str, int]:
    """Return the instructions for each operation; none where there is no valgrind."""
    if shutil.which("valgrind") is None:
        return {}
    return {
        name: round((instructions(operation, MANY) - instructions(operation, FEW)) / (MANY - FEW))
        for name, operation in OPERATIONS.items()
    }


if __name__ == "__main__":
    counted = figures()
    if not counted:
        print("There is no valgrind here: no instructions are counted.")
    for name, value in counted.items():
        print(f"{name}: {value} instructions")

"""What it takes to import the package, beyond what grpc takes: CPU time of fresh processes, in turn."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

STATEMENTS = (
    "import grpc_faultwire",
    "from grpc_faultwire import StatusError",
    "from grpc_faultwire.sync import wrap_channel",
    "from grpc_faultwire.sync import ServerInterceptor",
    "from grpc_faultwire.sync import wrap_channel; from grpc_faultwire.config import ClientPolicy",
    "from grpc_faultwire.aio import ServerInterceptor, wrap_channel",
)
OPTIONAL = ("prometheus_client", "opentelemetry", "rich", "shtab", "grpc_reflection", "grpc_health")
"""Packages that only the extras bring."""

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | {
    "PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / "faultwire-bytecode")
}
"""Bytecode is kept, as that of an installed package is, and not beside the source."""

PROGRAM = """
import grpc, sys, time
started = time.process_time()
{statement}
print(time.process_time() - started)
"""


def samples(rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of each statement once grpc has been imported, a sample for each round."""
    found: dict[str, list[float]] = {statement: [] for statement in STATEMENTS}
    for statement in STATEMENTS:
        python(PROGRAM.format(statement=statement))  # compiled, and in the file system's cache
    for _ in range(rounds):
        for statement, values in found.items():
            values.append(float(python(PROGRAM.format(statement=statement))) * 1000)
    return found


def loaded(statement: str) -> set[str]:
    """Return the names of all modules that a statement imports, grpc's too."""
    return set(python(f"{statement}\nimport sys\nprint(*sys.modules)").split())


def heaviest(statement: str, number: int = 12, rounds: int = 7) -> list[tuple[int, str]]:
    """Return microseconds and name of the modules that take the longest by themselves, once grpc has been imported.

    Of several rounds the least counts: it is wall time, and other work on the machine can only add to it.
    """
    least: dict[str, int] = {}
    for _ in range(rounds):
        for own, name in own_times(statement):
            least[name] = min(own, least.get(name, own))
    return sorted(((own, name) for name, own in least.items()), reverse=True)[:number]


def own_times(statement: str) -> list[tuple[int, str]]:
    command = [sys.executable, "-X", "importtime", "-c", f"import grpc\n{statement}"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT).stderr
    entries = [(int(own), name) for own, name in re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", shown)]
    return entries[[name for _, name in entries].index("grpc") + 1 :]


def python(program: str) -> str:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT).stdout


if __name__ == "__main__":
    for microseconds, name in heaviest(STATEMENTS[-1], 40):
        print(f"{microseconds:7} µs  {name}")

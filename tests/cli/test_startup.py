"""The command starts at once: what it does not need is not imported."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from google.rpc import status_pb2

import grpc_faultwire

from . import corpus

BARE = [sys.executable, "-c", "from google.rpc import error_details_pb2"]
DECODE = [sys.executable, "-m", "grpc_faultwire", "decode"]
EXTRAS = """
import sys
for name in ("rich", "shtab", "grpc_reflection", "grpc"):
    sys.modules[name] = None
from grpc_faultwire.cli.main import main
raise SystemExit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "line",
    [
        ["decode", corpus.B],
        ["decode", "--json", f"{corpus.KEY}: {corpus.N}"],
        ["decode", "--descriptors", "bookshop.binpb", corpus.B],
        ["lint", "bookshop.binpb"],
        ["catalogue", "bookshop.binpb"],
        ["protos"],
    ],
    ids=lambda line: line[0],
)
def test_grpc_and_the_extra_are_not_needed(folder: Path, line: list[str]) -> None:
    """These commands run where neither gRPC nor the extra can be imported."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", EXTRAS, *line], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout or line[0] == "lint"


def test_a_closed_pipe_is_no_error(folder: Path) -> None:
    """Whoever reads may stop reading: no traceback, exit code 0."""
    errors = [status_pb2.Status(code=5, message=f"{number} {'x' * 100}") for number in range(2000)]
    lines = [f"{corpus.KEY}: {corpus.standard(one.SerializeToString())}\n" for one in errors]
    (folder / "many.log").write_text("".join(lines))
    command = f"{' '.join(DECODE)} --json < many.log; echo $? >&2"
    done = subprocess.run(["bash", "-c", f"({command}) | head -c 1"], capture_output=True, text=True, check=True)
    assert done.stderr == "0\n"


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("text", [corpus.B, f"2026-11-23 ERROR {corpus.KEY}={corpus.N} x"], ids=["value", "log-line"])
def test_decode_starts_in_half_again_the_time_of_protobuf(tmp_path: Path, text: str) -> None:
    """Decoding takes 1.5 times as long as importing google.rpc.error_details_pb2, at the most."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(tmp_path)  # as installed packages have it: compiled
    costs: dict[str, list[float]] = {"bare": [], "decode": []}
    for _ in range(41):
        for name, command in (("bare", BARE), ("decode", [*DECODE, text])):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            costs[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    # The processor's time, and the least of it: what the machine does beside is not what is measured.
    assert min(costs["decode"][1:]) <= 1.5 * min(costs["bare"][1:]), costs


def test_the_plugin_needs_no_grpc() -> None:
    """protoc-gen-faultwire runs in a generator's environment that has protobuf and googleapis-common-protos alone."""
    code = EXTRAS.replace("grpc_faultwire.cli.main", "grpc_faultwire.codegen.plugin").replace(
        "main(sys.argv[1:])", "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], input=b"", capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_packages_names_are_where_it_says() -> None:
    """Names that are imported when they are asked for are all there, listed once and in order."""
    assert sorted(grpc_faultwire._HOMES) == sorted(grpc_faultwire.__all__)
    assert list(grpc_faultwire.__all__) == sorted(grpc_faultwire.__all__)
    for name in grpc_faultwire.__all__:
        assert getattr(grpc_faultwire, name) is not None
        assert name in dir(grpc_faultwire)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = grpc_faultwire.Nothing  # type: ignore[attr-defined]  # what is tested

"""A project of its own, from an empty folder with only the built wheel and grpcio-tools."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from . import shop

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = shop.HERE.parents[2]
CAUGHT = ["booked", "AccountClosed closed", "overdrawn by 150", "FailedPrecondition NOT_IN_ANY_CATALOGUE"]


def run(*command: object, cwd: Path, **variables: str) -> str:
    """Run a command in a folder, without what this process has in its environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=environment | variables,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the project: the wheel and grpcio-tools in an environment, protos, generated code."""
    folder = tmp_path_factory.mktemp("ledger")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", ROOT, cwd=folder)
    wheel = next((folder / "dist").glob("*.whl"))
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    bin_ = folder / "venv/bin"
    run(
        bin_ / "python",
        "-m",
        "pip",
        "install",
        "-q",
        wheel,
        "grpcio-tools",
        "types-grpcio",
        "types-protobuf",
        cwd=folder,
    )
    shutil.copytree(shop.HERE / "outside", folder, dirs_exist_ok=True)
    protos = run(bin_ / "faultwire", "protos", cwd=folder).strip()
    run(
        bin_ / "python", "-m", "grpc_tools.protoc", "-I", "protos", "-I", protos, "--python_out=.", "--pyi_out=.",
        "--grpc_python_out=.", "--faultwire_out=.", "ledger/v1/ledger.proto",
        cwd=folder, PATH=f"{bin_}{os.pathsep}{os.environ['PATH']}",
    )  # fmt: skip
    return folder


def test_the_protos_come_with_the_wheel(project: Path) -> None:
    """`faultwire protos` names a folder inside the installed package, with options.proto."""
    folder = Path(run(project / "venv/bin/faultwire", "protos", cwd=project).strip())
    assert folder.is_relative_to(project / "venv")
    assert (folder / "faultwire/v1/options.proto").exists()


def test_errors_are_raised_on_a_server_and_caught_by_type(project: Path) -> None:
    """Sync and aio callers catch what servicers raised, declared or unknown, by its class."""
    told = run(project / "venv/bin/python", "-W", "error", "exchange.py", cwd=project).splitlines()
    assert told == [*(f"sync: {one}" for one in CAUGHT), *(f"aio: {one}" for one in CAUGHT)]


def test_mypy_accepts_the_project(project: Path) -> None:
    """mypy --strict finds nothing in the module and in its use, and each mistake in its misuse."""
    pytest.importorskip("mypy", reason="mypy is in the lint group")
    mypy = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--explicit-package-bases",
        "--python-executable",
        project / "venv/bin/python",
    ]
    run(*mypy, "rules.py", "ledger/v1/ledger_faultwire.py", cwd=project)
    wrong = subprocess.run(
        [*map(str, mypy), "wrong.py"], cwd=project, capture_output=True, text=True, check=False
    ).stdout
    assert sorted({int(line.split(":")[1]) for line in wrong.splitlines() if ": error:" in line}) == [5, 6, 7, 8]


def test_pyright_accepts_the_project(project: Path) -> None:
    """Pyright finds nothing in the module and in its use, and each mistake in its misuse."""
    pytest.importorskip("pyright", reason="pyright is in the lint group")
    pyright = [sys.executable, "-m", "pyright", "--pythonpath", project / "venv/bin/python"]
    run(*pyright, "rules.py", "ledger/v1/ledger_faultwire.py", cwd=project)
    wrong = subprocess.run([*map(str, pyright), "wrong.py"], cwd=project, capture_output=True, text=True, check=False)
    assert sorted({int(line.split(":")[1]) for line in wrong.stdout.splitlines() if " - error:" in line}) == [
        5,
        6,
        7,
        8,
    ]


def test_a_folder_of_protos_is_checked(project: Path) -> None:
    """`faultwire lint` compiles a folder by itself where grpcio-tools is installed."""
    run(project / "venv/bin/faultwire", "lint", "protos", cwd=project)


def test_a_generated_module_is_as_good_as_its_proto(project: Path) -> None:
    """The installed module gives the page that documents it, from the project's own folder."""
    page = run(project / "venv/bin/faultwire", "catalogue", "ledger.v1.ledger_faultwire", cwd=project)
    assert '<a id="ACCOUNT_CLOSED"></a>' in page


def test_the_committed_descriptors_are_what_protoc_makes(project: Path, tmp_path: Path) -> None:
    """shop.binpb, which the fast tests read, is up to date with its .proto files."""
    run(project / "venv/bin/python", shop.HERE / "make_shop.py", tmp_path / "shop.binpb", cwd=project)
    made = descriptor_pb2.FileDescriptorSet.FromString((tmp_path / "shop.binpb").read_bytes())
    assert list(made.file) == shop.FILES

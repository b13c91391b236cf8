"""What the source distribution has."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_every_folder_is_distributed() -> None:
    """Each folder of the repository is in the source distribution: its tests use all of them."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git repository")
    folders = {line.partition("/")[0] for line in listed.stdout.splitlines() if "/" in line}
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert folders - {".github"} <= set(settings["tool"]["hatch"]["build"]["targets"]["sdist"]["include"])

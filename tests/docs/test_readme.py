"""What the README shows is what the examples run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_python_in_the_readme_is_that_of_the_examples(block: str) -> None:
    """Each block stands, to the letter, in an example that is run."""
    examples = [path.read_text() for path in (ROOT / "examples").glob("quickstart_*.py")]
    assert any(block in example for example in examples)


def test_commands_in_the_readme_exist() -> None:
    """Each make target that is named can be made."""
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"make ([a-z-]+)", README + (ROOT / "CONTRIBUTING.md").read_text())
    assert {"demo", "test"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_paths_in_the_readme_exist() -> None:
    """Each folder and file that is named is there."""
    for path in re.findall(r"`([\w./]+/)`|\]\(([\w/]+\.md)\)", README):
        assert (ROOT / (path[0] or path[1])).exists(), path


def test_the_examples_of_the_readme_run() -> None:
    """The server serves, and the caller prints what the README promises."""
    server = subprocess.Popen(
        [sys.executable, "-m", "examples.quickstart_server", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        port = server.stdout.readline().rpartition(":")[2].strip()
        command = [sys.executable, "-m", "examples.quickstart_caller", port]
        shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True).stdout
    finally:
        server.terminate()
        log = server.communicate(timeout=10)[1]
    assert "not found: 9780262033848" in shown
    error_id = re.search(r"INTERNAL: Internal error\. Ask the server's log for (\w{32})\.", shown)[1]
    assert any(error_id in line and "KeyError" in line for line in log.splitlines())

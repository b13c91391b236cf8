"""The documentation: the manual is the parser's, and every command in it runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from grpc_faultwire.cli import manual, protos
from grpc_faultwire.cli.parser import EXAMPLES, make_parser

from .conftest import Run
from .test_call import Shop, shop, target

__all__ = ["Shop", "shop", "target"]  # fixtures

ROOT = Path(__file__).resolve().parents[2]
DOCS = [ROOT / "docs" / name for name in ("cli.md", "catalogues.md")]
COMMANDS = sorted({line for page in DOCS for line in re.findall(r"^\$ (.+)$", page.read_text(), re.MULTILINE)})
OWN = [line for line in COMMANDS if line.startswith("faultwire ")]
OTHERS = {
    'protoc -I protos -I "$(faultwire protos)" …': "the folder is checked below, the plugin by the test from outside",
    'eval "$(faultwire completion bash)"': "run below",
    'python -m grpc_tools.protoc -I protos -I "$(faultwire protos)" --python_out=. --faultwire_out=. '
    "bookshop/v1/bookshop.proto": "run by the test from outside, with its own proto",
}


def test_the_manual_is_up_to_date() -> None:
    """docs/cli.md is what the parser says."""
    assert DOCS[0].read_text() == manual.manual()


def test_every_command_is_run_by_some_test() -> None:
    """Lines that are no command of ours alone are listed here, with the test that runs them."""
    assert set(COMMANDS) - set(OWN) == set(OTHERS)


def test_every_example_is_documented() -> None:
    """Examples of --help are in the manual, and each command has one."""
    assert {line for examples in EXAMPLES.values() for _, line in examples} <= set(COMMANDS)
    assert all(EXAMPLES.values())


@pytest.mark.parametrize("line", OWN)
def test_a_documented_command_runs(run: Run, folder: Path, target: str, line: str) -> None:
    """In a folder with the files that it names, a documented command does what it says."""
    line, _, source = line.replace("localhost:50051", target).partition(" < ")
    done = run(shlex.split(line)[1:], Path(source).read_bytes() if source else b"")
    assert done.code == 0, done.err
    assert done.out or line.startswith(("faultwire lint", "faultwire catalogue --html"))


@pytest.mark.parametrize("command", EXAMPLES)
def test_every_command_has_help_with_examples(run: Run, command: str) -> None:
    """--help says what a command is for, shows examples and names the exit codes."""
    done = run(f"{command} --help")
    assert done.code == 0
    for part in ("usage: faultwire", "examples:", "Exit codes: 0 fine; 1 something was found", EXAMPLES[command][0][1]):
        assert part in done.out


def test_without_a_command_there_is_help(run: Run) -> None:
    """The bare command lists the commands."""
    done = run([])
    assert done.code == 0
    assert all(f" {command} " in done.out for command in EXAMPLES)


def test_what_the_parser_does_not_know_is_rubbish(run: Run) -> None:
    """Unknown commands and options exit with 2."""
    assert run("encode").code == 2
    assert run("decode --loud").code == 2
    assert run("completion fish").code == 2


def test_the_version_is_the_packages(run: Run) -> None:
    """--version says which one is installed."""
    assert re.fullmatch(r"faultwire \d+\.\d+\.\d+\S*\n", run("--version").out)


def test_the_protos_are_where_it_says(run: Run) -> None:
    """`faultwire protos` names a folder that protoc can include."""
    done = run("protos")
    assert (Path(done.out.strip()) / "faultwire/v1/options.proto").is_file()


def test_an_installation_without_protos_says_so(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the files are not there, nothing is made up."""
    monkeypatch.setattr(protos, "__file__", str(tmp_path / "a/b/c.py"))
    done = run("protos")
    assert (done.code, done.out) == (2, "")
    assert "has no faultwire/v1/options.proto" in done.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_the_commands(run: Run, shell: str) -> None:
    """The script for a shell names every command."""
    pytest.importorskip("shtab", reason="shtab is an extra")
    done = run(f"completion {shell}")
    assert done.code == 0
    assert all(command in done.out for command in EXAMPLES)


def test_bash_accepts_the_completion(run: Run, tmp_path: Path) -> None:
    """bash reads the script, and completes a command with it."""
    pytest.importorskip("shtab", reason="shtab is an extra")
    script = tmp_path / "completion.bash"
    script.write_text(run("completion bash").out)
    ask = (
        f"source {script}; COMP_WORDS=(faultwire deco); COMP_CWORD=1; _shtab_faultwire faultwire deco; echo $COMPREPLY"
    )
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout == "decode\n"


@pytest.mark.parametrize(
    ("module", "line", "code"),
    [
        ("shtab", "completion bash", 2),
        ("rich", "explain --color always", 0),
        ("grpc_reflection", "call --plaintext localhost:1 a.B/C", 2),
    ],
)
def test_the_extra_is_named_where_it_is_missing(
    run: Run, monkeypatch: pytest.MonkeyPatch, module: str, line: str, code: int
) -> None:
    """Without the extra's packages a command does without, or says how to get them."""
    for name in [one for one in sys.modules if one.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    done = run(line)
    assert done.code == code
    assert done.out if code == 0 else "pip install 'grpc-faultwire[cli]'" in done.err


def test_only_the_given_command_is_built() -> None:
    """A parser for known arguments has no other commands, which saves time."""
    assert list(manual.commands(make_parser(["decode", "x"]))) == ["decode"]
    assert list(manual.commands(make_parser(["--version"]))) == list(EXAMPLES)

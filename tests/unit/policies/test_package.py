"""The package as a whole: what it exports, and what it must not import."""

import ast
import pathlib
import sys

import pytest

from grpc_faultwire import policies

FILES = sorted(pathlib.Path(policies.__file__).parent.glob("*.py"))
IMPURE = {"asyncio", "time", "random", "datetime", "secrets", "socket", "queue"}


def test_every_public_name_is_listed_once_and_sorted():
    """``__all__`` is complete, and in ruff's order: constants, classes, functions."""
    names = policies.__all__
    assert len(set(names)) == len(names)
    assert [n for n in names if not n.isupper()] == sorted(n for n in names if not n.isupper())
    assert all(getattr(policies, name) is not None for name in names)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_is_pure(file):
    """Policies import the categories and the standard library, and nothing that knows the time or chance."""
    imported = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    ours = {name for name in imported if name.startswith("grpc_faultwire")}
    assert all(name.startswith(("grpc_faultwire.policies", "grpc_faultwire.category")) for name in ours)
    assert imported - ours <= sys.stdlib_module_names | {"collections.abc"}
    assert not imported & IMPURE


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_file_is_long(file):
    """A file fits in a head."""
    assert len(file.read_text().splitlines()) <= 400

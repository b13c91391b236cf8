"""The page about pitfalls names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", (TESTS.parent / "docs" / "pitfalls.md").read_text())


@pytest.mark.parametrize(("file", "name"), sorted(set(NAMED)))
def test_a_named_test_exists(file: str, name: str) -> None:
    """Under this name, in this file."""
    module = ast.parse((TESTS / file).read_text())
    assert name in {one.name for one in module.body if isinstance(one, ast.FunctionDef)}


def test_every_row_names_one() -> None:
    """A pitfall without a test is none that we keep out of."""
    rows = [line for line in (TESTS.parent / "docs" / "pitfalls.md").read_text().splitlines() if line.startswith("| ")]
    assert len(rows) - 1 == len(NAMED) > 50

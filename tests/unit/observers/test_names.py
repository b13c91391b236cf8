"""The names are declared once, used everywhere, and the page about them is up to date."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from grpc_faultwire.observers import names
from grpc_faultwire.policies import Reason

ROOT = Path(__file__).parents[3]
OBSERVERS = ROOT / "interceptors" / "grpc_faultwire" / "observers"


def test_page_is_up_to_date() -> None:
    """docs/telemetry.md is what names.py gives."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "telemetry.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_labels_are_explained() -> None:
    """Every label of a metric is in the table of labels, and the table has no others."""
    groups = (names.SERVER_METRICS, names.CLIENT_METRICS, names.COMMON_METRICS)
    used = {label for group in groups for metric in group.values() for label in metric.labels}
    assert used == {field.name for field in names.LABELS}


def test_names_are_unique() -> None:
    """No two metrics, events, attributes or fields share a name."""
    for group in (
        [metric.name for part in (names.SERVER_METRICS, names.CLIENT_METRICS) for metric in part.values()],
        [metric.name for metric in names.OPENTELEMETRY_METRICS],
        [event.name for event in names.EVENTS],
        [field.name for field in names.SPAN_ATTRIBUTES],
        [field.name for field in names.LOG_FIELDS],
    ):
        assert len(set(group)) == len(group)


def test_names_are_written_nowhere_else() -> None:
    """No other file of the package spells a metric or an attribute of ours."""
    package = OBSERVERS.parent
    for path in package.rglob("*.py"):
        if path.name != "names.py":
            found = re.findall(
                r'"(grpc_(?:server|client|telemetry)_\w+|faultwire\.(?!v1\b)\w[\w.]*)"', path.read_text()
            )
            assert not found, (path, found)


def test_decisions_are_the_policies() -> None:
    """The page refers to the policies' reasons, whose values are words that a label may hold."""
    assert all(re.fullmatch(r"[a-z_]+", reason.value) for reason in Reason)


def test_every_constant_of_a_span_is_explained() -> None:
    """Each attribute that the code can set is in the table."""
    constants = {
        value
        for name, value in vars(names).items()
        if name.isupper() and isinstance(value, str) and "." in value and not value.endswith(".")
    }
    listed = {field.name for field in names.SPAN_ATTRIBUTES}
    assert constants <= listed

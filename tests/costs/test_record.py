"""A run that was cut goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks import record


def test_a_cut_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found is there again, for the same code; not for another, and not after the end."""
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.setattr(record, "revision", lambda: "abc")
    record.Record("full").add("cpu", "client sync: OK", {"bare": [1.234, 2.0]})
    again = record.Record("full")
    assert again.has("cpu", "client sync: OK")
    assert not again.has("cpu", "client aio: OK")
    monkeypatch.setattr(record, "revision", lambda: "def")
    assert record.Record("full").sections == {}
    kept = again.finish()
    assert json.loads(kept.read_text())["sections"] == {"cpu": {"client sync: OK": {"bare": [1.23, 2.0]}}}
    monkeypatch.setattr(record, "revision", lambda: "abc")
    assert record.Record("full").sections == {}

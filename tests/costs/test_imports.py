"""Importing the package imports nothing that is optional."""

from __future__ import annotations

from benchmarks.imports import OPTIONAL, STATEMENTS, loaded


def test_no_optional_dependency_is_imported() -> None:
    """Neither by the package, nor by either world: only by the observers that need one. It would be seen."""
    grpcs_own = loaded("import grpc")
    ours = {name.partition(".")[0] for name in loaded("; ".join(STATEMENTS)) - grpcs_own}
    assert "grpc_faultwire" in ours
    assert not ours & set(OPTIONAL)
    assert "prometheus_client" in loaded("from grpc_faultwire.observers import PrometheusObserver")

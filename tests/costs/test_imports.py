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


def test_callers_import_nothing_of_servers_and_no_parser() -> None:
    """What a wrapped channel does not need is not imported for it; nor is what a server does not need for a server."""
    grpcs_own = loaded("import grpc")
    channel = loaded("from grpc_faultwire.sync import wrap_channel; import grpc_faultwire.aio.channel") - grpcs_own
    assert "grpc_faultwire.enforcement" in channel
    assert not channel & {"json", "tomllib", "pathlib", "hashlib", "sysconfig", "urllib.parse", "grpc_status"}
    left_out = ("detectors", "server_call", "translation", "catalogue", "observers.logging")
    assert not channel & {f"grpc_faultwire.{name}" for name in left_out}
    server = loaded("from grpc_faultwire.sync import ServerInterceptor; import grpc_faultwire.aio.server") - grpcs_own
    assert "grpc_faultwire.server_call" in server
    assert not server & {"hashlib", "sysconfig", "grpc_status", "grpc_faultwire.detectors", "grpc_faultwire.flow"}
    assert not server & {"grpc_faultwire.policies", "grpc_faultwire.config"}

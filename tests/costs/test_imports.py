"""Importing the package imports nothing that is optional."""

from __future__ import annotations

import pytest
from benchmarks.imports import OPTIONAL, STATEMENTS, loaded

OF_CATALOGUES = ("catalogue", "reader", "declaration")
"""What declares errors."""
OF_POLICIES = ("config", "decisions", "enforcement", "fallback", "policies", "policy_file", "presets", "state")
"""What decides, in a caller that gives a policy."""


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
    assert "grpc_faultwire.flow" in channel
    assert not channel & {"json", "tomllib", "pathlib", "hashlib", "sysconfig", "urllib.parse", "grpc_status"}
    left_out = ("detectors", "server_call", "translation", "observers.logging", *OF_POLICIES, *OF_CATALOGUES)
    assert not channel & {f"grpc_faultwire.{name}" for name in left_out}
    assert not channel & {"grpc._channel", "grpc.experimental"}
    server = loaded("from grpc_faultwire.sync import ServerInterceptor; import grpc_faultwire.aio.server") - grpcs_own
    assert "grpc_faultwire.server_call" in server
    assert not server & {
        "hashlib",
        "sysconfig",
        "concurrent.futures.thread",
        "grpc_status",
        "grpc_faultwire.detectors",
        "grpc_faultwire.flow",
    }
    assert not server & {f"grpc_faultwire.{name}" for name in (*OF_POLICIES, *OF_CATALOGUES)}


@pytest.mark.parametrize(
    "wrapped",
    [
        "from grpc_faultwire.sync import wrap_channel; channel = grpc.insecure_channel('localhost:1')",
        "from grpc_faultwire.aio import wrap_channel; channel = grpc.aio.insecure_channel('localhost:1')",
    ],
)
def test_policies_are_imported_with_the_first_of_them(wrapped: str) -> None:
    """When the channel is wrapped, so that no call waits for an import; who gives no policy never waits."""
    parts = {f"grpc_faultwire.{name}" for name in OF_POLICIES}
    without = f"import grpc; {wrapped}; wrap_channel(channel)"
    assert not loaded(without) & parts
    policy = "from grpc_faultwire.config import ClientPolicy"
    assert parts <= loaded(f"import grpc; {wrapped}; {policy}; wrap_channel(channel, ClientPolicy())")

"""The package: extras are imported when they are asked for, and a missing one is named."""

from __future__ import annotations

import subprocess
import sys

import pytest

from grpc_faultwire import observers

RUN = """
import sys
import grpc_faultwire.observers, grpc_faultwire.sync, grpc_faultwire.aio
print(sorted({"prometheus_client", "opentelemetry"} & set(sys.modules)))
"""
MISSING = """
import sys
sys.modules["prometheus_client"] = None
try:
    from grpc_faultwire.observers import PrometheusObserver
except ModuleNotFoundError as error:
    print(error)
"""


def output(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def test_nothing_optional_is_imported() -> None:
    """Neither prometheus_client nor opentelemetry is imported before it is asked for."""
    assert output(RUN) == "[]"


def test_a_missing_extra_is_named() -> None:
    """Without the extra, the message says what to install."""
    assert output(MISSING) == "PrometheusObserver needs prometheus_client: pip install 'grpc-faultwire[prometheus]'"


def test_unknown_name() -> None:
    """Other names are not there."""
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        observers.Nothing  # noqa: B018

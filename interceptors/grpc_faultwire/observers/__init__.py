"""Watchers of calls, over the one protocol of `grpc_faultwire.records.Observer`.

`LoggingObserver` needs nothing; `PrometheusObserver` and `OpenTelemetryObserver` need their extras, and are imported
when they are asked for. All names in telemetry are in `names`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from grpc_faultwire.observers.logging import LoggingObserver

if TYPE_CHECKING:
    from grpc_faultwire.observers.opentelemetry import OpenTelemetryObserver
    from grpc_faultwire.observers.prometheus import PrometheusObserver

__all__ = ["LoggingObserver", "OpenTelemetryObserver", "PrometheusObserver"]

_LAZY = {"OpenTelemetryObserver": "opentelemetry", "PrometheusObserver": "prometheus"}


def __getattr__(name: str) -> Any:
    extra = _LAZY.get(name)
    if extra is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{extra}"), name)
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith(__name__):
            raise
        raise ModuleNotFoundError(
            f"{name} needs {missing.name}: pip install 'grpc-faultwire[{extra}]'", name=missing.name
        ) from missing

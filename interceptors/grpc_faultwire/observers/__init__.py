"""Watchers of calls, over the one protocol of `grpc_faultwire.records.Observer`.

`LoggingObserver` needs nothing; `PrometheusObserver` and `OpenTelemetryObserver` need their extras, and are imported
when they are asked for. All names in telemetry are in `names`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grpc_faultwire.homes import at_home

if TYPE_CHECKING:
    from grpc_faultwire.observers.logging import LoggingObserver
    from grpc_faultwire.observers.opentelemetry import OpenTelemetryObserver
    from grpc_faultwire.observers.prometheus import PrometheusObserver

__all__ = ["LoggingObserver", "OpenTelemetryObserver", "PrometheusObserver"]

_HOMES = {
    "LoggingObserver": "logging",
    "OpenTelemetryObserver": "opentelemetry",
    "PrometheusObserver": "prometheus",
}
_find = at_home(__name__, _HOMES)


def __getattr__(name: str) -> Any:
    try:
        return _find(name)
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith(__name__):
            raise
        raise ModuleNotFoundError(
            f"{name} needs {missing.name}: pip install 'grpc-faultwire[{_HOMES[name]}]'", name=missing.name
        ) from missing

"""Whether gRPC's core retries calls by itself: the service config among a channel's own arguments."""

from __future__ import annotations

from typing import Any


def retried_by_core(options: Any, call_path: str) -> bool:
    """Tell whether a channel's own service config retries a method too: then attempts multiply.

    Args:
        options: the channel's arguments, pairs.
        call_path: "/shop.v1.Shop/GetBook".
    """
    config = next((value for key, value in options or () if key == "grpc.service_config"), None)
    if not config:
        return False
    import json  # noqa: PLC0415  # most channels have no service config, and every wrapped one looks for it

    try:
        methods = json.loads(config).get("methodConfig", [])
    except (ValueError, AttributeError):
        return False
    service, _, method = call_path.removeprefix("/").rpartition("/")
    fitting: tuple[dict[str, str], ...] = ({"service": service, "method": method}, {"service": service}, {})
    return any(
        "retryPolicy" in one and any({k: v for k, v in name.items() if v} in fitting for name in one.get("name", []))
        for one in methods
    )

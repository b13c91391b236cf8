"""Faultwire for grpc's asyncio API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpc_faultwire.homes import at_home

if TYPE_CHECKING:
    from grpc_faultwire.aio.channel import wrap_channel
    from grpc_faultwire.aio.client import client_interceptors
    from grpc_faultwire.aio.server import ServerInterceptor

__all__ = ["ServerInterceptor", "client_interceptors", "wrap_channel"]

__getattr__ = at_home(
    __name__, {"ServerInterceptor": "server", "client_interceptors": "client", "wrap_channel": "channel"}
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

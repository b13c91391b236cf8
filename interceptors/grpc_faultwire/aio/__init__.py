"""Faultwire for grpc's asyncio API."""

from grpc_faultwire.aio.channel import wrap_channel
from grpc_faultwire.aio.client import client_interceptors
from grpc_faultwire.aio.server import ServerInterceptor

__all__ = ["ServerInterceptor", "client_interceptors", "wrap_channel"]

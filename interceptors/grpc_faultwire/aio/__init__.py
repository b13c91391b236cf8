"""Faultwire for grpc's asyncio API."""

from grpc_faultwire.aio.channel import wrap_channel
from grpc_faultwire.aio.client import client_interceptors

__all__ = ["client_interceptors", "wrap_channel"]

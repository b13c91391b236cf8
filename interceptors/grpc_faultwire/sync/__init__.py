"""Faultwire for grpc's synchronous API."""

from grpc_faultwire.sync.channel import wrap_channel
from grpc_faultwire.sync.client import client_interceptors

__all__ = ["client_interceptors", "wrap_channel"]

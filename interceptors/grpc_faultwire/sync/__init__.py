"""Faultwire for grpc's synchronous API."""

from grpc_faultwire.sync.channel import wrap_channel
from grpc_faultwire.sync.client import client_interceptors
from grpc_faultwire.sync.server import ServerInterceptor

__all__ = ["ServerInterceptor", "client_interceptors", "wrap_channel"]

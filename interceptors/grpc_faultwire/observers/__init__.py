"""Watchers of calls, over the one protocol of `grpc_faultwire.records.Observer`."""

from grpc_faultwire.observers.logging import LoggingObserver

__all__ = ["LoggingObserver"]

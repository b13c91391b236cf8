"""What is put on a server: nothing, ours by part, each peer, and what a user would put together from the peers today.

Peers are imported where they are used: a process has only those that it measures.
"""

# ruff: noqa: PLC0415  # see above

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import grpc

from benchmarks.service import Fail, aborting, details, raising
from benchmarks.spans import provider


class ServerStack(NamedTuple):
    """What is on a server.

    Attributes:
        interceptors: returns them for a world, "sync" or "aio".
        fail: how its handlers fail with a rich error, or with the best that the stack can do.
    """

    interceptors: Callable[[str], list[Any]]
    fail: Fail = aborting


def ours(*, metrics: bool = False, span: bool = False) -> Callable[[str], list[Any]]:
    def make(world: str) -> list[Any]:
        import grpc_faultwire.aio
        import grpc_faultwire.sync

        module = grpc_faultwire.sync if world == "sync" else grpc_faultwire.aio
        observers: list[Any] = []
        if metrics:
            from grpc_faultwire.observers import PrometheusObserver

            observers.append(PrometheusObserver())
        if span:
            from grpc_faultwire.observers import OpenTelemetryObserver

            observers.append(OpenTelemetryObserver(provider()))
        return [module.ServerInterceptor(observers=observers)]

    return make


def exceptions_to_status(world: str) -> list[Any]:
    from grpc_interceptor import AsyncExceptionToStatusInterceptor, ExceptionToStatusInterceptor

    return [ExceptionToStatusInterceptor() if world == "sync" else AsyncExceptionToStatusInterceptor()]


def their_exception(_context: Any, code: grpc.StatusCode) -> Any:
    """Fail as a user of grpc-interceptor does."""
    from grpc_interceptor import exceptions

    raise exceptions.GrpcException(status_code=code, details="A field is wrong.")


def prometheus(world: str) -> list[Any]:
    if world == "sync":
        from py_grpc_prometheus.prometheus_server_interceptor import PromServerInterceptor
    else:
        from py_async_grpc_prometheus.prometheus_async_server_interceptor import (
            PromAsyncServerInterceptor as PromServerInterceptor,
        )
    return [PromServerInterceptor(enable_handling_time_histogram=True)]


def opentelemetry(*, sampled: bool) -> Callable[[str], list[Any]]:
    def make(world: str) -> list[Any]:
        from opentelemetry.instrumentation import grpc as instrumentation

        make = instrumentation.server_interceptor if world == "sync" else instrumentation.aio_server_interceptor
        return [make(tracer_provider=provider(sampled=sampled))]

    return make


def rich_by_hand(context: Any, code: grpc.StatusCode) -> Any:
    """Fail with a google.rpc.Status that a handler makes itself, as grpc-status's manual shows."""
    from google.protobuf import any_pb2
    from google.rpc import error_details_pb2, status_pb2
    from grpc_status import rpc_status

    status = status_pb2.Status(code=code.value[0], message="A field is wrong.")
    for detail in (error_details_pb2.ErrorInfo(reason="WRONG", domain="bench.example.com"), *details()):
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return context.abort_with_status(rpc_status.to_status(status))


def summed(*, span: bool = False) -> Callable[[str], list[Any]]:
    """Errors, metrics and, if asked for, spans, each from its own package."""

    def make(world: str) -> list[Any]:
        spans = opentelemetry(sampled=True)(world) if span else []
        return [*spans, *prometheus(world), *exceptions_to_status(world)]

    return make


STACKS = {
    "bare": ServerStack(lambda _world: []),
    "ours: errors": ServerStack(ours(), raising),
    "ours: all on": ServerStack(ours(metrics=True), raising),
    "ours: all on, own span": ServerStack(ours(metrics=True, span=True), raising),
    "grpc-interceptor": ServerStack(exceptions_to_status, their_exception),
    "py-grpc-prometheus": ServerStack(prometheus),
    "OpenTelemetry, off": ServerStack(opentelemetry(sampled=False)),
    "OpenTelemetry, sampled": ServerStack(opentelemetry(sampled=True)),
    "sum": ServerStack(summed(), rich_by_hand),
    "sum with OpenTelemetry": ServerStack(summed(span=True), rich_by_hand),
}

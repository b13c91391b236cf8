"""What telemetry costs a server for one RPC: `python -m benchmarks.telemetry [--quick]`.

Ours against nothing, and against what it takes the place of: py-grpc-prometheus (if it is installed) and
opentelemetry-instrumentation-grpc. Spans are sampled, and dropped by the exporter of a batch processor.
"""

import asyncio
import importlib.util
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import ExitStack, contextmanager
from typing import Any

import grpc
from opentelemetry.instrumentation.grpc import aio_server_interceptor, server_interceptor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

import grpc_faultwire.aio
import grpc_faultwire.sync
from benchmarks.harness import interleave, table
from benchmarks.rpc import OK, RAISE, asynchronous, server_case
from grpc_faultwire import Internal
from grpc_faultwire.observers import OpenTelemetryObserver, PrometheusObserver


class Nowhere(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:  # noqa: ARG002  # the SDK's signature
        return SpanExportResult.SUCCESS


def provider() -> TracerProvider:
    made = TracerProvider()
    made.add_span_processor(BatchSpanProcessor(Nowhere()))
    return made


def ours(world: str, *observers: Any) -> list[Any]:
    module = grpc_faultwire.sync if world == "sync" else grpc_faultwire.aio
    return [module.ServerInterceptor(observers=observers)]


def theirs(world: str) -> list[Any]:
    if world == "sync":
        from py_grpc_prometheus.prometheus_server_interceptor import PromServerInterceptor  # noqa: PLC0415  # may be missing
    else:
        from py_async_grpc_prometheus.prometheus_async_server_interceptor import (  # noqa: PLC0415  # may be missing
            PromAsyncServerInterceptor as PromServerInterceptor,
        )
    return [PromServerInterceptor(enable_handling_time_histogram=True)]


VARIANTS: dict[str, Callable[[str], list[Any]]] = {
    "bare": lambda _world: [],
    "ours, log only": ours,
    "ours, metrics": lambda world: ours(world, PrometheusObserver()),
    "ours, own span": lambda world: ours(world, OpenTelemetryObserver(provider())),
    "ours, metrics and own span": lambda world: ours(world, PrometheusObserver(), OpenTelemetryObserver(provider())),
    "py-grpc-prometheus": theirs,
    "OpenTelemetry's instrumentation": lambda world: [
        (server_interceptor if world == "sync" else aio_server_interceptor)(tracer_provider=provider())
    ],
}
PACKAGES = {"sync": "py_grpc_prometheus", "aio": "py_async_grpc_prometheus"}


def fail(_request: bytes, _context: Any) -> bytes:
    raise Internal("It is broken.", reason="BROKEN", domain="bench.example.com")


def abort(_request: bytes, context: Any) -> bytes:
    return context.abort(grpc.StatusCode.INTERNAL, "It is broken.")


async def aio_abort(_request: bytes, context: Any) -> bytes:
    return await context.abort(grpc.StatusCode.INTERNAL, "It is broken.")


def handler(world: str, raises: bool) -> grpc.GenericRpcHandler:
    behaviors: dict[str, Any] = {
        "Ok": lambda request, _: request,
        "Cpu": lambda *_: str(time.process_time()).encode(),
        "Raise": fail,
    }
    if world == "aio":
        behaviors = {name: asynchronous(behavior) for name, behavior in behaviors.items()}
    if not raises:
        behaviors["Raise"] = abort if world == "sync" else aio_abort
    methods = {name: grpc.unary_unary_rpc_method_handler(behavior) for name, behavior in behaviors.items()}
    return grpc.method_handlers_generic_handler("bench.Bench", methods)


def serve(world: str, variant: str) -> None:
    """Serve until standard input closes; print the port."""
    logging.getLogger("grpc_faultwire").setLevel(logging.CRITICAL)
    if world == "sync":
        server = grpc.server(futures.ThreadPoolExecutor(4), interceptors=VARIANTS[variant](world))
        server.add_generic_rpc_handlers([handler(world, variant.startswith("ours"))])
        print(server.add_insecure_port("127.0.0.1:0"), flush=True)
        server.start()
        sys.stdin.read()
    else:
        asyncio.run(serve_aio(variant))


async def serve_aio(variant: str) -> None:
    server = grpc.aio.server(interceptors=VARIANTS[variant]("aio"))
    server.add_generic_rpc_handlers([handler("aio", variant.startswith("ours"))])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(None)


@contextmanager
def server(world: str, variant: str) -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.telemetry", world, variant]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        yield f"127.0.0.1:{process.stdout.readline().strip()}"
        assert process.stdin is not None
        process.stdin.close()


def run(rounds: int) -> str:
    tables = []
    for world in ("sync", "aio"):
        with ExitStack() as stack:
            channels = {
                variant: stack.enter_context(grpc.insecure_channel(stack.enter_context(server(world, variant))))
                for variant in VARIANTS
                if variant != "py-grpc-prometheus" or importlib.util.find_spec(PACKAGES[world])
            }
            for name, path in (("OK", OK), ("INTERNAL (ours: raised and rich; others: abort)", RAISE)):
                cases = {variant: server_case(channel, path) for variant, channel in channels.items()}
                tables.append(
                    table(f"{world} server, telemetry: {name}", interleave(cases, rounds=rounds, number=200), "bare")
                )
    return "\n".join(tables)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        serve(sys.argv[1], sys.argv[2])
    else:
        print(run(7 if "--quick" in sys.argv else 31))

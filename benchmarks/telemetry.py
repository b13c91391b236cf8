"""What telemetry costs for one RPC: `python -m benchmarks.telemetry [--quick] [calls]`.

With "calls", the Python functions that are called, which no other work on the machine disturbs; else CPU time, and
rounds of all variants in turn. Ours against nothing, and against what it takes the place of: py-grpc-prometheus (if it
is installed) and opentelemetry-instrumentation-grpc. Spans are sampled, and dropped by a batch processor's exporter.
"""

import asyncio
import importlib.util
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import ExitStack, contextmanager
from typing import Any

import grpc
from opentelemetry.instrumentation.grpc import (
    aio_client_interceptors,
    aio_server_interceptor,
    client_interceptor,
    grpcext,
    server_interceptor,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from prometheus_client import CollectorRegistry

import grpc_faultwire.aio
import grpc_faultwire.sync
from benchmarks.harness import interleave, table
from benchmarks.rpc import OK, RAISE, aio_caller_case, asynchronous, caller_case, server_case
from grpc_faultwire import Internal
from grpc_faultwire.observers import OpenTelemetryObserver, PrometheusObserver

BARE = "bare"
Take = Callable[[str, dict[str, Callable[[int], float]]], str]
"""Measures cases, and returns a table with this title."""


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
    BARE: lambda _world: [],
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


class Calls:
    """Counts calls of Python functions in the threads that start from now on, and in this one."""

    def __init__(self) -> None:
        self.count = 0
        threading.setprofile(self)
        sys.setprofile(self)

    def __call__(self, _frame: Any, event: str, _argument: Any) -> None:
        if event == "call":
            self.count += 1


def handler(world: str, raises: bool, reading: Callable[[], float]) -> grpc.GenericRpcHandler:
    behaviors: dict[str, Any] = {
        "Ok": lambda request, _: request,
        "Cpu": lambda *_: str(reading()).encode(),
        "Raise": fail,
    }
    if world == "aio":
        behaviors = {name: asynchronous(behavior) for name, behavior in behaviors.items()}
    if not raises:
        behaviors["Raise"] = abort if world == "sync" else aio_abort
    methods = {name: grpc.unary_unary_rpc_method_handler(behavior) for name, behavior in behaviors.items()}
    return grpc.method_handlers_generic_handler("bench.Bench", methods)


def serve(world: str, variant: str, measure: str) -> None:
    """Serve until standard input closes; print the port."""
    logging.getLogger("grpc_faultwire").setLevel(logging.CRITICAL)
    calls = Calls() if measure == "calls" else None
    reading = time.process_time if calls is None else lambda: calls.count / 1e6
    if world == "sync":
        server = grpc.server(futures.ThreadPoolExecutor(4), interceptors=VARIANTS[variant](world))
        server.add_generic_rpc_handlers([handler(world, variant.startswith("ours"), reading)])
        print(server.add_insecure_port("127.0.0.1:0"), flush=True)
        server.start()
        sys.stdin.read()
    else:
        asyncio.run(serve_aio(variant, reading))


async def serve_aio(variant: str, reading: Callable[[], float]) -> None:
    server = grpc.aio.server(interceptors=VARIANTS[variant]("aio"))
    server.add_generic_rpc_handlers([handler("aio", variant.startswith("ours"), reading)])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(None)


@contextmanager
def server(world: str, variant: str, measure: str) -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.telemetry", world, variant, measure]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        yield f"127.0.0.1:{process.stdout.readline().strip()}"
        assert process.stdin is not None
        process.stdin.close()


def sync_channels(address: str) -> dict[str, Any]:
    def wrapped(*observers: Any) -> Any:
        return grpc_faultwire.sync.wrap_channel(grpc.insecure_channel(address), observers=observers)

    theirs = client_interceptor(tracer_provider=provider())
    found = {
        BARE: grpc.insecure_channel(address),
        "ours, metrics": wrapped(PrometheusObserver(CollectorRegistry())),
        "ours, own span": wrapped(OpenTelemetryObserver(provider())),
        "ours, metrics and own span": wrapped(
            PrometheusObserver(CollectorRegistry()), OpenTelemetryObserver(provider())
        ),
    }
    if importlib.util.find_spec("py_grpc_prometheus"):
        from py_grpc_prometheus.prometheus_client_interceptor import PromClientInterceptor  # noqa: PLC0415  # may be missing

        found["py-grpc-prometheus"] = grpc.intercept_channel(
            grpc.insecure_channel(address), PromClientInterceptor(enable_client_handling_time_histogram=True)
        )
    return found | {
        "OpenTelemetry's instrumentation": grpcext.intercept_channel(grpc.insecure_channel(address), theirs)
    }


def aio_channels(address: str) -> dict[str, Any]:
    def wrapped(*observers: Any) -> Any:
        return grpc_faultwire.aio.wrap_channel(grpc.aio.insecure_channel(address), observers=observers)

    theirs = aio_client_interceptors(tracer_provider=provider())
    return {
        BARE: grpc.aio.insecure_channel(address),
        "ours, metrics": wrapped(PrometheusObserver(CollectorRegistry())),
        "ours, own span": wrapped(OpenTelemetryObserver(provider())),
        "ours, metrics and own span": wrapped(
            PrometheusObserver(CollectorRegistry()), OpenTelemetryObserver(provider())
        ),
        "OpenTelemetry's instrumentation": grpc.aio.insecure_channel(address, interceptors=theirs),
    }


def servers(world: str, measure: str, take: Take) -> Iterator[str]:
    with ExitStack() as stack:
        channels = {
            variant: stack.enter_context(grpc.insecure_channel(stack.enter_context(server(world, variant, measure))))
            for variant in VARIANTS
            if variant != "py-grpc-prometheus" or importlib.util.find_spec(PACKAGES[world])
        }
        for name, path in (("OK", OK), ("INTERNAL (ours: raised and rich; others: abort)", RAISE)):
            cases = {variant: server_case(channel, path) for variant, channel in channels.items()}
            yield take(f"{world} server, telemetry: {name}", cases)


def sync_callers(address: str, take: Take) -> Iterator[str]:
    with ExitStack() as stack:
        channels = {name: stack.enter_context(channel) for name, channel in sync_channels(address).items()}
        for name, path in (("OK", OK), ("INTERNAL", RAISE)):
            yield take(f"sync caller: {name}", {key: caller_case(one, path) for key, one in channels.items()})


def aio_callers(address: str, take: Take) -> Iterator[str]:
    loop = asyncio.new_event_loop()

    async def connect() -> dict[str, Any]:
        return aio_channels(address)

    channels = loop.run_until_complete(connect())
    for name, path in (("OK", OK), ("INTERNAL", RAISE)):
        cases = {key: aio_caller_case(loop, channel, path) for key, channel in channels.items()}
        yield take(f"aio caller: {name}", cases)
    for channel in channels.values():
        loop.run_until_complete(channel.close())
    loop.close()


def run(rounds: int, measure: str = "cpu") -> str:
    def take(title: str, cases: dict[str, Callable[[int], float]]) -> str:
        return table(title, interleave(cases, rounds=rounds, number=200), BARE)

    tables = [text for world in ("sync", "aio") for text in servers(world, measure, take)]
    if measure == "cpu":
        with server("sync", "ours, log only", measure) as address:
            tables += [*sync_callers(address, take), *aio_callers(address, take)]
    heading = "Python functions called for one RPC, where a table says µs.\n\n" if measure == "calls" else ""
    return heading + "\n".join(tables)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        serve(*sys.argv[1:])
    elif "calls" in sys.argv:
        print(run(3, "calls"))
    else:
        print(run(7 if "--quick" in sys.argv else 31))

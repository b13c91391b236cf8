"""What is put on a channel, and around its calls: nothing, ours by part, each peer, and the sum of today's peers.

Peers are imported where they are used: a process has only those that it measures.
"""

# ruff: noqa: PLC0415  # see above

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import grpc

from benchmarks.spans import provider

Function = Callable[..., Any]
"""A call; in aio a coroutine function."""

ATTEMPTS, RECOVERY = 3, 3600
"""What every retry and every breaker is set to: attempts in all, and seconds for which a circuit stays open."""


class ClientStack(NamedTuple):
    """What is on a client.

    Attributes:
        channel: makes the channel to an address; the second argument is the world, the third the case.
        guard: wraps a call, for a world; None: nothing is around it.
        details: whether errors come decoded; else a caller who wants details decodes them.
        retries: whether failed calls are sent again.
        breaks: whether there is a circuit breaker.
        worlds: where it exists.
    """

    channel: Callable[[str, str, str], Any]
    guard: Callable[[str, Function], Function] | None = None
    details: bool = False
    retries: bool = False
    breaks: bool = False
    worlds: tuple[str, ...] = ("sync", "aio")


def plain(address: str, world: str, _case: str = "", interceptors: Any = ()) -> Any:
    if world == "aio":
        return grpc.aio.insecure_channel(address, interceptors=list(interceptors))
    channel = grpc.insecure_channel(address)
    return grpc.intercept_channel(channel, *interceptors) if interceptors else channel


# Ours.


class Watcher:
    """An observer that does nothing, so that observing itself is measured."""

    def on_start(self, _call: Any) -> None:
        return None

    def on_end(self, _token: Any, _outcome: Any) -> None:
        return None


def policy_for(case: str) -> Any:
    """Return the default policy; where calls are made to fail for ever, neither budget nor breaker stops them."""
    from grpc_faultwire.config import ClientPolicy
    from grpc_faultwire.policies import BreakerPolicy, BudgetPolicy, RetryPolicy

    if case == "retried":
        return ClientPolicy(
            idempotent=True,
            retry=RetryPolicy(max_attempts=ATTEMPTS, initial_backoff=1e-6),
            budget=BudgetPolicy(capacity=1e9, initial=1e9),
            breaker=BreakerPolicy(minimum_calls=10**9),
        )
    return ClientPolicy(breaker=BreakerPolicy(open_duration=RECOVERY, max_open_duration=RECOVERY))


def ours(*, watch: bool = False, policy: bool = False, metrics: bool = False, span: bool = False) -> Any:
    def make(address: str, world: str, case: str) -> Any:
        import grpc_faultwire.aio
        import grpc_faultwire.sync

        wrap = (grpc_faultwire.sync if world == "sync" else grpc_faultwire.aio).wrap_channel
        observers: list[Any] = [Watcher()] if watch else []
        if metrics:
            from grpc_faultwire.observers import PrometheusObserver

            observers.append(PrometheusObserver())
        if span:
            from grpc_faultwire.observers import OpenTelemetryObserver

            observers.append(OpenTelemetryObserver(provider()))
        return wrap(plain(address, world), policy_for(case) if policy else None, observers=observers)

    return make


def official(address: str, world: str, _case: str) -> Any:
    import grpc_faultwire.aio
    import grpc_faultwire.sync

    module = grpc_faultwire.sync if world == "sync" else grpc_faultwire.aio
    return plain(address, world, interceptors=module.client_interceptors(observers=[Watcher()]))


# Peers on the channel.


def prometheus(address: str, world: str, case: str = "") -> Any:
    return plain(address, world, case, prometheus_interceptors(world))


def prometheus_interceptors(world: str) -> list[Any]:
    from prometheus_client import CollectorRegistry

    # A registry for each: a second interceptor on one would be an error.
    settings = {"enable_client_handling_time_histogram": True, "registry": CollectorRegistry()}
    if world == "aio":
        from py_async_grpc_prometheus.prometheus_async_client_interceptor import get_client_interceptors

        return list(get_client_interceptors(**settings))
    from py_grpc_prometheus.prometheus_client_interceptor import PromClientInterceptor

    return [PromClientInterceptor(**settings)]


def opentelemetry(*, sampled: bool, metrics: bool = False) -> Any:
    def make(address: str, world: str, case: str) -> Any:
        from opentelemetry.instrumentation import grpc as instrumentation
        from opentelemetry.instrumentation.grpc.grpcext import intercept_channel

        more = prometheus_interceptors(world) if metrics else []
        if world == "aio":
            spans = instrumentation.aio_client_interceptors(tracer_provider=provider(sampled=sampled))
            return plain(address, world, case, [*spans, *more])
        spans = instrumentation.client_interceptor(tracer_provider=provider(sampled=sampled))
        return intercept_channel(plain(address, world, case, more), spans)

    return make


# Peers around the call.


def unavailable(error: BaseException) -> bool:
    return isinstance(error, grpc.RpcError) and error.code() is grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]  # every error of a call has it


def api_core(world: str, function: Function) -> Function:
    from google.api_core import retry, retry_async

    kind = retry.Retry if world == "sync" else retry_async.AsyncRetry
    return kind(predicate=unavailable, initial=1e-6, maximum=1e-6, timeout=60)(function)


def tenacity(_world: str, function: Function) -> Function:
    from tenacity import retry, retry_if_exception, stop_after_attempt, wait_none

    return retry(
        retry=retry_if_exception(unavailable), stop=stop_after_attempt(ATTEMPTS), wait=wait_none(), reraise=True
    )(function)


def stamina(_world: str, function: Function) -> Function:
    import stamina as library

    return library.retry(on=unavailable, attempts=ATTEMPTS, timeout=None, wait_initial=0, wait_max=0, wait_jitter=0)(
        function
    )


def pybreaker(_world: str, function: Function) -> Function:
    from pybreaker import CircuitBreaker

    return CircuitBreaker(fail_max=20, reset_timeout=RECOVERY, exclude=[lambda error: not unavailable(error)])(function)


def circuitbreaker(_world: str, function: Function) -> Function:
    from circuitbreaker import CircuitBreaker

    expected = lambda _kind, error: unavailable(error)  # noqa: E731  # it takes a function with two arguments only
    return CircuitBreaker(failure_threshold=20, recovery_timeout=RECOVERY, expected_exception=expected)(function)


def purgatory(world: str, function: Function) -> Function:
    from purgatory import AsyncCircuitBreakerFactory, SyncCircuitBreakerFactory

    kind = SyncCircuitBreakerFactory if world == "sync" else AsyncCircuitBreakerFactory
    excluded = [(grpc.RpcError, lambda error: not unavailable(error))]
    return kind(default_threshold=20, default_ttl=RECOVERY, exclude=excluded)("bench")(function)


def guarded(retry: Any) -> Any:
    """Return a breaker inside of a retry; an open circuit is not retried, as it is no RpcError."""
    return lambda world, function: retry(world, circuitbreaker(world, function))


STACKS = {
    "bare": ClientStack(plain),
    "ours: errors": ClientStack(ours(), details=True),
    "ours: errors, observed": ClientStack(ours(watch=True), details=True),
    "ours: official interceptors, observed": ClientStack(official, details=True),
    "ours: + policies": ClientStack(ours(policy=True), details=True, retries=True, breaks=True),
    "ours: all on": ClientStack(ours(policy=True, metrics=True), details=True, retries=True, breaks=True),
    "ours: all on, own span": ClientStack(
        ours(policy=True, metrics=True, span=True), details=True, retries=True, breaks=True
    ),
    "py-grpc-prometheus": ClientStack(prometheus),
    "OpenTelemetry, off": ClientStack(opentelemetry(sampled=False)),
    "OpenTelemetry, sampled": ClientStack(opentelemetry(sampled=True)),
    "google-api-core Retry": ClientStack(plain, api_core, retries=True),
    "tenacity": ClientStack(plain, tenacity, retries=True),
    "stamina": ClientStack(plain, stamina, retries=True),
    "pybreaker": ClientStack(plain, pybreaker, breaks=True, worlds=("sync",)),
    "circuitbreaker": ClientStack(plain, circuitbreaker, breaks=True),
    "purgatory": ClientStack(plain, purgatory, breaks=True),
    "sum": ClientStack(prometheus, guarded(tenacity), retries=True, breaks=True),
    "sum, cheapest parts": ClientStack(prometheus, guarded(api_core), retries=True, breaks=True),
    "sum with OpenTelemetry": ClientStack(
        opentelemetry(sampled=True, metrics=True), guarded(tenacity), retries=True, breaks=True
    ),
}

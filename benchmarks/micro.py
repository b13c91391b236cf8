"""The parts of a call, each by itself: nanoseconds in this process, and counts (see `counted`)."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import grpc
from prometheus_client import CollectorRegistry

from benchmarks import service
from benchmarks.wire import usual
from grpc_faultwire import Redactor, StatusError, Translator
from grpc_faultwire.audience import Audience
from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.flow import Flow
from grpc_faultwire.observers import PrometheusObserver
from grpc_faultwire.plan import Begun, Plan
from grpc_faultwire.policies import Breaker, Health, RetryBudget
from grpc_faultwire.presets import Circumstances, classify
from grpc_faultwire.records import Attempt, CallInfo, Kind, Outcome, Side
from grpc_faultwire.sources import source_of
from grpc_faultwire.state import PolicyState
from grpc_faultwire.status import decode, encode

Operation = Callable[[], object]

CALL = CallInfo.of(service.OK, kind=Kind.UNARY, side=Side.CLIENT, target="bench:1")


def operations() -> dict[str, Operation]:
    """Return every part, by name."""
    return {**policies(), **flows(), **wire(), **dispatch(), **observers()}


def policies() -> dict[str, Operation]:
    breaker, refusing = Breaker(rng=random.random), Breaker(rng=random.random)
    refusing.force_open(time.monotonic())
    budget = RetryBudget()
    unavailable = decode(grpc.StatusCode.UNAVAILABLE, "", trailing_metadata=())
    circumstances = Circumstances()
    success = classify(None, circumstances)

    def guarded() -> None:
        permit: Any = breaker.acquire(time.monotonic())
        permit.record(Health.SUCCESS, time.monotonic())

    def spent() -> None:
        budget.take(5.0)
        budget.refund(5.0)

    return {
        "breaker: acquire and record": guarded,
        "breaker: refuse": lambda: refusing.acquire(time.monotonic()),
        "budget: credit": lambda: budget.credit(success),
        "budget: take and refund": spent,
        "verdict on a success": lambda: classify(None, circumstances),
        "verdict on an error": lambda: classify(unavailable, circumstances),
    }


def flows() -> dict[str, Operation]:
    """Return whole calls without a wire: what is decided, in either world, about a call that succeeds at once.

    The first two are what most unary calls come to; the others have a flow, as streams and calls that fail.
    """
    state = PolicyState()

    def plan(policy: ClientPolicy | None, owner: PolicyState | None = None) -> Plan:
        source: Any = source_of(policy, owner)
        decided = None if source is None else source.for_method(CALL)
        return Plan(CALL, clock=time.monotonic, audience=Audience(), policies=decided, random=random.random)

    bare, full, refused = plan(None), plan(ClientPolicy(idempotent=True)), plan(ClientPolicy(), state)

    def succeed(chosen: Plan) -> Operation:
        def run() -> None:
            flow = Flow(chosen)
            attempt: Any = flow.send()
            flow.settle(attempt, None)

        return run

    def begin(chosen: Plan) -> Operation:
        def run() -> None:
            attempt, tokens = cast("Begun", chosen.begin(None))
            chosen.succeed(attempt, tokens)

        succeed(chosen)()  # from the second call on, all policies are known
        return run

    def refuse() -> None:
        with contextlib.suppress(StatusError):
            Flow(refused).send()

    succeed(refused)()
    for breaker in state.snapshot(time.monotonic()):
        state.force_open(breaker.key, time.monotonic())
    return {
        "plan: one call": begin(bare),
        "plan: one call, all policies": begin(full),
        "flow: one call": succeed(bare),
        "flow: one call, all policies": succeed(full),
        "flow: open circuit": refuse,
    }


def wire() -> dict[str, Operation]:
    redactor = Redactor(metadata_keys=["count"])
    error = usual()
    reply = encode(error, service=service.NAME, method="Raise", redactor=redactor, now=1e9)
    violations = service.details()[0]

    def read() -> object:
        decoded = decode(reply.code, reply.message, trailing_metadata=reply.trailers)
        return decoded.error_details, decoded.report, decoded.reason

    return {
        "encode a rich error": lambda: encode(error, service="s", method="m", redactor=redactor, now=1e9),
        "decode a rich error": lambda: decode(reply.code, reply.message, trailing_metadata=reply.trailers),
        "decode it, and read all its details": read,
        "redaction of a text": lambda: redactor.text("The order of 2026-01-02 has no line 3."),
        "redaction of a detail": lambda: redactor.detail(violations),
    }


class _Call:
    """What a translator asks about a call."""

    service, method, expired, cancelled = service.NAME, "Raise", False, False


def dispatch() -> dict[str, Operation]:
    translator, call = Translator(maps=["stdlib"]), _Call()
    mapped, unmapped, own = FileNotFoundError("x"), ValueError("x"), usual()
    return {
        "dispatch of a mapped exception": lambda: translator.translate(mapped, call),
        "dispatch of an unmapped exception": lambda: translator.translate(unmapped, call),
        "dispatch of an error of ours": lambda: translator.translate(own, call),
    }


def observers() -> dict[str, Operation]:
    watching = PrometheusObserver(CollectorRegistry())
    attempts = [Attempt(number=1, started=0.0, ended=0.01)]
    outcome = Outcome(code=grpc.StatusCode.OK, seconds=0.01, how="done", attempts=attempts)
    audience = Audience([watching])

    def told() -> None:
        audience.ended(audience.start(CALL), outcome)

    return {"observer calls: Prometheus, start and end": told}


def nanoseconds(cases: Mapping[str, Operation], *, rounds: int, number: int = 2000) -> dict[str, list[float]]:
    """Time operations in turn.

    Args:
        cases: by name.
        rounds: how often each is timed.
        number: operations in a round.

    Returns:
        Nanoseconds of CPU time for one operation, a sample for each round.
    """
    samples: dict[str, list[float]] = {name: [] for name in cases}
    for operation in cases.values():
        for _ in range(number // 10):
            operation()
    for _ in range(rounds):
        for name, operation in cases.items():
            started = time.thread_time_ns()
            for _ in range(number):
                operation()
            samples[name].append((time.thread_time_ns() - started) / number)
    return samples

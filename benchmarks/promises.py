"""What the project promises about cost, held against a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any, NamedTuple

from benchmarks.client_cases import MESSAGES

TIMES = "×"  # noqa: RUF001  # a sign of multiplication is meant

SUCCESS = {"sync": 25, "aio": 45}
OBSERVED = {"sync": 12, "aio": 25}
POLICIES = {"sync": 25, "aio": 35}
ERROR = 150
MESSAGE = 2
IMPORT = 40


class Promise(NamedTuple):
    """One promise.

    Attributes:
        text: what of.
        limit: at most so much, with its unit.
        measured: what it was, with its unit.
        kept: whether it was within the limit.
    """

    text: str
    limit: str
    measured: str
    kept: bool


def held(text: str, limit: float, measured: float, unit: str) -> Promise:
    digits = 2 if unit == TIMES else 1
    return Promise(text, f"{limit:g} {unit}", f"{measured:.{digits}f} {unit}", measured <= limit)


def promises(sections: Mapping[str, Any]) -> Iterator[Promise]:
    """Give every promise that the run has figures for."""
    cpu = sections.get("cpu", {})
    for side in ("client", "server"):
        for world in ("sync", "aio"):
            yield from of_calls(cpu, f"{side} {world}", world)
    yield from of_parts(sections.get("parts", {}))
    for statement, values in sections.get("imports", {}).get("imports", {}).items():
        yield held(f"`{statement}`, beyond grpc", IMPORT, median(values), "ms")
    for name, loads in sections.get("scale", {}).items():
        yield from of_scale(name, loads)


def overhead(samples: Mapping[str, list[float]], stack: str) -> float:
    """Return the median over the rounds of what a stack takes more than bare, in microseconds."""
    return median(one - bare for one, bare in zip(samples[stack], samples["bare"], strict=True))


def of_calls(cpu: Mapping[str, Any], name: str, world: str) -> Iterator[Promise]:
    found = cpu.get(f"{name}: OK")
    if found:
        more = {stack: overhead(found, stack) for stack in found if stack != "bare"}
        yield held(f"{name}, all on", SUCCESS[world], more["ours: all on"], "µs")
        yield held(f"{name}, all on, of the sum's overhead", 0.5, ratio(more["ours: all on"], more["sum"]), TIMES)
        spans = more["ours: all on, own span"], more["sum with OpenTelemetry"]
        yield held(f"{name}, own span, of the sum's with OpenTelemetry", 0.6, ratio(*spans), TIMES)
        if "ours: errors, observed" in more:
            yield held(f"{name}, observed", OBSERVED[world], more["ours: errors, observed"], "µs")
            yield held(f"{name}, policies", POLICIES[world], more["ours: + policies"], "µs")
    if found := cpu.get(f"{name}: rich error"):
        yield held(f"{name}, a rich error", ERROR, overhead(found, "ours: all on"), "µs")
    if found := cpu.get(f"{name}: open circuit"):
        share = ratio(median(found["ours: all on"]), median(found["bare"]))
        yield held(f"{name}, an open circuit, of a successful call", 0.1, share, TIMES)
    if found := cpu.get(f"{name}: stream"):
        yield held(f"{name}, a message of a stream", MESSAGE, overhead(found, "ours: all on") / MESSAGES, "µs")


def ratio(ours: float, theirs: float) -> float:
    # Where the other's overhead is lost in the noise there is nothing to be a part of.
    return ours / theirs if theirs > 0 else float("inf")


def of_parts(parts: Mapping[str, Any]) -> Iterator[Promise]:
    if breakers := parts.get("breakers"):
        limit = median(breakers["circuitbreaker"])
        yield held("breaker (circuitbreaker's)", round(limit), median(breakers["ours: acquire and record"]), "ns")
    if retries := parts.get("retries"):
        limit = 2 * median(retries["google-api-core Retry"])
        ours = median(retries["ours: retry, budget, breaker and deadline"])
        yield held("the policies of a call (twice api-core's Retry)", round(limit), ours, "ns")


def of_scale(name: str, loads: Mapping[str, Any]) -> Iterator[Promise]:
    """Compare the least load and the greatest: by how much a call's cost grows, less what bare grpc's own grows."""
    for what in ("at a time", "methods", "breaker keys"):
        sizes = named(loads, what)
        few, many = (loads[f"{size} {what}"] for size in (min(sizes), max(sizes)))
        added = [stacks["ours"][0] - stacks["bare"][0] for stacks in (few, many)]
        growth = 1 + (added[1] - added[0]) / few["ours"][0]
        yield held(f"{name}, from {min(sizes)} to {max(sizes)} {what}", 1.1, growth, TIMES)


def named(loads: Mapping[str, Any], what: str) -> list[int]:
    return [int(load.split()[0]) for load in loads if load.endswith(what)]

"""What one RPC takes of the CPU time of its server, or of its client, with each stack: interleaved rounds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from benchmarks import client_stacks, server_stacks
from benchmarks.client_cases import BIDI_MESSAGES, MESSAGES
from benchmarks.harness import rounds_of
from benchmarks.loops import aio_caller_case, caller_case, server_case
from benchmarks.processes import Client, Server
from benchmarks.service import BIDI, CPU, CRASH, OK, RAISE, STREAM, asynchronous

__all__ = ["OK", "RAISE", "aio_caller_case", "asynchronous", "caller_case", "groups", "server_case"]

Samples = dict[str, list[float]]
"""Microseconds of CPU for one call: a sample for each round, by stack."""

NUMBERS = {"OK": 150, "rich error": 60, "unmapped exception": 60, "retried": 60, "open circuit": 400}
STREAM_NUMBERS = {"stream": 6, "bidi": 20}
"""Calls in a round."""
MORE_ROUNDS = {"OK": 4, "rich error": 2, "stream": 4}
"""How many times as many rounds a case gets: where little is promised, little noise is borne."""

PATHS = {"OK": OK, "rich error": RAISE, "unmapped exception": CRASH}


def server_stream_case(channel: grpc.Channel, case: str) -> Callable[[int], float]:
    cpu, stream, bidi = channel.unary_unary(CPU), channel.unary_stream(STREAM), channel.stream_stream(BIDI)

    def run(number: int) -> float:
        started = float(cpu(b""))
        for _ in range(number):
            calls = stream(str(MESSAGES).encode()) if case == "stream" else bidi(iter([b"x"] * BIDI_MESSAGES))
            for _message in calls:
                pass
        return float(cpu(b"")) - started

    return run


def groups(*, quick: bool) -> list[Group]:
    """Return what can be measured: both sides of both worlds."""
    sides = (("client", measure_clients), ("server", measure_servers))
    return [Group(side, world, measure, quick=quick) for side, measure in sides for world in ("sync", "aio")]


class Group:
    """One side of one world: its processes are started once for all cases.

    Args:
        side: "client" or "server".
        world: "sync" or "aio".
        measure: makes the cases.
        quick: only unary calls that succeed or fail.
    """

    def __init__(self, side: str, world: str, measure: Any, *, quick: bool) -> None:
        self._name = f"{side} {world}"
        self._world = world
        self._measure = measure
        more = ("retried", "open circuit") if side == "client" else ("unmapped exception",)
        self._cases = ["OK", "rich error"] if quick else ["OK", "rich error", *more, "stream", "bidi"]

    def __call__(self, wanted: Callable[[str], bool], rounds: int) -> Iterator[tuple[str, Samples]]:
        """Measure the cases whose full names are wanted."""
        cases = [case for case in self._cases if wanted(f"{self._name}: {case}")]
        if cases:
            for case, samples in self._measure(self._world, cases, rounds):
                yield f"{self._name}: {case}", samples


def measure_servers(world: str, cases: list[str], rounds: int) -> Iterator[tuple[str, Samples]]:
    with contextlib.ExitStack() as stack:
        channels = {
            name: stack.enter_context(grpc.insecure_channel(stack.enter_context(Server(world, name))))
            for name in server_stacks.STACKS
        }
        for case in cases:
            streams = case in STREAM_NUMBERS
            number = STREAM_NUMBERS[case] if streams else NUMBERS[case]
            runs = {
                name: server_stream_case(channel, case) if streams else server_case(channel, PATHS[case])
                for name, channel in channels.items()
            }
            yield case, rounds_of(runs, rounds=rounds * MORE_ROUNDS.get(case, 1), number=number)


def fits(stack: client_stacks.ClientStack, name: str, case: str, world: str) -> bool:
    """Whether a stack has anything to do in a case."""
    if world not in stack.worlds:
        return False
    return name == "bare" or {"retried": stack.retries, "open circuit": stack.breaks}.get(case, True)


def measure_clients(world: str, cases: list[str], rounds: int) -> Iterator[tuple[str, Samples]]:
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(Server("sync", "rich"))
        clients = {
            name: stack.enter_context(Client(world, name, address))
            for name, chosen in client_stacks.STACKS.items()
            if world in chosen.worlds
        }
        for case in cases:
            # A circuit that is open is held against a call that succeeds.
            runs = {
                name: lambda number, client=client, case=case, name=name: client.run(
                    "OK" if case == "open circuit" and name == "bare" else case, number
                )
                for name, client in clients.items()
                if fits(client_stacks.STACKS[name], name, case, world)
            }
            number = {**NUMBERS, **STREAM_NUMBERS}[case]
            yield case, rounds_of(runs, rounds=rounds * MORE_ROUNDS.get(case, 1), number=number)

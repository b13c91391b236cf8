"""A bookshop fails in nine ways, and then altogether: `python -m examples.bookshop.demo`, or `make demo`.

Servers run in processes of their own. Every scene is played in grpc's sync and aio worlds, and must come out alike.
Act two is played live: a naive caller and one with a policy, at a shop that is flaky, down and well again.
Act three imports 5,000 books into a flaky shop, and 2 % of their records are bad.
It ends with 1 and a sentence if anything is not as it must be.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import grpc
import grpc.aio

from bookshop.v1 import bookshop_pb2 as pb
from bookshop.v1 import bookshop_pb2_grpc
from examples.bookshop.importing import import_books, show_imported
from examples.bookshop.players import Evidence, play_aio, play_sync
from examples.bookshop.processes import Log, Server, absent_supplier, silent_supplier
from examples.bookshop.scenes import PRIDE, SCENES, Scene
from examples.bookshop.screen import Screen, View
from examples.bookshop.storm import storm
from examples.bookshop.timeline import show_outcome, show_rows
from grpc_faultwire import aio, sync


class Theatre(NamedTuple):
    """A bookshop in both worlds, with callers at hand."""

    sync_stub: bookshop_pb2_grpc.BookshopStub
    sync_log: Log
    aio_stub: bookshop_pb2_grpc.BookshopAsyncStub
    aio_log: Log
    runner: asyncio.Runner

    def play(self, scene: Scene) -> tuple[Evidence, Evidence]:
        sync_since, aio_since = len(self.sync_log), len(self.aio_log)
        here = play_sync(self.sync_stub, scene)
        there = self.runner.run(play_aio(self.aio_stub, scene))
        here.find_log(self.sync_log, sync_since, scene)
        there.find_log(self.aio_log, aio_since, scene)
        return here, there


class House(NamedTuple):
    """All that the acts are played with: bookshops with Faultwire and without, and the two of them that have moods."""

    guarded: Theatre
    plain: Theatre
    guarded_shop: Server
    plain_shop: Server


@contextlib.contextmanager
def theatres() -> Iterator[House]:
    """Start all servers at once."""
    with contextlib.ExitStack() as stack:
        suppliers = ("--wholesaler", stack.enter_context(absent_supplier()))
        suppliers += ("--importer", stack.enter_context(silent_supplier()))
        servers = [
            stack.enter_context(Server(world, "--moody", *suppliers, *plain))
            for plain in ((), ("--plain",))
            for world in ("sync", "aio")
        ]
        runner = stack.enter_context(asyncio.Runner())
        for server in servers:
            server.ready()
        guarded, plain = _theatre(stack, runner, *servers[:2]), _theatre(stack, runner, *servers[2:])
        yield House(guarded, plain, guarded_shop=servers[0], plain_shop=servers[2])


def _theatre(stack: contextlib.ExitStack, runner: asyncio.Runner, here: Server, there: Server) -> Theatre:
    channel = stack.enter_context(sync.wrap_channel(grpc.insecure_channel(here.address)))
    aio_channel = runner.run(_aio_channel(there.address))
    stack.callback(lambda: runner.run(aio_channel.close()))
    return Theatre(
        bookshop_pb2_grpc.BookshopStub(channel),
        here.log,
        bookshop_pb2_grpc.BookshopStub(aio_channel),
        there.log,
        runner,
    )


async def _aio_channel(address: str) -> grpc.aio.Channel:
    # grpc.aio's channels belong to the event loop in which they are made.
    return aio.wrap_channel(grpc.aio.insecure_channel(address))


def perform(screen: Screen, house: House) -> list[str]:
    """Play all scenes; return what was not as it must be."""
    faults: list[str] = []
    book = house.guarded.sync_stub.GetBook(pb.GetBookRequest(isbn=PRIDE), timeout=10)
    screen.say(f"Bookshops serve in four processes, sync and aio, with Faultwire and without. {book.isbn} is there:")
    screen.say(f"{book.title} by {book.author}, {book.price_cents / 100:.2f}. Now for what goes wrong.")
    for number, scene in enumerate(SCENES, start=1):
        here, there = (house.plain if scene.plain else house.guarded).play(scene)
        wrong = scene.faults(here) + scene.faults(there)
        if here.alike(scene) != there.alike(scene):
            wrong.append("sync and aio do not come out alike")
        if not wrong:
            screen.show(View.of(number, scene, here, there))
        faults += [f"Scene {number}, {scene.title}: {sentence}." for sentence in wrong]
    return faults


def act_one(screen: Screen, house: House, started: float) -> list[str]:
    faults = perform(screen, house)
    if not faults:
        checks, seconds = sum(len(scene.all_checks) for scene in SCENES), time.perf_counter() - started
        screen.say(
            f"{len(SCENES)} scenes and {checks} checks, each in both worlds: all as it must be. {seconds:.1f} s.",
            "green",
        )
    return faults


def act_two(screen: Screen, shop: Server) -> list[str]:
    """Play the outage; return what was not as it must be."""
    started = time.perf_counter()
    screen.say("")
    screen.say("Act two. A shop turns flaky, goes down and recovers; two callers make 40 calls a second each.")
    screen.say("The naive one makes 4 attempts of each, by grpc's service config; ours has a ClientPolicy.")
    with storm(shop) as played:
        rows = show_rows(screen, played.rows())
        outcome = played.outcome(rows)
    show_outcome(screen, outcome)
    faults = [f"Act two: {sentence}." for sentence in outcome.faults()]
    if not faults:
        screen.say(f"The circuit opened and healed: all as it must be. {time.perf_counter() - started:.1f} s.", "green")
    return faults


def act_three(screen: Screen, shop: Server) -> list[str]:
    """Play the import; return what was not as it must be."""
    started = time.perf_counter()
    screen.say("")
    screen.say(
        "Act three. 5,000 books come in; 2 % of the records are bad, and the shop turns calls away as in act two."
    )
    screen.say("A BatchCaller sends 250 a call, and again what was lost or is asked to come back, and nothing else.")
    imported = import_books(screen, shop)
    show_imported(screen, imported)
    faults = [f"Act three: {sentence}." for sentence in imported.faults()]
    if not faults:
        screen.say(f"Every book is accounted for: all as it must be. {time.perf_counter() - started:.1f} s.", "green")
    return faults


def main() -> int:
    started, screen = time.perf_counter(), Screen()
    with theatres() as house:
        faults = (
            act_one(screen, house, started)
            or act_two(screen, house.plain_shop)
            or act_three(screen, house.guarded_shop)
        )
    for sentence in faults:
        screen.say(sentence, "bold red")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

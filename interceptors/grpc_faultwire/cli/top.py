"""``faultwire top``: what a server's diagnostics say, live; and its breakers, forced by hand."""

from __future__ import annotations

import argparse
import json
import queue
import sys
from collections.abc import Iterator

import grpc
from google.protobuf import json_format

from faultwire.v1 import diagnostics_pb2 as pb
from faultwire.v1 import diagnostics_pb2_grpc
from grpc_faultwire.cli.board import BREAKER_HEAD, BUDGET_HEAD, GROUP_HEAD, OVERRIDES, Board, Order
from grpc_faultwire.cli.connection import Metadata, channel_to, metadata_of
from grpc_faultwire.cli.keyboard import Keyboard, keyboard
from grpc_faultwire.cli.tables import table
from grpc_faultwire.cli.terminal import FINE, FOUND, Painter, Problem, complain, say
from grpc_faultwire.cli.watching import Lost, Watcher, sentence
from grpc_faultwire.redaction import escaped
from grpc_faultwire.status import from_rpc_error

TICK = 0.1
"""Seconds between two looks at keys and snapshots."""


def run(options: argparse.Namespace) -> int:
    """Show snapshots, or force breakers."""
    if options.timeout <= 0:
        raise Problem(f"a call needs a timeout above 0, not {options.timeout:g}")
    if not 0.1 <= options.interval <= 60 or not 1 <= options.groups <= 256:
        raise Problem("the interval is 0.1 to 60 seconds, and groups are 1 to 256")
    orders = [_order(text) for text in options.force]
    with channel_to(options) as channel:
        admin = Admin(channel, metadata_of(options.header), options.timeout)
        try:
            if orders:
                return _force(admin, orders, options)
            if options.once or not (options.json or _terminal()):
                _write(admin.snapshot(options.groups), options)
                return FINE
        except grpc.RpcError as raised:
            complain(escaped(sentence(options.target, from_rpc_error(raised))))
            return FOUND
        watcher = Watcher(
            channel,
            admin.metadata,
            interval=options.interval,
            groups=options.groups,
            patience=options.timeout,
        )
        with watcher:
            return _stream(watcher, options) if options.json else _live(watcher, admin, options)


class Admin:
    """The diagnostics of a server, for single calls.

    Args:
        channel: to it.
        metadata: sent with every call.
        timeout: seconds for each.
    """

    def __init__(self, channel: grpc.Channel, metadata: Metadata, timeout: float) -> None:
        self._stub = diagnostics_pb2_grpc.DiagnosticsStub(channel)
        self.metadata = metadata
        self._timeout = timeout

    def snapshot(self, groups: int) -> pb.Snapshot:
        """Return what is known now."""
        request = pb.GetSnapshotRequest(max_groups=groups)
        return self._stub.GetSnapshot(request, timeout=self._timeout, metadata=self.metadata)

    def force(self, order: Order) -> str:
        """Carry out an order; say what was done."""
        return order.done(self._stub.ForceBreaker(order.request(), timeout=self._timeout, metadata=self.metadata))


def _terminal() -> bool:
    return sys.stdout.isatty()


def _order(text: str) -> Order:
    name, _, word = text.rpartition("=")
    if not name or word not in OVERRIDES:
        raise Problem(f"{text!r} forces nothing: give it as BREAKER=open, =closed or =auto")
    return Order(name, word)


def _force(admin: Admin, orders: list[Order], options: argparse.Namespace) -> int:
    for order in orders:
        try:
            say(escaped(admin.force(order)))
        except grpc.RpcError as raised:
            error = from_rpc_error(raised)
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            names = ", ".join(one.name for one in admin.snapshot(options.groups).breakers) or "none"
            complain(escaped(f"{options.target} has no breaker {order.breaker!r}; it has: {names}"))
            return FOUND
    return FINE


# Without a terminal.


def _write(snapshot: pb.Snapshot, options: argparse.Namespace) -> None:
    if options.json:
        say(json.dumps(json_format.MessageToDict(snapshot, preserving_proto_field_name=True)))
        return
    board = Board()
    board.update(snapshot)
    for line in _lines(board, Painter(options.color)):
        say(line)


def _lines(board: Board, paint: Painter) -> Iterator[str]:
    yield paint(board.title(), "bold")
    for head, rows in (
        (GROUP_HEAD, board.groups()),
        (BREAKER_HEAD, board.breakers()),
        (BUDGET_HEAD, board.budgets()),
    ):
        if rows:
            # One snapshot says nothing of rates.
            kept = [number for number, name in enumerate(head) if name != "per s"]
            yield ""
            yield from table(
                [head[number] for number in kept], [[row[number] for number in kept] for row in rows], paint
            )


def _stream(watcher: Watcher, options: argparse.Namespace) -> int:
    while True:
        news = watcher.news.get()
        if isinstance(news, Lost):
            complain(_lost(news, options))
            if news.delay is None:
                return FOUND
        else:
            _write(news, options)
            sys.stdout.flush()


def _lost(news: Lost, options: argparse.Namespace) -> str:
    again = "" if news.delay is None else f"; trying again in {news.delay:.1f} s"
    return escaped(sentence(options.target, news.error)) + again


# On a terminal.


def _live(watcher: Watcher, admin: Admin, options: argparse.Namespace) -> int:
    try:
        from rich.console import Console  # noqa: PLC0415  # an extra
        from rich.live import Live  # noqa: PLC0415  # as above

        from grpc_faultwire.cli.live import draw  # noqa: PLC0415  # as above
    except ImportError:
        raise Problem("a live view needs rich: pip install 'grpc-faultwire[cli]'; --once does without") from None
    console, board = Console(no_color={"never": True, "always": False}.get(options.color)), Board()
    with keyboard() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        last = drawn = None
        while last is None:
            seen = (*board.state(), console.size)
            if seen != drawn:
                live.update(draw(board, options.target, console), refresh=True)
                drawn = seen
            last = _step(watcher, admin, board, keys, options)
    if last:
        complain(last)
    return FOUND if last else FINE


def _step(watcher: Watcher, admin: Admin, board: Board, keys: Keyboard, options: argparse.Namespace) -> str | None:
    """Take in what has happened; return why it ends, "" if it was asked to, None if it goes on."""
    for key in keys.press(TICK):
        if key == "q" and board.asked is None:
            return ""
        order = board.press(key)
        if order is not None:
            board.news = _tried(admin, order, options)
    while True:
        try:
            news = watcher.news.get_nowait()
        except queue.Empty:
            return None
        if not isinstance(news, Lost):
            board.update(news)
        elif news.delay is None:
            return _lost(news, options)
        else:
            board.stale = _lost(news, options)


def _tried(admin: Admin, order: Order, options: argparse.Namespace) -> str:
    try:
        return admin.force(order)
    except grpc.RpcError as raised:
        return f"{order.breaker} was not forced: {sentence(options.target, from_rpc_error(raised))}"

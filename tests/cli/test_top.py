"""faultwire top: a server's diagnostics in a pipe, for scripts and on a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from faultwire.testing.v1 import scripted_pb2, scripted_pb2_grpc
from faultwire.v1 import diagnostics_pb2 as pb
from grpc_faultwire import Unauthenticated, Unavailable
from grpc_faultwire.cli.board import Board, Order, ago
from grpc_faultwire.cli.keyboard import keys
from grpc_faultwire.cli.watching import Lost, Watcher
from grpc_faultwire.diagnostics import ErrorGroups
from grpc_faultwire.diagnostics.sync import DiagnosticsServicer
from grpc_faultwire.policies import BreakerPolicy
from grpc_faultwire.state import PolicyState
from grpc_faultwire.sync.server import ServerInterceptor
from grpc_faultwire.testing import FaultyLink, ScriptedServicer, serve

from .conftest import Run

BREAKER = "shop/bookshop.v1.Bookshop"


class House:
    """A server with diagnostics, whose errors can be made and whose hook can be told what to say."""

    def __init__(self) -> None:
        self.groups = ErrorGroups()
        self.state = PolicyState()
        self.state.breaker(("shop", "bookshop.v1.Bookshop"), BreakerPolicy())
        self.state.breaker(("shop", "bookshop.v1.Prices"), BreakerPolicy())
        self.metadata: dict[str, Any] = {}
        self.says = True

    def authorise(self, context: Any, _action: str) -> bool:
        self.metadata = dict(context.invocation_metadata())
        return self.says

    def serve(self) -> serve:
        def fail(_context: Any) -> None:
            raise Unavailable("\x1b[31mno token=hunter2", reason="PRICES_AWAY", domain="shop.example.com")

        interceptor = ServerInterceptor(observers=[self.groups])
        servicers = [
            ScriptedServicer({"fail": fail}),
            DiagnosticsServicer(self.groups, [self.state], authorise=self.authorise),
        ]
        return serve(servicers, [interceptor])


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def target(house: House) -> Iterator[str]:
    with house.serve() as server:
        yield server.address


def fail(target: str, times: int = 1) -> None:
    with grpc.insecure_channel(target) as channel:
        for _ in range(times):
            with contextlib.suppress(grpc.RpcError):
                scripted_pb2_grpc.ScriptedStub(channel).UnaryUnary(scripted_pb2.Request(step="fail"), timeout=5)


def test_a_pipe_gets_one_snapshot(run: Run, house: House, target: str) -> None:
    """Groups, breakers and budgets as aligned columns; what a server says can write to no terminal."""
    fail(target, 3)
    done = run(f"top --plaintext {target}")
    assert done.code == 0, done.err
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert re.fullmatch(r"\d\d:\d\d:\d\d UTC, 3 errors, 1 group", lines[0])
    group = r"3 UNAVAILABLE OVERLOAD PRICES_AWAY server Scripted/UnaryUnary \d s \d s \\x1b\[31mno token=\[redacted\]"
    assert any(re.fullmatch(group, line) for line in lines), done.out
    assert f"{BREAKER} closed 0 0% 0" in lines
    assert "hunter2" not in done.out
    assert "\x1b" not in done.out


def test_scripts_get_the_snapshot_as_json(run: Run, target: str) -> None:
    """--json writes the message itself."""
    fail(target)
    (line,) = run(f"top --plaintext --once --json {target}").out.splitlines()
    found = json.loads(line)
    assert (found["errors"], found["groups"][0]["reason"], len(found["breakers"])) == ("1", "PRICES_AWAY", 2)


def test_metadata_reach_the_authorisation_hook(run: Run, house: House, target: str) -> None:
    """-H sends what the hook wants to see."""
    assert run(f"top --plaintext --once -H 'authorization: Bearer abc' {target}").code == 0
    assert house.metadata["authorization"] == "Bearer abc"


@pytest.mark.parametrize("option", ["--once", "--json", f"--force {BREAKER}=open"])
def test_a_refusal_says_what_is_missing(run: Run, house: House, target: str, option: str) -> None:
    """A hook that says no, or that does not know who asks."""
    house.says = False
    done = run(f"top --plaintext {option} {target}")
    assert (done.code, done.out) == (1, "")
    assert "refuses this caller: its authorisation hook must say yes" in done.err
    assert "PERMISSION_DENIED: Diagnostics are not for this caller." in done.err


def test_a_caller_that_is_not_known_is_told_so(run: Run) -> None:
    """An interceptor of the server's may ask for credentials first."""

    class Asking(DiagnosticsServicer):
        def GetSnapshot(self, request: Any, context: Any) -> Any:
            raise Unauthenticated("Who?")

    with serve([Asking()], [ServerInterceptor()]) as server:
        done = run(f"top --plaintext --once {server.address}")
    assert (done.code, done.out) == (1, "")
    assert "does not know this caller: -H 'authorization: …'" in done.err
    assert "UNAUTHENTICATED: Who?" in done.err


@pytest.mark.parametrize("option", ["--once", "--json"])
def test_a_server_without_diagnostics_is_told_so(run: Run, option: str) -> None:
    """UNIMPLEMENTED has a sentence that says what to do."""
    with serve([ScriptedServicer({})]) as server:
        done = run(f"top --plaintext {option} {server.address}")
    assert (done.code, done.out) == (1, "")
    assert f"{server.address} serves no diagnostics: add faultwire.v1.Diagnostics to it" in done.err


@pytest.mark.parametrize("option", ["--once", "--json"])
def test_a_server_that_is_not_there_is_told_so(run: Run, option: str) -> None:
    """Nothing is waited for that has never been seen."""
    done = run(f"top --plaintext {option} localhost:1")
    assert (done.code, done.out) == (1, "")
    assert "localhost:1 cannot be reached (UNAVAILABLE" in done.err


def test_breakers_are_forced_by_an_option(run: Run, house: House, target: str) -> None:
    """Each order is carried out, and what was done is said."""
    done = run(f"top --plaintext --force {BREAKER}=open --force shop/bookshop.v1.Prices=closed {target}")
    assert done.code == 0, done.err
    assert done.out.splitlines() == [
        f"{BREAKER} is held open: its state is forced open.",
        "shop/bookshop.v1.Prices is held closed: its state is forced closed.",
    ]
    done = run(f"top --plaintext --force {BREAKER}=auto {target}")
    assert done.out == f"{BREAKER} decides for itself again: its state is closed.\n"


def test_a_breaker_that_is_not_there_is_told_with_those_that_are(run: Run, target: str) -> None:
    """A slip of the pen is seen at once."""
    done = run(f"top --plaintext --force shop=open {target}")
    assert (done.code, done.out) == (1, "")
    assert f"has no breaker 'shop'; it has: {BREAKER}, shop/bookshop.v1.Prices" in done.err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--force shop", "'shop' forces nothing"),
        ("--force shop=shut", "'shop=shut' forces nothing"),
        ("--interval 0", "the interval is 0.1 to 60 seconds"),
        ("--groups 257", "groups are 1 to 256"),
        ("--timeout 0", "a timeout above 0, not 0"),
        ("-H nothing", "'nothing' is no metadata"),
    ],
)
def test_options_that_make_no_sense_are_told(run: Run, options: str, sentence: str) -> None:
    """Before anything is called."""
    done = run(f"top --plaintext {options} localhost:1")
    assert (done.code, done.out) == (2, "")
    assert sentence in done.err


def test_a_watch_finds_its_server_again(house: House, target: str) -> None:
    """What was seen once is waited for; a refusal ends it all the same."""
    with (
        FaultyLink(target) as link,
        grpc.insecure_channel(link.address) as channel,
        Watcher(channel, (), interval=0.1, groups=5, patience=5.0) as watcher,
    ):
        assert isinstance(watcher.news.get(timeout=5), pb.Snapshot)
        link.cut()
        lost = first(watcher, Lost)
        assert lost.error.code() is grpc.StatusCode.UNAVAILABLE
        assert 0 < lost.delay <= 0.6
        assert isinstance(first(watcher, pb.Snapshot), pb.Snapshot)
        house.says = False
        link.cut()
        assert first(watcher, Lost).delay is not None
        refused = first(watcher, Lost)
    assert (refused.error.code(), refused.delay) == (grpc.StatusCode.PERMISSION_DENIED, None)


def first(watcher: Watcher, kind: type) -> Any:
    while not isinstance(news := watcher.news.get(timeout=10), kind):
        pass
    return news


def test_a_server_that_takes_the_call_and_says_nothing_is_given_up() -> None:
    """A first snapshot has its time."""

    class Silent(DiagnosticsServicer):
        def WatchSnapshots(self, request: Any, context: Any) -> Iterator[Any]:
            left = threading.Event()
            context.add_callback(left.set)
            left.wait(10)
            yield from ()

    with (
        serve([Silent()]) as server,
        grpc.insecure_channel(server.address) as channel,
        Watcher(channel, (), interval=1.0, groups=5, patience=0.2) as watcher,
    ):
        lost = watcher.news.get(timeout=5)
    assert (lost.error.code(), lost.delay) == (grpc.StatusCode.DEADLINE_EXCEEDED, None)


# What is shown, without a server.


def snapshot(seconds: float, *counts: int, known: int | None = None, errors: int | None = None) -> pb.Snapshot:
    made = pb.Snapshot(
        groups=[
            pb.ErrorGroup(fingerprint=f"f{number}", count=count, code=14)
            for number, count in enumerate(counts)
            if count
        ],
        breakers=[pb.Breaker(name=name, state=pb.BREAKER_STATE_CLOSED) for name in ("a", "b")],
        errors=sum(counts) if errors is None else errors,
    )
    made.known_groups = len(made.groups) if known is None else known
    made.time.FromNanoseconds(int(seconds * 1e9))
    return made


def rates(board: Board) -> list[str]:
    return [row[1] for row in board.groups()]


def test_rates_are_taken_over_ten_seconds() -> None:
    """From the counts of snapshots, as the server's clock has it."""
    board = Board()
    board.update(snapshot(1, 100))
    assert rates(board) == [""]
    board.update(snapshot(3, 110))
    assert rates(board) == ["5.0"]
    for second in range(4, 30):
        board.update(snapshot(second, 110))
    assert rates(board) == ["0.0"]


def test_rates_begin_anew_with_the_server() -> None:
    """A restarted server's counts are no negative rate."""
    board = Board()
    board.update(snapshot(1, 100))
    board.update(snapshot(2, 3))
    assert rates(board) == [""]
    board.update(snapshot(4, 5))
    assert rates(board) == ["1.0"]


def test_a_new_group_has_a_rate_if_all_groups_were_seen_before() -> None:
    """One that may have been below the list's end has none."""
    board = Board()
    board.update(snapshot(1, 100))
    board.update(snapshot(2, 100, 7))
    assert rates(board) == ["0.0", "7.0"]
    board = Board()
    board.update(snapshot(1, 100, known=2))
    board.update(snapshot(2, 100, 107))
    assert rates(board) == ["0.0", ""]


def test_keys_choose_and_force_after_a_yes() -> None:
    """No slip of a finger opens a circuit."""
    board = Board()
    assert board.press("o") is None
    assert board.news == "There is no breaker to force."
    board.update(snapshot(1))
    assert board.chosen == "a"
    board.press("down")
    assert board.press("o") is None
    assert board.question() == "b: hold it open? y: yes; any other key: no"
    assert board.press("x") is None
    assert board.news == "Nothing was done."
    board.press("up")
    board.press("a")
    assert board.question() == "a: let it decide for itself? y: yes; any other key: no"
    assert board.press("y") == Order("a", "auto")
    assert board.asked is None


def test_a_count_that_may_be_too_high_is_a_range() -> None:
    """What Space-Saving admits is shown."""
    board = Board()
    made = snapshot(1, 1500)
    made.groups[0].overcount = 300
    board.update(made)
    assert board.groups()[0][0] == "1,200..1,500"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200000, "2 d")],
)
def test_ages_have_one_unit(seconds: float, text: str) -> None:
    assert ago(seconds) == text


def test_keys_have_names() -> None:
    """Arrows come as three characters."""
    assert list(keys("o\x1b[A\x1b[Bkjy")) == ["o", "up", "down", "up", "down", "y"]


# On a terminal.


class Terminal:
    """A pseudo-terminal with the command on it."""

    def __init__(self, target: str) -> None:
        self.pty = pytest.importorskip("pty")
        self._main, secondary = self.pty.openpty()
        environment = os.environ | {"COLUMNS": "160", "LINES": "40", "TERM": "xterm-256color"}
        environment.pop("NO_COLOR", None)
        command = [sys.executable, "-m", "grpc_faultwire", "top", "--plaintext", "--interval", "0.1", target]
        self.process = subprocess.Popen(command, stdin=secondary, stdout=secondary, stderr=secondary, env=environment)
        os.close(secondary)
        self.shown = ""

    def wait_for(self, text: str) -> None:
        """Read until the text comes, from where the last one was found."""
        ended = time.monotonic() + 20
        while text not in self.shown:
            if time.monotonic() > ended:
                pytest.fail(f"{text!r} was not shown, but:\n{self.shown}")
            if select.select([self._main], [], [], 0.2)[0]:
                raw = os.read(self._main, 65536).decode("utf-8", "replace")
                self.shown += re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", raw)
        self.shown = self.shown.partition(text)[2]

    def type(self, text: str) -> None:
        os.write(self._main, text.encode())

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._main)


def test_a_terminal_shows_it_live_and_takes_keys(house: House, target: str) -> None:
    """Errors come up while one looks; a breaker is chosen and held open once one has said yes."""
    terminal = Terminal(target)
    try:
        terminal.wait_for("No errors.")
        fail(target)
        terminal.wait_for("PRICES_AWAY")
        terminal.type("jo")
        terminal.wait_for("shop/bookshop.v1.Prices: hold it open? y: yes")
        terminal.type("y")
        terminal.wait_for("shop/bookshop.v1.Prices is held open: its state is forced open.")
        terminal.type("q")
        assert terminal.process.wait(10) == 0
    finally:
        terminal.end()
    assert [one.state.value for one in house.state.snapshot(time.monotonic())] == ["closed", "forced_open"]

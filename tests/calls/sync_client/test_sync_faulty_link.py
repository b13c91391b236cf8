"""Faults of the network, made by `FaultyLink`: each call ends once, as a typed error, or after a retry."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from sync_lab import Lab, Ledger, Twice, path

from grpc_faultwire.category import Category
from grpc_faultwire.errors import DeadlineExceeded, Origin, Unavailable
from grpc_faultwire.sync import wrap_channel
from grpc_faultwire.testing import FaultyLink

pytest_plugins = ["sync_lab"]

OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5000),  # how long a connection may take to come about, on a busy machine
    ("grpc.max_reconnect_backoff_ms", 100),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
]


@pytest.fixture
def link(address: str, lab: Lab) -> Iterator[FaultyLink]:
    with FaultyLink(address) as link:
        yield link
    lab.quiet()


def channel_to(link: FaultyLink, ledger: Ledger, policy: Any = None) -> Any:
    return wrap_channel(grpc.insecure_channel(link.address, options=OPTIONS), policy, observers=[ledger])


def test_a_good_link_is_not_noticed(link: FaultyLink, ledger: Ledger) -> None:
    """Without faults, calls pass."""
    with channel_to(link, ledger) as channel:
        assert channel.unary_unary(path("UnaryUnary"))(b"ok") == b"ok"
        assert list(channel.stream_stream(path("StreamStream"))(iter([b"ok", b"2"]))) == [b"0", b"1", b"2"]
    assert link.connections == 1


def test_a_slow_link_delays_calls(link: FaultyLink, ledger: Ledger) -> None:
    """The delay is that of the link, there and back."""
    with channel_to(link, ledger) as channel:
        unary = channel.unary_unary(path("UnaryUnary"))
        unary(b"ok")
        link.delay = 0.05
        began = time.monotonic()
        assert unary(b"ok") == b"ok"
        assert time.monotonic() - began >= 0.1


def test_a_link_that_is_cut_makes_calls_unavailable(link: FaultyLink, ledger: Ledger, lab: Lab) -> None:
    """Calls in flight end as UNAVAILABLE of unknown origin, category TRANSPORT; the next call connects anew."""
    with channel_to(link, ledger) as channel:
        unary = channel.unary_unary(path("UnaryUnary"))
        future = unary.future(b"slow")
        stream = channel.unary_stream(path("UnaryStream"))(b"trickle")
        assert next(stream) == b"0"
        assert lab.reached(2)
        link.cut()
        for error in (future.exception(timeout=5), stream.exception(timeout=5)):
            assert isinstance(error, Unavailable)
            assert (error.origin, error.category) == (Origin.UNKNOWN, Category.TRANSPORT)
        deadline = time.monotonic() + 5
        answer = b""
        while not answer and time.monotonic() < deadline:
            # The channel may still write to the old connection.
            with contextlib.suppress(Unavailable):
                answer = unary(b"ok", wait_for_ready=True, timeout=5)
        assert answer == b"ok"
        assert link.connections >= 2
    codes = [outcome.code.name for outcome in ledger.outcomes()]
    assert codes[:2] == ["UNAVAILABLE", "UNAVAILABLE"]
    assert codes[-1] == "OK"


@pytest.mark.parametrize("fault", ["refuse", "cut"])
def test_a_call_gets_past_a_bad_connection(address: str, lab: Lab, ledger: Ledger, fault: Any) -> None:
    """When the first connection fails, a later one serves, and the caller sees the answer alone."""
    with FaultyLink(address, [fault]) as link, channel_to(link, ledger, Twice(delay=0.3, attempts=5)) as channel:
        assert channel.unary_unary(path("UnaryUnary"))(b"ok", timeout=5) == b"ok"
        assert link.connections >= 2
    # Whether gRPC's core connects anew by itself, or our policy tries again, is up to chance.
    (outcome,) = ledger.outcomes()
    assert outcome.code is grpc.StatusCode.OK
    lab.quiet()


def test_a_frozen_link_runs_into_the_deadline(link: FaultyLink, ledger: Ledger) -> None:
    """Nobody tells that packets are lost: only the deadline ends the call; the link works again once thawed."""
    with channel_to(link, ledger) as channel:
        unary = channel.unary_unary(path("UnaryUnary"))
        unary(b"ok")
        link.freeze()
        with pytest.raises(DeadlineExceeded):
            unary(b"ok", timeout=0.2)
        threading.Timer(0.1, link.thaw).start()
        assert unary(b"ok", timeout=5) == b"ok"

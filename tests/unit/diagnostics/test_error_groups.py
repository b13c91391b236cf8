"""Errors over time: grouped by where they come from, in bounded memory, with one redacted sample."""

from __future__ import annotations

import gc
import weakref

import grpc
import pytest

from grpc_faultwire import Internal, NotFound, Origin, Severity, StatusError, Unavailable
from grpc_faultwire.diagnostics import Desk, ErrorGroups
from grpc_faultwire.diagnostics.desk import breaker_name
from grpc_faultwire.records import CallInfo, Kind, Outcome, Side
from grpc_faultwire.testing import FakeClock

CALL = CallInfo.of("/shop.v1.Shop/GetBook", kind=Kind.UNARY, side=Side.SERVER)
CANARY = "canary-91ce"


def end(groups: ErrorGroups, error: StatusError | None, exception: BaseException | None = None) -> None:
    code = grpc.StatusCode.OK if error is None else error.code()
    outcome = Outcome(code=code, error=error, seconds=0.1, how="done", exception=exception)
    groups.on_end(groups.on_start(CALL), outcome)


def raised(text: str) -> Exception:
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


def also_raised(text: str) -> Exception:
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


def test_errors_are_grouped_by_where_they_come_from() -> None:
    """Texts and ids do not matter; places do. First and last seen, and the last id, are kept."""
    clock = FakeClock()
    groups = ErrorGroups(wall_clock=clock)
    ids = []
    for number in range(3):
        error = Internal("Internal error.")
        ids.append(error.error_id)
        end(groups, error, raised(f"book {number}"))
        clock.advance(10)
    end(groups, Internal("Internal error."), also_raised("book 4"))
    first, second = groups.top()
    assert (first.count, second.count, groups.total, len(groups)) == (3, 1, 4, 2)
    assert (first.first_seen, first.last_seen, first.error_id) == (1000.0, 1020.0, ids[2])
    assert (first.call, first.sample.code) == (CALL, grpc.StatusCode.INTERNAL)
    assert groups.top(1) == [first]


def test_memory_is_bounded() -> None:
    """However many groups there are, no more than its size are known; all errors are counted."""
    groups = ErrorGroups(size=16)
    for number in range(200):
        end(groups, Unavailable("x" * 2000, reason=f"REASON_{number}"))
    assert len(groups.top()) == 16
    assert groups.total == 200
    assert all(len(group.sample.message) <= 1000 for group in groups.top())


def test_mild_errors_and_successes_are_not_counted() -> None:
    """What callers do wrong is left out, unless it is asked for."""
    groups = ErrorGroups()
    end(groups, NotFound("no"))
    end(groups, None)
    assert groups.total == 0
    groups = ErrorGroups(least=Severity.DEBUG)
    end(groups, NotFound("no"))
    assert groups.total == 1


def test_an_error_that_was_recovered_from_counts() -> None:
    """The answer in its place does not hide it here."""
    groups = ErrorGroups()
    outcome = Outcome(code=grpc.StatusCode.OK, seconds=0.1, how="done", recovered=Internal("x"))
    groups.on_end(CALL, outcome)
    assert groups.total == 1


def test_samples_are_redacted() -> None:
    """Secrets and control characters in a message are not shown; of the exception nothing is kept."""
    groups = ErrorGroups()
    end(groups, Internal("password=hunter2\nnext line"), raised(CANARY))
    [group] = groups.top()
    assert group.sample.message == r"password=[redacted]\nnext line"
    assert CANARY not in repr(group)


def test_no_exception_is_kept_alive() -> None:
    """An error's traceback holds a whole request: groups keep facts alone."""
    groups = ErrorGroups()
    error = Internal("x")
    kept = weakref.ref(error)
    end(groups, error)
    del error
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize("origin", [Origin.REMOTE, Origin.UNKNOWN])
def test_what_another_server_said_is_not_passed_on(origin: Origin) -> None:
    """The admin service shows no text, reason or id of received errors, as no client error does."""
    groups = ErrorGroups()
    error = Unavailable(CANARY, reason="CANARY_REASON", domain="canary.example.com")
    error.origin = origin
    end(groups, error)
    snapshot = Desk(groups).snapshot()
    assert snapshot.groups[0].count == 1
    assert b"canary" not in snapshot.SerializeToString().lower()


def test_a_snapshot_says_no_more_than_a_client_error() -> None:
    """Neither the text nor the type nor the frames of an exception are there."""
    groups = ErrorGroups()
    end(groups, Internal("Internal error."), raised(CANARY))
    data = Desk(groups).snapshot().SerializeToString()
    assert CANARY.encode() not in data
    assert b"ValueError" not in data
    assert b"test_error_groups" not in data


def test_snapshots_are_bounded() -> None:
    """A caller gets as many groups as it asks for, the most frequent first."""
    groups = ErrorGroups()
    for number in range(80):
        for _ in range(number):
            end(groups, Unavailable("x", reason=f"REASON_{number}"))
    assert len(Desk(groups).snapshot().groups) == 50
    assert [group.reason for group in Desk(groups).snapshot(2).groups] == ["REASON_79", "REASON_78"]
    assert len(Desk(groups).snapshot(10**6).groups) == 79
    assert Desk().snapshot().errors == 0


def test_breakers_have_names() -> None:
    """The parts of a key, joined; anything else as text."""
    assert breaker_name(("host:1", "shop.v1.Shop")) == "host:1/shop.v1.Shop"
    assert breaker_name(7) == "7"

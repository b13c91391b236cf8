"""Arithmetic of deadlines."""

import math

import pytest

from grpc_faultwire.policies import Deadline, had_fair_time


@pytest.mark.parametrize(
    ("timeout", "limit", "given"),
    [
        pytest.param(None, None, None, id="nothing-limits-it"),
        pytest.param(None, 2.0, 2.0, id="only-the-attempt"),
        pytest.param(5.0, None, 5.0, id="only-the-call"),
        pytest.param(5.0, 2.0, 2.0, id="the-attempt-is-shorter"),
        pytest.param(1.0, 2.0, 1.0, id="the-call-is-shorter"),
        pytest.param(-1.0, 2.0, 0.0, id="already-over"),
        pytest.param(-1.0, None, 0.0, id="over-without-a-limit"),
    ],
)
def test_attempt_timeout(timeout, limit, given):
    """An attempt gets its own limit or what is left of the call, whichever is less."""
    assert Deadline.after(timeout, 100.0).attempt_timeout(limit, 100.0) == given


def test_remaining_is_never_negative():
    """Past the deadline no time remains, and without one it never ends."""
    deadline = Deadline.after(2.0, 10.0)
    assert (deadline.remaining(11.5), deadline.remaining(13.0)) == (0.5, 0.0)
    assert (deadline.expired(11.9), deadline.expired(12.0)) == (False, True)
    assert Deadline().remaining(1e12) == math.inf


@pytest.mark.parametrize(
    ("delay", "reserve", "fits"),
    [
        pytest.param(1.9, 0.0, True, id="just-in-time"),
        pytest.param(2.0, 0.0, False, id="exactly-the-deadline-leaves-nothing"),
        pytest.param(1.5, 0.4, True, id="with-the-reserve"),
        pytest.param(1.5, 0.5, False, id="without-the-reserve"),
    ],
)
def test_fits(delay, reserve, fits):
    """A delay fits if more than the reserve is left after it."""
    assert Deadline(12.0).fits(delay, 10.0, reserve) is fits


def test_a_margin_is_kept_back():
    """A server hands on its deadline less what it needs to answer; no deadline less a margin is still none."""
    assert Deadline(12.0).minus(0.5) == Deadline(11.5)
    assert Deadline().minus(0.5) == Deadline()


@pytest.mark.parametrize(
    ("had", "attempt_timeout", "fair"),
    [
        pytest.param(None, 1.0, True, id="unlimited"),
        pytest.param(0.003, 1.0, False, id="a-tiny-rest-of-the-callers-time"),
        pytest.param(0.25, 10.0, True, id="the-floor"),
        pytest.param(0.1, 0.1, True, id="all-of-a-short-attempt-timeout"),
        pytest.param(0.1, None, False, id="below-the-floor-without-attempt-timeout"),
    ],
)
def test_fair_time(had, attempt_timeout, fair):
    """A timeout is the server's fault only if the attempt had the attempt timeout or the floor."""
    assert had_fair_time(had, attempt_timeout, floor=0.25) is fair

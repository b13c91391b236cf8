"""The flow of one call, without I/O: attempts, ends, refusals, observers."""

from __future__ import annotations

import ast
import gc
import logging
import pathlib
import threading
import weakref
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from grpc_faultwire import flow as flow_module
from grpc_faultwire.audience import Audience
from grpc_faultwire.errors import Origin, StatusError, Unavailable
from grpc_faultwire.flow import ATTEMPTS_KEY, Flow
from grpc_faultwire.local_errors import cancelled, failed
from grpc_faultwire.plan import Decisions, Plan
from grpc_faultwire.records import CallInfo, Event, Kind, Observer, Side
from grpc_faultwire.testing import FakeClock

CALL = CallInfo.of("/lab.v1.Lab/Do", kind=Kind.UNARY, side=Side.CLIENT)


class Notes:
    """An observer that writes down what it is told."""

    def __init__(self) -> None:
        self.notes: list[tuple[Any, ...]] = []
        self.outcomes: list[Any] = []

    def on_start(self, call: CallInfo) -> str:
        self.notes.append(("start", call.method))
        return "token"

    def on_attempt_start(self, token: str, attempt: Any) -> None:
        self.notes.append(("attempt", token, attempt.number))

    def on_attempt_end(self, token: str, attempt: Any) -> None:
        self.notes.append(("attempt ended", token, attempt.number, attempt.error and attempt.error.code().name))

    def on_event(self, token: str, event: Event) -> None:
        self.notes.append(("event", token, event.name))

    def on_end(self, token: str, outcome: Any) -> None:
        self.outcomes.append(outcome)
        self.notes.append(("end", token, outcome.code.name, outcome.how))


class Scripted(Decisions):
    """Policies that answer from a script: what ``decide`` returns, and which attempts are refused."""

    def __init__(self, *delays: float | None, refuse: int = 0) -> None:
        self.delays = list(delays)
        self.refuse = refuse
        self.log: list[tuple[Any, ...]] = []

    def begin(self, flow: Flow) -> Scripted:
        self.flow = flow
        return self

    def admit(self, attempt: Any, now: float) -> None:
        if attempt.number == self.refuse:
            self.flow.note(Event(name="circuit_open"))
            raise Unavailable("open")
        attempt.permit = f"permit {attempt.number}"

    def decide(self, attempt: Any, now: float) -> float | None:
        self.log.append(("decide", attempt.number, attempt.permit))
        delay = self.delays.pop(0) if self.delays else None
        if delay is not None:
            self.flow.note(Event(name="retry"))
        return delay

    def release(self, attempt: Any, now: float) -> None:
        self.log.append(("release", attempt.number))

    def finish(self) -> None:
        self.log.append(("finish",))


def make(policies: Any = None, *observers: Any, timeout: float | None = None) -> tuple[Flow, FakeClock]:
    """Begin a call."""
    clock = FakeClock()
    return Flow(Plan(CALL, clock=clock, audience=Audience(observers), policies=policies), timeout), clock


def test_one_attempt_that_succeeds_ends_the_call() -> None:
    """A call that is answered is one attempt and one end, and tells how long it took."""
    notes = Notes()
    flow, clock = make(None, notes)
    attempt = flow.send()
    assert attempt is not None
    clock.advance(2)
    assert flow.settle(attempt, None) is None
    assert (flow.how, flow.error, flow.told) == ("done", None, True)
    assert notes.notes == [
        ("start", "Do"),
        ("attempt", "token", 1),
        ("attempt ended", "token", 1, None),
        ("end", "token", "OK", "done"),
    ]
    assert notes.outcomes[0].seconds == 2
    assert notes.outcomes[0].attempts == (attempt,)


def test_without_policies_an_error_ends_the_call() -> None:
    """A call without policies is one attempt, whatever it ends with."""
    flow, _ = make()
    error = Unavailable("no")
    attempt = flow.send()
    assert attempt is not None
    assert flow.settle(attempt, error) is None
    assert flow.error is error
    assert flow.send() is None
    assert list(error.attempts) == []


def test_a_retry_is_another_attempt_with_what_is_left_of_the_timeout() -> None:
    """The second attempt gets the rest of the caller's time, and its server learns that it is the second."""
    notes = Notes()
    policies = Scripted(0.5)
    flow, clock = make(policies, notes, timeout=10.0)
    first = flow.send()
    assert first is not None
    assert first.timeout == 10.0
    assert flow.injected(first) == []
    clock.advance(1)
    assert flow.settle(first, Unavailable("no")) == 0.5
    assert flow.how is None
    clock.advance(0.5)
    second = flow.send()
    assert second is not None
    assert second.timeout == 8.5
    assert flow.injected(second) == [(ATTEMPTS_KEY, "1")]
    clock.advance(20)
    assert flow.time_remaining() == 0
    assert flow.settle(second, None) is None
    assert policies.log == [("decide", 1, "permit 1"), ("decide", 2, "permit 2"), ("finish",)]
    assert [note[0] for note in notes.notes] == [
        "start",
        "attempt",
        "attempt ended",
        "event",
        "attempt",
        "attempt ended",
        "end",
    ]


def test_the_error_of_a_retried_call_has_its_history_and_no_cycle() -> None:
    """What is raised is the last real error; reference counting alone frees it with its history."""
    policies = Scripted(0.0)
    flow, _ = make(policies)
    for number in (1, 2):
        attempt = flow.send()
        assert attempt is not None
        flow.settle(attempt, Unavailable(f"no {number}"))
    error = flow.error
    assert error is not None
    assert [one.number for one in error.attempts] == [1, 2]
    assert error.attempts[0].error.message == "no 1"
    assert error.attempts[0].delay == 0.0
    assert error.attempts[1].error is None
    gone = weakref.ref(error)
    gc.disable()
    try:
        del flow, error, attempt, policies.flow
        assert gone() is None
    finally:
        gc.enable()


def test_a_refused_first_attempt_is_raised() -> None:
    """A policy that refuses the first attempt ends the call with its own error, and nothing is sent."""
    notes = Notes()
    flow, _ = make(Scripted(refuse=1), notes)
    with pytest.raises(Unavailable, match="open"):
        flow.send()
    assert flow.how == "refused"
    assert notes.notes == [
        ("start", "Do"),
        ("event", "token", "circuit_open"),
        ("end", "token", "UNAVAILABLE", "refused"),
    ]


def test_a_refused_retry_ends_with_the_last_real_error() -> None:
    """When the circuit opened during the backoff, the caller sees why the attempt before had failed."""
    flow, _ = make(Scripted(0.1, refuse=2))
    first, error = flow.send(), Unavailable("real")
    assert first is not None
    flow.settle(first, error)
    assert flow.send() is None
    assert (flow.error, flow.how) == (error, "done")


def test_a_retry_that_comes_too_late_is_not_sent() -> None:
    """When the caller's time has run out during a backoff, the call ends with the last real error."""
    flow, clock = make(Scripted(2.0), timeout=1.0)
    first, error = flow.send(), Unavailable("real")
    assert first is not None
    flow.settle(first, error)
    clock.advance(2.0)
    assert flow.send() is None
    assert (flow.error, flow.how, len(flow.attempts)) == (error, "done", 1)


def test_settling_twice_changes_nothing() -> None:
    """A late answer to an attempt that has ended is left alone."""
    notes = Notes()
    flow, _ = make(None, notes)
    attempt = flow.send()
    assert attempt is not None
    flow.settle(attempt, None)
    told = list(notes.notes)
    assert flow.settle(attempt, Unavailable("late")) is None
    assert flow.error is None
    assert notes.notes == told


def test_closing_ends_the_attempts_in_flight_and_gives_their_permits_back() -> None:
    """A cancelled call's attempt is over before the call is, and its permit is not judged."""
    notes, policies = Notes(), Scripted()
    flow, _ = make(policies, notes)
    attempt = flow.send()
    assert attempt is not None
    assert flow.close(cancelled("by its caller", ()), "cancelled")
    assert not flow.close(cancelled("again", ()), "cancelled")
    assert flow.settle(attempt, None) is None
    assert flow.error is not None
    assert flow.error.origin is Origin.LOCAL
    assert policies.log == [("release", 1), ("finish",)]
    assert notes.notes[-2:] == [("attempt ended", "token", 1, "CANCELLED"), ("end", "token", "CANCELLED", "cancelled")]


def test_the_last_of_several_attempts_in_flight_ends_the_call() -> None:
    """With hedges a failure does not end the call while another attempt may still succeed; the losers are released."""
    policies = Scripted()
    flow, _ = make(policies)
    attempts = [flow.send() for _ in range(3)]
    assert all(attempt is not None for attempt in attempts)
    assert flow.settle(attempts[0], Unavailable("no")) is None  # type: ignore[arg-type]
    assert flow.how is None
    assert flow.settle(attempts[1], None) is None  # type: ignore[arg-type]
    assert flow.how == "done"
    assert policies.log == [("decide", 1, "permit 1"), ("decide", 2, "permit 2"), ("release", 3), ("finish",)]


def test_commit_waits_for_an_attempt_that_needs_the_requests() -> None:
    """Requests may be thrown away only while no further attempt has been decided."""
    flow, _ = make(Scripted(0.1))
    first = flow.send()
    assert first is not None
    assert flow.retriable
    flow.settle(first, Unavailable("no"))
    assert not flow.commit()
    flow.send()
    assert flow.commit()
    assert flow.commit()
    assert not flow.retriable


def test_a_stream_that_can_be_resumed_is_not_committed_by_what_is_delivered() -> None:
    """Its messages are credited to the server, another attempt may follow, but nothing from one that was settled."""
    policies = Scripted(0.1)
    policies.healthy = lambda attempt, now: policies.log.append(("healthy", attempt.number))  # type: ignore[method-assign]
    policies.resume = lambda request, response: request
    flow, _ = make(policies)
    first = flow.send()
    assert first is not None
    assert flow.deliver()
    assert (flow.committed, flow.delivered, flow.retriable) == (False, True, True)
    assert flow.settle(first, Unavailable("no")) == 0.1
    assert not flow.deliver()
    assert policies.log == [("healthy", 1), ("decide", 1, "permit 1")]


def test_delivering_commits_a_stream_that_cannot_be_resumed() -> None:
    """As commit() does."""
    flow, _ = make(Scripted(0.1))
    flow.send()
    assert flow.deliver()
    assert flow.committed


def test_a_call_whose_next_attempt_cannot_be_made_ends_with_the_error_at_hand() -> None:
    """Giving up ends a waiting call once; a call that has ended is left alone."""
    notes = Notes()
    flow, _ = make(Scripted(0.1), notes)
    first, error = flow.send(), Unavailable("real")
    assert first is not None
    flow.settle(first, error)
    flow.give_up()
    flow.give_up()
    assert (flow.error, flow.how) == (error, "done")
    assert [note[0] for note in notes.notes].count("end") == 1


def test_only_one_of_many_threads_ends_a_call() -> None:
    """Whoever comes first ends it, and the observers hear of one end."""
    for _ in range(200):
        notes = Notes()
        flow, _ = make(None, notes)
        attempt = flow.send()
        assert attempt is not None
        barrier = threading.Barrier(4)
        won: list[bool] = []

        def close(flow: Flow = flow, barrier: threading.Barrier = barrier, won: list[bool] = won) -> None:
            barrier.wait()
            won.append(flow.close(cancelled("", ()), "cancelled"))

        threads = [threading.Thread(target=close) for _ in range(3)]
        for thread in threads:
            thread.start()
        barrier.wait()
        flow.settle(attempt, None)
        for thread in threads:
            thread.join()
        assert won.count(True) == (flow.how == "cancelled")
        assert [note[0] for note in notes.notes].count("end") == 1
        assert [note[0] for note in notes.notes].count("attempt ended") == 1


@pytest.mark.parametrize("timeout", ["1", b"1", object()], ids=["text", "bytes", "object"])
def test_a_timeout_that_is_no_number_begins_no_call(timeout: Any) -> None:
    """As in grpc it is a TypeError, and no observer hears of a call that never was."""
    notes = Notes()
    with pytest.raises(TypeError):
        make(None, notes, timeout=timeout)
    assert notes.notes == []


def test_a_failing_exception_is_the_cause() -> None:
    """The error of a call that had no status names the exception's type and has it as its cause."""
    error = failed(ValueError("closed"), ())
    assert isinstance(error.__cause__, ValueError)
    assert error.code() is grpc.StatusCode.UNKNOWN
    assert error.trailing_metadata() == ()


class Faulty:
    """An observer that fails in everything it does."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def fail(*args: Any) -> Any:
            raise RuntimeError(name)

        return fail


def test_a_faulty_observer_is_logged_once_and_fails_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Calls go on, other observers are told all, and each method's fault is logged once."""
    notes = Notes()
    plan = Plan(CALL, clock=FakeClock(), audience=Audience([Faulty(), notes]))
    with caplog.at_level(logging.ERROR, logger="grpc_faultwire"):
        for _ in range(3):
            flow = Flow(plan)
            attempt = flow.send()
            assert attempt is not None
            assert flow.injected(attempt) == []
            with flow.activate():
                flow.message("sent")
            flow.settle(attempt, None)
    assert len(notes.outcomes) == 3
    assert sorted(record.args[1] for record in caplog.records if isinstance(record.args, tuple)) == [
        "activate",
        "inject",
        "on_attempt_end",
        "on_attempt_start",
        "on_end",
        "on_message",
        "on_start",
    ]


def test_observers_activate_in_order_and_leave_in_reverse() -> None:
    """Each step of a call runs inside all observers' contexts, and an exception passes through them."""
    steps: list[str] = []

    class Active:
        def __init__(self, name: str) -> None:
            self.name = name

        def on_start(self, call: CallInfo) -> str:
            return self.name

        @contextmanager
        def activate(self, token: str) -> Any:
            steps.append(f"+{token}")
            try:
                yield
            finally:
                steps.append(f"-{token}")

    flow, _ = make(None, Active("a"), Active("b"))
    with pytest.raises(KeyError), flow.activate():
        raise KeyError
    assert steps == ["+a", "+b", "-b", "-a"]


def test_methods_inherited_from_the_protocol_count_as_not_implemented() -> None:
    """A subclass of Observer that implements one method is asked for nothing else."""

    class Ends(Observer):
        ended = 0

        def on_end(self, token: Any, outcome: Any) -> None:
            self.ended += 1

    observer = Ends()
    audience = Audience([observer])
    assert not audience.counts_messages
    assert not audience.activates
    flow = Flow(Plan(CALL, clock=FakeClock(), audience=audience))
    attempt = flow.send()
    assert attempt is not None
    assert flow.injected(attempt) == []
    flow.settle(attempt, None)
    assert observer.ended == 1


def test_observers_are_told_outside_the_lock() -> None:
    """An observer may use the call that it is told of, even end it."""
    ended: list[str] = []

    class Nosy:
        def on_attempt_start(self, token: Any, attempt: Any) -> None:
            flow.close(cancelled("by an observer", ()), "cancelled")

        def on_end(self, token: Any, outcome: Any) -> None:
            flow.close(None, "done")
            ended.append(outcome.how)

    flow, _ = make(None, Nosy())
    flow.send()
    assert ended == ["cancelled"]


def test_the_flow_does_no_io() -> None:
    """It imports neither asyncio, time, random nor grpc: clocks and numbers are given."""
    source = pathlib.Path(str(flow_module.__file__)).read_text(encoding="utf-8")
    modules: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(str(node.module))
    assert not modules & {"asyncio", "time", "random", "grpc", "grpc.aio"}


def test_an_error_is_a_status_error() -> None:
    """What the flow makes itself is typed like everything else."""
    assert isinstance(cancelled("x", ()), StatusError)

"""Observers are told together; a fault in one reaches neither the call nor the others."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from grpc_faultwire.audience import Audience
from grpc_faultwire.errors import NotFound
from grpc_faultwire.records import OK, CallInfo, Event, Kind, Outcome, Side, errors_only, unguarded

CALL = CallInfo(service="shop.v1.Shop", method="GetBook", kind=Kind.UNARY, side=Side.SERVER)
DONE = Outcome(code=OK, seconds=0.1, how="done")
FAILED = Outcome(code=NotFound.status_code, error=NotFound("x"), seconds=0.1, how="done")


class Ends:
    """Keeps the tokens and outcomes that it was told of."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, Outcome]] = []

    def on_end(self, token: Any, outcome: Outcome) -> None:
        self.told.append((token, outcome))


class Errors(Ends):
    @errors_only
    def on_end(self, token: Any, outcome: Outcome) -> None:
        super().on_end(token, outcome)


class All(Errors):
    def on_end(self, token: Any, outcome: Outcome) -> None:
        super().on_end(token, outcome)


class Broken:
    """Raises wherever it is asked."""

    def on_start(self, call: CallInfo) -> Any:
        raise ValueError("start")

    def on_message(self, token: Any, direction: str) -> None:
        raise ValueError(f"{token} {direction}")

    def on_end(self, token: Any, outcome: Outcome) -> None:
        raise ValueError("end")


class Leaving:
    """Active around each step; leaving raises."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault
        self.left = 0

    def activate(self, token: Any) -> Leaving:
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.left += 1
        raised = self.fault or error
        if raised is not None:
            raise raised


def test_without_an_on_start_the_token_is_the_call() -> None:
    """An observer that needs nothing but what is called need not say so."""
    ends = Ends()
    audience = Audience([ends])
    audience.ended(audience.start(CALL), DONE)
    assert ends.told == [(CALL, DONE)]


def test_who_wants_errors_only_is_not_told_of_successes() -> None:
    """The mark is that of one method: a subclass with a method of its own hears of all."""
    ends, errors, everything = Ends(), Errors(), All()
    audience = Audience([ends, errors, everything])
    assert audience.counts_successes
    tokens = audience.start(CALL)
    audience.succeeded(tokens, DONE)
    audience.ended(tokens, FAILED)
    assert [len(one.told) for one in (ends, errors, everything)] == [2, 1, 2]
    assert not Audience([Errors()]).counts_successes


def test_nobody_is_told_of_what_nobody_wants() -> None:
    """Without observers nothing is made, and nothing is asked of the call's context."""
    audience = Audience()
    tokens = audience.start(CALL)
    audience.extract(tokens, None)
    audience.message(tokens, "sent")
    audience.tell(audience.on_event, tokens, Event(name="retry"))
    audience.ended(tokens, DONE)
    with audience.activate(tokens), audience.intercepting():
        pass
    assert not any((audience.intercepts, audience.activates, audience.counts_messages, audience.extracts))
    assert not audience.hears_ends


def test_a_fault_is_logged_once_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Each method's first fault has a line; the others are told as if nothing had been."""
    ends = Ends()
    audience = Audience([Broken(), ends])
    for _ in range(3):
        tokens = audience.start(CALL)
        assert tokens == [None, CALL]
        audience.message(tokens, "sent")
        audience.ended(tokens, DONE)
    assert len(ends.told) == 3
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        "The observer 0 failed in on_start",
        "The observer 0 failed in on_message",
        "The observer 0 failed in on_end",
    ]


def test_a_fault_on_leaving_is_logged_unless_it_is_the_calls_own(caplog: pytest.LogCaptureFixture) -> None:
    """All are left; what the call raised goes on, and an observer that raises it again has no fault."""
    quiet, faulty = Leaving(), Leaving(RuntimeError("left badly"))
    audience = Audience([quiet, faulty])
    with caplog.at_level(logging.ERROR), pytest.raises(KeyError), audience.activate(audience.start(CALL)):
        raise KeyError
    assert (quiet.left, faulty.left) == (1, 1)
    assert [record.getMessage().split(";")[0] for record in caplog.records] == ["The observer 1 failed in activate"]


class Unguarded:
    """Active around each step, with a manager that raises nothing; it hears of ends."""

    def __init__(self, active_from: float | None = None) -> None:
        self.managers: list[Any] = []
        self.within: list[bool] = []
        self.entered = 0
        if active_from is not None:
            self.active_from = active_from

    @unguarded
    def activate(self, token: Any) -> Any:
        if token is None:
            raise ValueError("no token")
        self.managers.append(self)
        return self

    @unguarded
    def intercepting(self) -> Any:
        self.managers.append(self)
        return self

    def on_end(self, token: Any, outcome: Outcome) -> None:
        self.within.append(self.entered > 0)

    def __enter__(self) -> None:
        self.entered += 1

    def __exit__(self, *_raised: object) -> None:
        self.entered -= 1


def test_one_that_needs_no_guard_is_entered_as_it_is() -> None:
    """Alone: beside another both are guarded, and both are entered."""
    one = Unguarded()
    audience = Audience([Ends(), one])
    assert audience.activate(audience.start(CALL)) is one is audience.intercepting()
    other = Leaving()
    audience = Audience([one, other])
    with audience.activate(audience.start(CALL)) as entered:
        assert entered is not one
        assert one.entered
    assert other.left == 1


def test_no_guard_means_that_asking_may_still_fail(caplog: pytest.LogCaptureFixture) -> None:
    """A method that raises costs its call nothing but the line."""
    one = Unguarded()
    one.intercepting = unguarded(lambda: 1 / 0)  # type: ignore[method-assign, arg-type, return-value]  # its fault
    audience = Audience([one])
    with audience.activate([None]), audience.intercepting():
        assert not one.entered
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        "The observer 0 failed in activate",
        "The observer 0 failed in intercepting",
    ]


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        pytest.param([], [False, False, True, True], id="as long as it says"),
        pytest.param([Unguarded(0.2)], [False, True, True, True], id="as the other says"),
        pytest.param([Ends()], [True, True, True, True], id="who says nothing may look"),
        pytest.param([Errors()], [False, False, True, True], id="who hears of errors only does not"),
    ],
)
def test_who_ends_well_and_soon_is_not_activated_for(others: list[Any], expected: list[bool]) -> None:
    """Observers say from when on they look at what is current; at an error's end, they always may."""
    one = Unguarded(1.0)
    audience = Audience([one, *others])
    tokens = audience.start(CALL)
    ends = [Outcome(code=OK, seconds=seconds, how="done") for seconds in (0.1, 0.2, 1.0)]
    for outcome in (*ends, FAILED):
        audience.ended(tokens, outcome)
        if outcome.error is None:
            audience.succeeded(tokens, outcome)
    assert one.within == [expected[0]] * 2 + [expected[1]] * 2 + [expected[2]] * 2 + [expected[3]]

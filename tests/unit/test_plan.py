"""Calls that begin without a flow: they end as with one, and take one as soon as anything is special about them."""

from __future__ import annotations

from typing import Any

import pytest

from grpc_faultwire import Kind, NotFound, Outcome, Side, StatusError, Unavailable
from grpc_faultwire.audience import Audience
from grpc_faultwire.config import ClientPolicy, calling
from grpc_faultwire.fallback import last_good, value
from grpc_faultwire.flow import Flow
from grpc_faultwire.plan import Plan
from grpc_faultwire.policies import BreakerMode, BreakerPolicy, BudgetPolicy, HedgePolicy, RetryPolicy
from grpc_faultwire.records import Attempt, CallInfo
from grpc_faultwire.sources import source_of
from grpc_faultwire.state import PolicyState
from grpc_faultwire.testing import FakeClock

PATH = "/shop.v1.Shop/GetBook"


class Watcher:
    """Keeps what it is told, without what differs from call to call."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def on_start(self, call: CallInfo) -> str:
        self.told.append(("start", call.method))
        return "token"

    def on_attempt_start(self, token: str, attempt: Attempt) -> None:
        self.told.append(("attempt start", token, attempt.number, attempt.timeout))

    def on_attempt_end(self, token: str, attempt: Attempt) -> None:
        self.told.append(("attempt end", token, attempt.ended, attempt.judged, attempt.error))

    def on_event(self, token: str, event: Any) -> None:
        self.told.append(("event", token, event.name, event.attributes))

    def on_end(self, token: str, outcome: Outcome) -> None:
        attempts = [(one.number, one.started, one.ended, one.judged) for one in outcome.attempts]
        self.told.append(("end", token, outcome.code, outcome.seconds, outcome.how, outcome.error, attempts))


class Caller:
    """Makes calls of one policy, with a clock turned by hand."""

    def __init__(
        self, policy: ClientPolicy | None, *observers: Any, kind: Kind = Kind.UNARY, breakers: int = 10
    ) -> None:
        self.clock, self.state, self.watcher = (
            FakeClock(),
            PolicyState(breakers=breakers, random=lambda: 0.5),
            Watcher(),
        )
        call = CallInfo.of(PATH, kind=kind, side=Side.CLIENT, target="shop:443")
        source: Any = source_of(policy, self.state if policy else None)
        self.plan = Plan(
            call,
            clock=self.clock,
            audience=Audience([self.watcher, *observers]),
            policies=None if source is None else source.for_method(call),
            random=lambda: 0.5,
        )

    def by_flow(self, seconds: float, error: StatusError | None = None, timeout: float | None = None) -> Flow:
        flow = Flow(self.plan, timeout)
        attempt = flow.send()
        assert attempt is not None
        self.clock.advance(seconds)
        flow.settle(attempt, error)
        return flow

    def briefly(self, seconds: float, error: StatusError | None = None, timeout: float | None = None) -> Flow:
        begun = self.plan.begin(timeout)
        assert begun is not None
        self.clock.advance(seconds)
        if error is None:
            self.plan.succeed(*begun)
        flow = Flow(self.plan, timeout, begun)
        if error is not None:
            flow.settle(begun[0], error)
        return flow

    @property
    def shown(self) -> Any:
        breakers = self.state.snapshot(self.clock())
        budget = None if self.plan.policies is None else self.plan.policies._budget
        return [(one.calls, one.failures, one.neutral) for one in breakers], getattr(budget, "tokens", None)


POLICIES = {
    "none": None,
    "the default": ClientPolicy(),
    "no breaker": ClientPolicy(breaker=None),
    "no budget": ClientPolicy(budget=None),
    "attempt timeout": ClientPolicy(attempt_timeout=0.5, timeout=2.0),
    "retries": ClientPolicy(idempotent=True, retry=RetryPolicy(max_attempts=3), budget=BudgetPolicy(initial=50.0)),
    "observe": ClientPolicy(mode="observe", idempotent=True),
    "a fallback": ClientPolicy(fallbacks=[value(b"")]),
}


@pytest.mark.parametrize("timeout", [None, 1.5])
@pytest.mark.parametrize("kind", [None, NotFound, Unavailable])
@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())
def test_it_ends_as_with_a_flow(
    policy: ClientPolicy | None, kind: type[StatusError] | None, timeout: float | None
) -> None:
    """Observers, breakers and budgets learn the same, and what follows a failure is decided alike."""
    ended: list[Any] = []
    error = None if kind is None else kind("no")
    for make in (Caller.by_flow, Caller.briefly):
        caller = Caller(policy)
        make(caller, 0.1)
        flow = make(caller, 0.25, error, timeout)
        remaining = flow.time_remaining()
        ended.append((caller.watcher.told, caller.shown, flow.how, flow.error, flow.retriable, remaining, flow.told))
    assert ended[0] == ended[1]


SPECIAL = {
    "hedges": ClientPolicy(idempotent=True, hedge=HedgePolicy(delay=1.0)),
    "learns": ClientPolicy(fallbacks=[last_good()]),
    "breakers by a function": ClientPolicy(breaker_key=lambda call: call.method),
    "waits for ready": ClientPolicy(wait_for_ready=True),
}


@pytest.mark.parametrize("policy", SPECIAL.values(), ids=SPECIAL.keys())
def test_special_methods_take_a_flow(policy: ClientPolicy) -> None:
    """What they need is prepared before the first attempt."""
    caller = Caller(policy)
    assert not caller.plan.simple or caller.plan.begin(None) is None


@pytest.mark.parametrize("kind", [Kind.CLIENT_STREAM, Kind.SERVER_STREAM, Kind.BIDI_STREAM])
def test_streams_take_a_flow(kind: Kind) -> None:
    """Other threads may end them."""
    assert not Caller(None, kind=kind).plan.simple


@pytest.mark.parametrize("method", ["activate", "inject"])
def test_observers_that_take_part_make_it_take_a_flow(method: str) -> None:
    """Those that send metadata along, or want to be active."""
    observer = type("Observer", (), {method: lambda *_: ()})()
    assert not Caller(None, observer).plan.simple


def test_calls_that_say_something_for_themselves_take_a_flow() -> None:
    """As does one with a timeout that is no number; nobody has heard of them then."""
    caller = Caller(ClientPolicy())
    assert caller.plan.begin(None) is not None
    told = len(caller.watcher.told)
    with calling(policy=False):
        assert caller.plan.begin(None) is None
    with calling(idempotent=True):
        assert caller.plan.begin(None) is None
    assert caller.plan.begin("soon") is None  # type: ignore[arg-type]  # that is the mistake
    assert len(caller.watcher.told) == told


@pytest.mark.parametrize("mode", list(BreakerMode))
def test_a_circuit_that_is_not_closed_takes_a_flow(mode: BreakerMode) -> None:
    """The flow refuses, or lets a probe pass."""
    caller = Caller(ClientPolicy(breaker=BreakerPolicy(mode=mode)))
    caller.by_flow(0.1)
    [breaker] = caller.state.snapshot(caller.clock())
    caller.state.force_open(breaker.key, caller.clock())
    assert caller.plan.begin(None) is None
    caller.state.force_closed(breaker.key, caller.clock())
    assert caller.plan.begin(None) is not None


def test_a_breaker_that_was_forgotten_is_looked_up_again() -> None:
    """Its registry has a new one then, which knows of nothing."""
    caller = Caller(ClientPolicy(), breakers=1)
    caller.briefly(0.1)
    for other in ("one", "another"):
        caller.state.breaker(other, BreakerPolicy())
    caller.briefly(0.1)
    assert caller.shown[0] == [(1, 0, 0)]

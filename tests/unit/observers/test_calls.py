"""Calls that end in a roundabout way, flow and observers alone: hedged, answered by a fallback, refused."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from grpc_faultwire import Unavailable
from grpc_faultwire import fallback as fallbacks
from grpc_faultwire.audience import Audience
from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.enforcement import Enforcement
from grpc_faultwire.fallback import UNANSWERED
from grpc_faultwire.flow import Flow
from grpc_faultwire.observers import LoggingObserver
from grpc_faultwire.plan import Plan
from grpc_faultwire.policies import BreakerPolicy, HedgePolicy
from grpc_faultwire.records import CallInfo, Kind, Side
from grpc_faultwire.state import PolicyState
from grpc_faultwire.testing import FakeClock

CALL = CallInfo(service="shop.v1.Shop", method="GetBook", kind=Kind.UNARY, side=Side.CLIENT, target="shop:443")


def _lab() -> Any:
    # The lab belongs to the tests of calls, whose folder is no package.
    path = Path(__file__).parents[2] / "calls" / "telemetry_lab.py"
    spec = importlib.util.spec_from_file_location("telemetry_lab", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules.get(spec.name) or importlib.util.module_from_spec(spec)
    if spec.name not in sys.modules:
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    return module


LAB = _lab()


def flow_of(policy: ClientPolicy, telemetry: Any, clock: FakeClock, state: PolicyState | None = None) -> Flow:
    audience = Audience([*telemetry.observers, LoggingObserver(clock=clock)])
    policies = Enforcement(policy, state).for_method(CALL)
    return Flow(Plan(CALL, clock=clock, audience=audience, policies=policies, random=lambda: 0.5))


def test_hedged() -> None:
    """A hedge that wins is one OK; both attempts are counted, the loser as cancelled, and the hedge as sent."""
    telemetry, clock = LAB.Telemetry(), FakeClock()
    policy = ClientPolicy(retry=None, hedge=HedgePolicy(delay=0.1), idempotent=True)
    flow = flow_of(policy, telemetry, clock)
    first = flow.send()
    assert first is not None
    clock.advance(0.1)
    second = flow.hedge()
    assert second is not None
    clock.advance(0.1)
    flow.settle(second, None)
    [span] = telemetry.spans.ended
    assert LAB.told(span) == ("CLIENT", 0, "UNSET", None)
    assert [event.name for event in span.events] == ["faultwire.hedge", "faultwire.attempt"]
    total = telemetry.total
    assert total("grpc_client_handled_total", grpc_code="OK") == total("grpc_client_handled_total") == 1
    assert total("grpc_client_errors_total") == 0
    assert total("grpc_client_attempts_total", attempt="first", grpc_code="Canceled") == 1
    assert total("grpc_client_attempts_total", attempt="hedge", grpc_code="OK") == 1
    assert total("grpc_client_hedges_total", result="sent") == 1
    assert total("grpc_client_call_retries_count") == 0


@pytest.mark.parametrize("answers", [True, False])
def test_fallback(answers: bool, caplog: pytest.LogCaptureFixture) -> None:
    """What a fallback answers is OK, and both it and the error behind it are seen; if it has none, the error stands."""
    telemetry, clock = LAB.Telemetry(), FakeClock()
    answer = fallbacks.function(lambda _failed: "cached" if answers else UNANSWERED)
    flow = flow_of(ClientPolicy(retry=None, breaker=None, fallbacks=(answer,)), telemetry, clock)
    attempt = flow.send()
    assert attempt is not None
    flow.settle(attempt, Unavailable("down"))
    flow.fallen(flow.fall_back(None))
    [span] = telemetry.spans.ended
    expected = ("CLIENT", 0, "UNSET", None) if answers else ("CLIENT", 14, "ERROR", "overload")
    assert LAB.told(span) == expected
    assert span.attributes.get("faultwire.recovered_from") == ("UNAVAILABLE" if answers else None)
    [event] = [event for event in span.events if event.name == "faultwire.fallback"]
    result = "answered" if answers else "failed"
    assert event.attributes["faultwire.result"] == result
    total = telemetry.total
    assert total("grpc_client_handled_total") == 1
    assert total("grpc_client_handled_total", grpc_code="OK") == answers
    assert total("grpc_client_errors_total") == (not answers)
    assert total("grpc_client_fallbacks_total", result=result, category="overload") == 1
    [record] = caplog.records
    assert record.rpc_event == ("recovered" if answers else "client_error")


def test_fallback_of_a_refused_call() -> None:
    """A call that an open circuit refuses and a fallback answers is OK, without any attempt."""
    telemetry, clock, state = LAB.Telemetry(), FakeClock(), PolicyState(random=lambda: 0.5)
    policy = ClientPolicy(retry=None, breaker=BreakerPolicy(minimum_calls=1), fallbacks=(fallbacks.value("cached"),))
    for _ in range(2):
        flow = flow_of(policy, telemetry, clock, state)
        attempt = flow.send()
        if attempt is not None:
            flow.settle(attempt, Unavailable("down"))
        flow.fallen(flow.fall_back(None))
    total = telemetry.total
    assert total("grpc_client_started_total") == total("grpc_client_handled_total", grpc_code="OK") == 2
    assert total("grpc_client_attempts_total") == 1
    assert total("grpc_client_circuit_rejections_total") == 1
    assert total("grpc_client_in_flight") == 0
    assert len(telemetry.spans.ended) == 2

"""The official interceptors with a policy, from both worlds."""

from __future__ import annotations

import logging
import time

import grpc
import pytest
from policy_lab import Caller, fail, hang, ok

from grpc_faultwire import fallback
from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.policies import HedgePolicy, RetryPolicy

QUICK = RetryPolicy(initial_backoff=0.01)
CONFIG = (
    '{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 2, "initialBackoff": "0.01s",'
    ' "maxBackoff": "0.01s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}'
)


@pytest.mark.parametrize("style", ["unary", "future"])
def test_they_retry_refresh_hedge_and_fall_back(caller: Caller, style: str) -> None:
    """As a wrapped channel does, but for one thing: grpc makes the attempts of a blocking call one after the other."""

    def value(*acts: object) -> object:
        got = getattr(caller, style)(*acts)
        return (got.result() if style == "future" else got).value

    caller.connect(ClientPolicy(retry=QUICK, refresh=lambda error: None), door="official")
    assert value(fail(), fail("UNAUTHENTICATED"), ok(b"3")) == b"3"
    caller.connect(ClientPolicy(hedge=HedgePolicy(delay=0.05), refresh=lambda error: None), door="official")
    if (caller.world, style) != ("sync", "unary"):
        assert value(hang(), ok(b"2")) == b"2"
    assert value(fail("UNAUTHENTICATED"), ok(b"2")) == b"2"
    caller.connect(ClientPolicy(retry=None, fallbacks=(fallback.value(b"instead"),)), door="official")
    assert value(fail()) == b"instead"


def test_closing_the_channel_does_not_wake_a_backoff(caller: Caller) -> None:
    """No interceptor hears of it: the call fails, once, when its time has come, and nothing more is sent."""
    caller.connect(ClientPolicy(retry=RetryPolicy(initial_backoff=0.8)), door="official")
    handle = caller.future(fail(), ok())
    caller.server.arrived(handle.key)
    time.sleep(0.2)
    caller.close()
    [outcome] = caller.ledger.outcomes()
    assert outcome.code is not grpc.StatusCode.OK
    assert handle.result().error is not None
    assert len(caller.server.seen(handle.key)) == 1


def test_a_service_config_that_retries_too_is_warned_of(caller: Caller, caplog: pytest.LogCaptureFixture) -> None:
    """If the interceptors are told the channel's arguments."""
    options = [("grpc.service_config", CONFIG)]
    with caplog.at_level(logging.WARNING, logger="grpc_faultwire"):
        caller.connect(ClientPolicy(retry=QUICK), options=options, door="official")
        caller.unary()
        assert not caplog.records
        caller.connect(ClientPolicy(retry=QUICK), options=options, told=True, door="official")
        caller.unary()
        caller.unary()
    assert ["attempts multiply" in record.getMessage() for record in caplog.records] == [True]

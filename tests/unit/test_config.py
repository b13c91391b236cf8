"""Client policies: defaults, overrides, service configs in and out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from grpc_faultwire import Kind, Side
from grpc_faultwire.config import CALL_OPTIONS, ClientPolicy, calling
from grpc_faultwire.core_retries import retried_by_core
from grpc_faultwire.policies import BreakerPolicy, BudgetPolicy, HedgePolicy, RetryPolicy, ThrottlePolicy
from grpc_faultwire.records import CallInfo
from grpc_faultwire.service_config import from_service_config, to_service_config


def info(path: str) -> CallInfo:
    return CallInfo.of(path, kind=Kind.UNARY, side=Side.CLIENT, target="t")


GET = info("/shop.v1.Shop/GetBook")
LIST = info("/shop.v1.Shop/ListBooks")
OTHER = info("/other.Service/Do")


def test_defaults() -> None:
    """Retry, budget and breaker are on; nothing that may be carried out twice unasked is."""
    policy = ClientPolicy()
    assert (policy.retry, policy.budget, policy.breaker) == (RetryPolicy(), BudgetPolicy(), BreakerPolicy())
    assert (policy.hedge, policy.fallbacks, policy.timeout) == (None, (), None)
    assert policy.for_call(GET) is policy


def test_the_most_particular_name_wins() -> None:
    """Method over service over all, and of equals the later one."""
    policy = (
        ClientPolicy(timeout=1)
        .override({"service": "shop.v1.Shop", "method": "GetBook"}, timeout=4)
        .override({"service": "shop.v1.Shop"}, timeout=3, attempt_timeout=0.5)
        .override({}, timeout=2)
    )
    assert (policy.for_call(GET).timeout, policy.for_call(GET).attempt_timeout) == (4, 0.5)
    assert policy.for_call(LIST).timeout == 3
    assert policy.for_call(OTHER).timeout == 2
    again = policy.override({"service": "shop.v1.Shop", "method": "GetBook"}, timeout=9)
    assert again.for_call(GET).timeout == 9


def test_a_method_that_is_hedged_is_not_retried() -> None:
    """gRFC A6 gives a method the one or the other."""
    policy = ClientPolicy().override({"service": "shop.v1.Shop"}, hedge=HedgePolicy())
    assert policy.for_call(GET).retry is None
    with pytest.raises(ValueError, match="the one or the other"):
        ClientPolicy().override({"service": "s"}, hedge=HedgePolicy(), retry=RetryPolicy(max_attempts=5))


def test_exempt_methods() -> None:
    """No policy touches them."""
    policy = ClientPolicy(exempt=["shop.v1.Shop/GetBook", "other.Service"])
    assert policy.for_call(GET) is None
    assert policy.for_call(OTHER) is None
    assert policy.for_call(LIST) is policy


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: ClientPolicy(timeout=0), "timeout"),
        (lambda: ClientPolicy(attempt_timeout=-1), "attempt_timeout"),
        (lambda: ClientPolicy(replay_bytes=-1), "replay_bytes"),
        (lambda: ClientPolicy(mode="shadow"), "'shadow'"),
        (lambda: ClientPolicy().override(timeout=1), "name at least one method"),
        (lambda: ClientPolicy().override({"method": "GetBook"}, timeout=1), "no name of a service"),
        (lambda: ClientPolicy().override({"service": "s", "methd": "x"}, timeout=1), "no name of a service"),
        (lambda: ClientPolicy().override({"service": "s"}, timout=1), "timout: no setting"),
        (lambda: ClientPolicy().override({"service": "s"}, budget=None), "budget: no setting"),
        (lambda: ClientPolicy().override({"service": "s"}, timeout=-3), "timeout is -3"),
    ],
)
def test_wrong_settings_fail_when_they_are_made(make: Any, sentence: str) -> None:
    """With a sentence that names the value."""
    with pytest.raises(ValueError, match=sentence):
        make()


def test_calling_says_something_for_the_calls_in_its_block() -> None:
    """And nothing for those after it."""
    with calling(idempotent=True):
        assert CALL_OPTIONS.get().idempotent is True
        with calling(policy=False):
            assert CALL_OPTIONS.get().policy is False
    assert CALL_OPTIONS.get().idempotent is None


CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": "shop.v1.Shop", "method": "GetBook"}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["unavailable", 10],
            },
            "timeout": "1.5s",
            "waitForReady": True,
        },
        {
            "name": [{"service": "shop.v1.Shop"}],
            "hedgingPolicy": {"maxAttempts": 3, "hedgingDelay": "0.5s", "nonFatalStatusCodes": ["UNAVAILABLE"]},
        },
    ],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
}


@pytest.mark.parametrize("given", [CONFIG, json.dumps(CONFIG), json.dumps(CONFIG).encode()])
def test_from_service_config(given: Any) -> None:
    """retryPolicy, hedgingPolicy, retryThrottling, timeout and waitForReady arrive, in any case and as numbers."""
    policy = from_service_config(given)
    get, rest, other = policy.for_call(GET), policy.for_call(LIST), policy.for_call(OTHER)
    assert get.retry.max_attempts == 4
    assert get.retry.retryable_codes == {"UNAVAILABLE", "ABORTED"}
    assert (get.retry.initial_backoff, get.retry.max_backoff, get.timeout, get.wait_for_ready) == (0.1, 1, 1.5, True)
    assert rest.hedge == HedgePolicy(max_attempts=3, delay=0.5, non_fatal_codes=frozenset({"UNAVAILABLE"}))
    assert other.retry is None
    assert policy.budget == ThrottlePolicy(max_tokens=10, token_ratio=0.1)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"maxAttempts": 1}, "maxAttempts is 1"),
        ({"initialBackoff": "0.1"}, "initialBackoff is '0.1'"),
        ({"initialBackoff": 3}, "initialBackoff is 3"),
        ({"retryableStatusCodes": ["NONSENSE"]}, "NONSENSE"),
        ({"backoffMultiplier": None}, "backoffMultiplier"),
    ],
)
def test_wrong_service_configs(change: dict[str, Any], sentence: str) -> None:
    """A wrong value, or a missing one, fails with a sentence that names it."""
    policy = CONFIG["methodConfig"][0]["retryPolicy"] | change
    policy = {key: value for key, value in policy.items() if value is not None}
    with pytest.raises(ValueError, match=sentence):
        from_service_config({"methodConfig": [{"name": [{"service": "s"}], "retryPolicy": policy}]})


def test_to_service_config_is_what_core_can_do() -> None:
    """Out and in again gives the same; timeouts are left out, since grpcio breaks them."""
    policy = from_service_config({**CONFIG, "methodConfig": CONFIG["methodConfig"][:1]})
    out = json.loads(to_service_config(policy))
    assert "timeout" not in out["methodConfig"][0]
    again = from_service_config(out)
    assert again.for_call(GET).retry == policy.for_call(GET).retry
    assert again.budget == policy.budget


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        (ClientPolicy(hedge=HedgePolicy()), "hedges"),
        (ClientPolicy().override({"service": "s"}, hedge=HedgePolicy()), "s/ is hedged"),
        (ClientPolicy().override({"service": "s"}, retry=RetryPolicy()), "names no codes"),
        (
            ClientPolicy(retry=RetryPolicy(max_attempts=9, retryable_codes=frozenset({"UNAVAILABLE"}))),
            "max_attempts is 9",
        ),
    ],
)
def test_what_core_cannot_do_is_refused(policy: ClientPolicy, sentence: str) -> None:
    """Rather than lost in silence."""
    with pytest.raises(ValueError, match=sentence):
        to_service_config(policy)


def test_a_channel_that_retries_by_itself_is_noticed() -> None:
    """Then attempts would multiply."""
    options = [("grpc.service_config", json.dumps(CONFIG))]
    assert retried_by_core(options, "/shop.v1.Shop/GetBook")
    assert not retried_by_core(options, "/shop.v1.Shop/ListBooks")
    assert not retried_by_core([], "/shop.v1.Shop/GetBook")
    assert not retried_by_core([("grpc.service_config", "nonsense")], "/shop.v1.Shop/GetBook")

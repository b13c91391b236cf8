"""Wrong settings fail when they are made, with a sentence that names the value."""

import dataclasses

import pytest

from grpc_faultwire.policies import (
    BreakerPolicy,
    BreakerRegistry,
    BudgetPolicy,
    HedgePolicy,
    Latencies,
    RetryPolicy,
    ThrottlePolicy,
)

WRONG = [
    (RetryPolicy, "max_attempts", 0),
    (RetryPolicy, "max_attempts", True),
    (RetryPolicy, "max_attempts", 2.5),
    (RetryPolicy, "initial_backoff", 0),
    (RetryPolicy, "initial_backoff", float("nan")),
    (RetryPolicy, "max_backoff", float("inf")),
    (RetryPolicy, "backoff_multiplier", -1),
    (RetryPolicy, "retryable_codes", frozenset({"unavailable"})),
    (RetryPolicy, "retryable_codes", frozenset({"OK"})),
    (RetryPolicy, "retryable_codes", "UNAVAILABLE"),
    (RetryPolicy, "max_server_delay", -1),
    (RetryPolicy, "min_attempt_time", -0.1),
    (BudgetPolicy, "capacity", 0),
    (BudgetPolicy, "credit", 0),
    (BudgetPolicy, "initial", -1),
    (BudgetPolicy, "initial", 101),
    (ThrottlePolicy, "max_tokens", 0),
    (ThrottlePolicy, "max_tokens", 1001),
    (ThrottlePolicy, "max_tokens", 1.5),
    (ThrottlePolicy, "token_ratio", 0.0009),
    (BreakerPolicy, "window", 0),
    (BreakerPolicy, "buckets", 0),
    (BreakerPolicy, "minimum_calls", 0),
    (BreakerPolicy, "longest_window", -1),
    (BreakerPolicy, "failure_ratio", 0),
    (BreakerPolicy, "failure_ratio", 1.1),
    (BreakerPolicy, "slow_call_ratio", float("nan")),
    (BreakerPolicy, "slow_call_duration", 0),
    (BreakerPolicy, "overdue_after", -1),
    (BreakerPolicy, "open_duration", 0),
    (BreakerPolicy, "open_multiplier", 0.5),
    (BreakerPolicy, "max_open_duration", 1.9),
    (BreakerPolicy, "open_jitter", 1),
    (BreakerPolicy, "half_open_calls", 0),
    (BreakerPolicy, "successes_to_close", 0),
    (BreakerPolicy, "neutral_probes_to_widen", 0),
    (HedgePolicy, "max_attempts", 1),
    (HedgePolicy, "delay", -1),
    (HedgePolicy, "quantile", 0),
    (HedgePolicy, "initial_delay", 0),
    (HedgePolicy, "non_fatal_codes", frozenset({"NO_SUCH_CODE"})),
    (Latencies, "size", 0),
    (Latencies, "least", 0),
]


@pytest.mark.parametrize(("kind", "name", "value"), WRONG, ids=lambda part: str(getattr(part, "__name__", part)))
def test_a_wrong_setting_is_refused(kind, name, value):
    """The error names the setting and its value."""
    with pytest.raises(ValueError) as raised:
        kind(**{name: value})
    message = str(raised.value)
    assert name in message
    assert repr(value) in message or any(repr(code) in message for code in value)
    assert message.endswith(".")


def test_a_registry_of_none_is_refused():
    """A registry holds at least one breaker."""
    with pytest.raises(ValueError, match="capacity is 0"):
        BreakerRegistry(rng=float, capacity=0)


@pytest.mark.parametrize("kind", [RetryPolicy, BudgetPolicy, ThrottlePolicy, BreakerPolicy, HedgePolicy])
def test_settings_are_frozen_and_hashable(kind):
    """Settings can be shared and compared, and nobody changes them afterwards."""
    policy = kind()
    assert hash(policy) == hash(kind())
    name = dataclasses.fields(policy)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(policy, name, 1)

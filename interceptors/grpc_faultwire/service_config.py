"""gRPC service configs (gRFC A6) in and out of `ClientPolicy`.

In: the retryPolicy, hedgingPolicy, retryThrottling, timeout and waitForReady of every methodConfig. Out: only what
gRPC's core can do itself, and does right in Python.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import grpc

from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.policies import HedgePolicy, RetryPolicy, ThrottlePolicy

MAX_CORE_ATTEMPTS = 5
"""gRPC's core cuts maxAttempts to this."""

LONGEST_PUSHBACK = (2**31 - 1) / 1000
"""Seconds of the longest pushback that can be written: core obeys them all."""


def from_service_config(config: str | bytes | Mapping[str, Any]) -> ClientPolicy:
    """Make a policy that does what a service config says.

    Methods without a retryPolicy or hedgingPolicy are not retried, as in gRPC. There is no circuit breaker.

    Args:
        config: JSON, or what it stands for.

    Raises:
        ValueError: the config is wrong; the sentence names what.
    """
    parsed = json.loads(config) if isinstance(config, str | bytes) else config
    if not isinstance(parsed, Mapping):
        raise ValueError(f"a service config is a JSON object, not {parsed!r}.")  # noqa: TRY004  # wrong JSON is a value
    throttling = parsed.get("retryThrottling")
    policy = ClientPolicy(retry=None, breaker=None, budget=_throttle(throttling) if throttling is not None else None)
    for method in parsed.get("methodConfig", []):
        names = method.get("name", [])
        changes = _changes(method)
        if names:
            policy = policy.override(*names, **changes)
    return policy


def to_service_config(policy: ClientPolicy) -> str:
    """Return the service config, as JSON, for what gRPC's core can do of a policy by itself.

    It leaves out ``timeout``, which is broken in grpcio (grpc/grpc#34547), and all that core decides by codes alone.

    Raises:
        ValueError: a part of the policy would be lost or changed: hedging, which core ignores in Python, a retry policy
            that names no codes, or more than 5 attempts.
    """
    config: dict[str, Any] = {"methodConfig": []}
    if policy.retry is not None and policy.retry.retryable_codes is not None:
        config["methodConfig"].append({"name": [{}], "retryPolicy": _retry_out(policy.retry)})
    for service, method, changes in policy.overrides:
        if changes.get("hedge") is not None:
            raise ValueError(f"{service}/{method} is hedged; gRPC's core ignores hedgingPolicy in Python.")
        name = {"service": service} | ({"method": method} if method else {}) if service else {}
        part: dict[str, Any] = {"name": [name]}
        if changes.get("retry") is not None:
            part["retryPolicy"] = _retry_out(changes["retry"])
        if changes.get("wait_for_ready") is not None:
            part["waitForReady"] = changes["wait_for_ready"]
        if len(part) > 1:
            config["methodConfig"].append(part)
    if policy.hedge is not None:
        raise ValueError("the policy hedges; gRPC's core ignores hedgingPolicy in Python.")
    if isinstance(policy.budget, ThrottlePolicy):
        config["retryThrottling"] = {
            "maxTokens": policy.budget.max_tokens,
            "tokenRatio": policy.budget.token_ratio,
        }
    return json.dumps(config)


def _changes(method: Mapping[str, Any]) -> dict[str, Any]:
    if "retryPolicy" in method and "hedgingPolicy" in method:
        raise ValueError(f"{method.get('name')} has a retryPolicy and a hedgingPolicy; gRFC A6 allows one.")
    # All of them, as in gRPC: of the entries that fit a method the most particular counts, and nothing of the others.
    changes: dict[str, Any] = {"retry": None, "hedge": None, "timeout": None, "wait_for_ready": None}
    if "retryPolicy" in method:
        changes["retry"] = _read(_retry_in, method["retryPolicy"], "retryPolicy", method)
    if "hedgingPolicy" in method:
        changes["hedge"] = _read(_hedge_in, method["hedgingPolicy"], "hedgingPolicy", method)
    if "timeout" in method:
        changes["timeout"] = _seconds(method["timeout"], "timeout")
    if "waitForReady" in method:
        changes["wait_for_ready"] = bool(method["waitForReady"])
    return changes


def _read(read: Callable[[Mapping[str, Any]], Any], part: Mapping[str, Any], name: str, method: Any) -> Any:
    try:
        return read(part)
    except KeyError as missing:
        raise ValueError(f"the {name} of {method.get('name')} lacks {missing}.") from None


def _retry_in(part: Mapping[str, Any]) -> RetryPolicy:
    if part["maxAttempts"] < 2:
        raise ValueError(f"maxAttempts is {part['maxAttempts']!r}; gRFC A6 demands 2 or more.")
    return RetryPolicy(
        max_attempts=part["maxAttempts"],
        initial_backoff=_seconds(part["initialBackoff"], "initialBackoff"),
        max_backoff=_seconds(part["maxBackoff"], "maxBackoff"),
        backoff_multiplier=part["backoffMultiplier"],
        retryable_codes=_codes(part["retryableStatusCodes"]),
        max_server_delay=LONGEST_PUSHBACK,
    )


def _hedge_in(part: Mapping[str, Any]) -> HedgePolicy:
    return HedgePolicy(
        max_attempts=part["maxAttempts"],
        delay=_seconds(part.get("hedgingDelay", "0s"), "hedgingDelay"),
        non_fatal_codes=_codes(part.get("nonFatalStatusCodes", [])),
    )


def _throttle(part: Mapping[str, Any]) -> ThrottlePolicy:
    try:
        return ThrottlePolicy(max_tokens=part["maxTokens"], token_ratio=part["tokenRatio"])
    except KeyError as missing:
        raise ValueError(f"retryThrottling lacks {missing}.") from None


def _retry_out(policy: RetryPolicy) -> dict[str, Any]:
    if policy.retryable_codes is None:
        raise ValueError("the retry policy names no codes; gRPC's core decides by nothing else.")
    if policy.max_attempts > MAX_CORE_ATTEMPTS:
        raise ValueError(f"max_attempts is {policy.max_attempts}; gRPC's core makes at most {MAX_CORE_ATTEMPTS}.")
    return {
        "maxAttempts": policy.max_attempts,
        "initialBackoff": f"{policy.initial_backoff:g}s",
        "maxBackoff": f"{policy.max_backoff:g}s",
        "backoffMultiplier": policy.backoff_multiplier,
        "retryableStatusCodes": sorted(policy.retryable_codes),
    }


def _seconds(text: Any, name: str) -> float:
    number = text.removesuffix("s") if isinstance(text, str) and text.endswith("s") else ""
    try:
        return float(number)
    except ValueError:
        raise ValueError(f"{name} is {text!r}; it must be seconds with an s, such as '0.1s'.") from None


def _codes(given: Any) -> frozenset[str]:
    # gRFC A6 allows names in any case, and numbers.
    by_number = {code.value[0]: code.name for code in grpc.StatusCode}
    return frozenset(by_number.get(code, str(code)) if isinstance(code, int) else str(code).upper() for code in given)

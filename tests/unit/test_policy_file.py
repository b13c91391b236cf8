"""Policies from files, and the switch that turns parts off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from grpc_faultwire import Kind, Side
from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.policies import (
    BreakerMode,
    BreakerPolicy,
    BudgetPolicy,
    HedgePolicy,
    Jitter,
    RetryPolicy,
    ThrottlePolicy,
)
from grpc_faultwire.policy_file import load_policy, switched
from grpc_faultwire.records import CallInfo

GET = CallInfo.of("/shop.v1.Shop/GetBook", kind=Kind.UNARY, side=Side.CLIENT)
TOML = """
timeout = 5.0
exempt = ["health.Health"]
hedge = false

[retry]
max_attempts = 4
retryable_codes = ["UNAVAILABLE"]
jitter = "full"

[budget]
max_tokens = 20

[breaker]
open_duration = 1.0
mode = "observe"

[[override]]
names = [{service = "shop.v1.Shop", method = "GetBook"}]
attempt_timeout = 0.5

[override.hedge]
delay = 0.1
non_fatal_codes = ["UNAVAILABLE"]
"""


def write(folder: Path, text: str, name: str = "policy.toml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_toml(tmp_path: Path) -> None:
    """Every part can be written; what is not written keeps its default."""
    policy = load_policy(write(tmp_path, TOML))
    assert policy.retry == RetryPolicy(max_attempts=4, retryable_codes=frozenset({"UNAVAILABLE"}), jitter=Jitter.FULL)
    assert policy.budget == ThrottlePolicy(max_tokens=20)
    assert policy.breaker == BreakerPolicy(open_duration=1.0, mode=BreakerMode.OBSERVE)
    assert (policy.timeout, policy.exempt, policy.hedge) == (5.0, {"health.Health"}, None)
    get = policy.for_call(GET)
    assert (get.attempt_timeout, get.retry) == (0.5, None)
    assert get.hedge == HedgePolicy(delay=0.1, non_fatal_codes=frozenset({"UNAVAILABLE"}))


def test_json(tmp_path: Path) -> None:
    """The same form, by the file's ending."""
    text = json.dumps({"timeout": 2, "retry": False, "budget": {"initial": 5}})
    policy = load_policy(write(tmp_path, text, "policy.json"))
    assert (policy.timeout, policy.retry, policy.budget) == (2, None, BudgetPolicy(initial=5))


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    """Nothing said, nothing changed."""
    assert load_policy(write(tmp_path, "")) == ClientPolicy()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("timout = 5", "'timout' is no setting"),
        ("timeout = -5", "timeout is -5"),
        ("[retry]\nmax_attempts = 0", "max_attempts is 0"),
        ("[retry]\nmaxAttempts = 3", "maxAttempts"),
        ('[retry]\njitter = "some"', "some"),
        ("[[override]]\ntimeout = 1", "name at least one method"),
        ("nonsense", "policy.toml"),
        ('fallbacks = "x"', "'fallbacks' is no setting"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, sentence: str) -> None:
    """Fail with the file's name and a sentence that names the setting."""
    with pytest.raises(ValueError, match=sentence) as wrong:
        load_policy(write(tmp_path, text))
    assert "policy.toml" in str(wrong.value)


def test_json_that_is_no_table(tmp_path: Path) -> None:
    """Is refused."""
    with pytest.raises(ValueError, match="no table"):
        load_policy(write(tmp_path, "[1]", "policy.json"))


@pytest.mark.parametrize(
    ("named", "off"),
    [
        ("", []),
        ("retry", ["retry"]),
        (" breaker , budget ", ["budget", "breaker"]),
        ("all", ["retry", "budget", "breaker"]),
    ],
)
def test_the_switch(named: str, off: list[str]) -> None:
    """Turns off what it names, in overrides too, and leaves the rest."""
    policy = ClientPolicy().override({"service": "shop.v1.Shop"}, retry=RetryPolicy(max_attempts=9))
    found: Any = switched(policy, {"FAULTWIRE_OFF": named})
    assert [part for part in ("retry", "budget", "breaker") if getattr(found, part) is None] == off
    assert (found.for_call(GET).retry is None) is ("retry" in off)


def test_a_switch_that_does_not_exist() -> None:
    """Is an error when the channel is wrapped, and not a part that stays on unnoticed."""
    with pytest.raises(ValueError, match="FAULTWIRE_OFF names breakers"):
        switched(ClientPolicy(), {"FAULTWIRE_OFF": "breakers"})

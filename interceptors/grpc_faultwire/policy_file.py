"""Client policies from a file, and switches in the environment that turn parts of them off in production.

timeout = 5.0

[retry]
max_attempts = 4

[breaker]
open_duration = 1.0

[[override]]
names = [{service = "shop.v1.Shop", method = "GetBook"}]
attempt_timeout = 0.5
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from pathlib import Path

SWITCH = "FAULTWIRE_OFF"
"""The environment variable that turns parts off: their names, with commas between, or "all"."""
PARTS: Mapping[str, Any] = {"retry": None, "budget": None, "breaker": None, "hedge": None, "fallbacks": ()}
"""What can be turned off, and what it is then."""

_SETTINGS = frozenset({"timeout", "attempt_timeout", "idempotent", "replay_bytes", "wait_for_ready", "mode", "exempt"})


def load_policy(path: str | Path) -> ClientPolicy:
    """Read a policy from a TOML file, or from a JSON file (by its ending, .json) of the same form.

    Settings have the names of ClientPolicy's attributes; `false` in the place of a table turns that part off. What is
    not named keeps its default. Functions (breaker_key, refresh, resume, fallbacks) cannot be written in a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it cannot be parsed, or a setting is unknown or wrong; the sentence names it.
    """
    import json  # noqa: PLC0415  # few read a policy from a file, and all wrapped channels look at the switches
    import tomllib  # noqa: PLC0415  # as above
    from pathlib import Path  # noqa: PLC0415  # as above

    file = Path(path)
    text = file.read_text(encoding="utf-8")
    try:
        read = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
        if not isinstance(read, dict):
            raise ValueError(f"it holds no table, but {read!r}")  # noqa: TRY004, TRY301  # a wrong value in a file
        overrides = read.pop("override", [])
        policy = ClientPolicy(**_settings(read))
        for one in overrides:
            names = one.pop("names", [])
            policy = policy.override(*names, **_settings(one))
    except (ValueError, TypeError) as wrong:
        raise ValueError(f"{file}: {wrong}") from wrong
    return policy


def switched(policy: ClientPolicy, environment: Mapping[str, str] = os.environ) -> ClientPolicy:
    """Return a policy without the parts that the environment turns off.

    Raises:
        ValueError: the variable names a part that does not exist.
    """
    named = {part.strip() for part in environment.get(SWITCH, "").split(",")} - {""}
    unknown = named - set(PARTS) - {"all"}
    if unknown:
        raise ValueError(f"{SWITCH} names {', '.join(sorted(unknown))}; there are {', '.join(PARTS)} and all.")
    off = {part: nothing for part, nothing in PARTS.items() if part in named or "all" in named}
    if not off:
        return policy
    overrides = tuple(
        (service, method, {**changes, **_kept(changes, off)}) for service, method, changes in policy.overrides
    )
    return dataclasses.replace(policy, overrides=overrides, **off)


def _kept(changes: Mapping[str, Any], off: Mapping[str, Any]) -> dict[str, Any]:
    return {part: nothing for part, nothing in off.items() if part in changes}


def _settings(read: Mapping[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name, value in read.items():
        if name in _TABLES:
            settings[name] = None if value is False else _TABLES[name](value)
        elif name in _SETTINGS:
            settings[name] = value
        else:
            raise ValueError(f"{name!r} is no setting; there are {', '.join(sorted(_SETTINGS | set(_TABLES)))}.")
    return settings


def _retry(table: Mapping[str, Any]) -> RetryPolicy:
    return RetryPolicy(**_with(table, retryable_codes=frozenset, jitter=Jitter))


def _budget(table: Mapping[str, Any]) -> BudgetPolicy | ThrottlePolicy:
    # The two have no setting in common, so what is written says which is meant.
    return ThrottlePolicy(**table) if {"max_tokens", "token_ratio"} & set(table) else BudgetPolicy(**table)


def _breaker(table: Mapping[str, Any]) -> BreakerPolicy:
    return BreakerPolicy(**_with(table, mode=BreakerMode))


def _hedge(table: Mapping[str, Any]) -> HedgePolicy:
    return HedgePolicy(**_with(table, non_fatal_codes=frozenset))


def _with(table: Mapping[str, Any], **kinds: Callable[[Any], Any]) -> dict[str, Any]:
    return {name: kinds[name](value) if name in kinds else value for name, value in table.items()}


_TABLES: Mapping[str, Callable[[Any], Any]] = {"retry": _retry, "budget": _budget, "breaker": _breaker, "hedge": _hedge}

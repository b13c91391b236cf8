"""Changes of circuit breakers, which come from a listener and not from a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grpc_faultwire.observers import names
from grpc_faultwire.records import Event

if TYPE_CHECKING:
    from grpc_faultwire.policies import Transition


def transition_event(transition: Transition) -> Event:
    """Return the event that says what a breaker's listener was told."""
    attributes: dict[str, Any] = {
        "breaker": breaker_name(transition.key),
        "from_state": transition.before.value,
        "to_state": transition.after.value,
        "failure_ratio": transition.failure_ratio,
        "open_for": transition.open_for,
    }
    return Event(name=names.CIRCUIT_TRANSITION.name, attributes=attributes)


def breaker_name(key: Any) -> str:
    """Return what telemetry calls a breaker: its key, the parts of a tuple joined by slashes."""
    return "/".join(map(str, key)) if isinstance(key, tuple) else str(key)

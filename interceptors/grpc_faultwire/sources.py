"""What a wrapped channel takes its decisions from: all that decides is imported with the first policy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grpc_faultwire.config import ClientPolicy
    from grpc_faultwire.plan import PolicySource
    from grpc_faultwire.state import PolicyState


def source_of(
    policy: ClientPolicy | PolicySource | None, state: PolicyState | None, observers: Iterable[Any] = ()
) -> PolicySource | None:
    """Return what a wrapped channel takes its decisions from, less what the environment turns off.

    Args:
        policy: the channel's.
        state: shared with other channels; None: its own.
        observers: those with an ``on_transition`` are told of every change of a breaker, be it outside any call.

    Raises:
        ValueError: a state without a policy that could use it, or a switch that turns nothing off.
    """
    if policy is None and state is None:
        return None
    from grpc_faultwire.config import ClientPolicy  # noqa: PLC0415  # a caller without a policy needs nothing of them
    from grpc_faultwire.enforcement import Enforcement  # noqa: PLC0415  # as above
    from grpc_faultwire.policy_file import switched  # noqa: PLC0415  # as above

    if isinstance(policy, ClientPolicy):
        enforcement = Enforcement(switched(policy), state)
        for observer in observers:
            if hasattr(observer, "on_transition"):
                enforcement.state.listen(observer.on_transition)
        return enforcement
    if state is not None:
        raise ValueError("a PolicyState is given, and no ClientPolicy to use it.")
    return policy

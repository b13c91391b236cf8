"""Who may see where an error came from."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

logger = logging.getLogger("grpc_faultwire.server")


@dataclass(frozen=True, kw_only=True, slots=True)
class Exposure:
    """Who may see stack traces: file, line and function of each frame, in a google.rpc.DebugInfo.

    Attributes:
        stacks: "off" (the default: a stack says how a server is built), "trusted": to peers that ``trusted`` accepts,
            or "everyone", for development.
        trusted: asked with the call's auth context (see grpc.ServicerContext.auth_context).

    Raises:
        ValueError: another word, or "trusted" without a predicate.
    """

    stacks: Literal["off", "trusted", "everyone"] = "off"
    trusted: Callable[[Any], bool] | None = None

    def __post_init__(self) -> None:
        if self.stacks not in ("off", "trusted", "everyone"):
            raise ValueError(f"stacks is {self.stacks!r}; it must be 'off', 'trusted' or 'everyone'")
        if (self.stacks == "trusted") != (self.trusted is not None):
            raise ValueError("a predicate for trusted peers goes with stacks='trusted'")

    def allows(self, context: Any) -> bool:
        """Tell whether this call's peer may see stacks. A predicate that raises says no."""
        if self.trusted is None:
            return self.stacks == "everyone"
        try:
            return bool(self.trusted(context.auth_context()))
        except Exception:
            logger.exception("the predicate for trusted peers raised; no stack is shown")
            return False

"""The register of what callers do with calls; the scenarios are in files of their own."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

from aio_lab import SS, SU, US

SCENARIOS: dict[str, tuple[Callable[..., Any], str]] = {}
VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
RESPONSE_STREAMS = (US, SS)
REQUEST_STREAMS = (SU, SS)


def scenario(*kinds: str) -> Any:
    """Register a scenario for these kinds of calls."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for kind in kinds:
            SCENARIOS[f"{function.__name__}-{kind}"] = function, kind
        return function

    return register

"""The checks that settings run on themselves: each failure is a sentence that names the setting and its value."""

from __future__ import annotations

import math
from collections.abc import Iterable

CODE_NAMES = frozenset(
    {
        "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
        "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
        "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
    }
)  # fmt: skip
"""The names of the gRPC status codes that an error can have, as a service config spells them (gRFC A6)."""


def positive(name: str, value: float) -> None:
    """Refuse anything but a finite number above zero."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} is {value!r}; it must be a finite number above 0.")


def not_negative(name: str, value: float) -> None:
    """Refuse anything but a finite number that is zero or more."""
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} is {value!r}; it must be a finite number, 0 or more.")


def at_least(name: str, value: float, least: float) -> None:
    """Refuse a number below ``least``, and anything that is not finite."""
    if not (math.isfinite(value) and value >= least):
        raise ValueError(f"{name} is {value!r}; it must be {least!r} or more.")


def whole(name: str, value: object, least: int) -> None:
    """Refuse anything but an integer of ``least`` or more (a bool is not a number of things)."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} is {value!r}; it must be a whole number, {least} or more.")


def ratio(name: str, value: float) -> None:
    """Refuse anything but a number above 0, up to 1."""
    if not 0 < value <= 1:
        raise ValueError(f"{name} is {value!r}; it must be above 0 and at most 1.")


def code_names(name: str, codes: Iterable[str] | None) -> None:
    """Refuse names that no gRPC status code has; ``OK`` is not an error, so it is refused too."""
    if isinstance(codes, str):
        raise ValueError(f"{name} is the string {codes!r}; it must be a set of code names.")  # noqa: TRY004  one kind of error for all wrong settings
    for code in codes or ():
        if code not in CODE_NAMES:
            raise ValueError(f"{name} has {code!r}; its members must be names such as 'UNAVAILABLE'.")

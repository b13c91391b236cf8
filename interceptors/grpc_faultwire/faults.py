"""Faults of users' functions: logged once for each function, since an outage would fill the log otherwise."""

from __future__ import annotations

import logging
import weakref
from typing import Any

_told: dict[int, weakref.ref[Any]] = {}
"""The functions whose faults were logged, by id: not all are hashable. None is kept alive: it may know its errors, and
these the frames of calls."""


def warn_once(logger: logging.Logger, function: Any, fault: BaseException, what: str) -> None:
    """Log what a user's function raised, unless a fault of the same function was logged before.

    Args:
        logger: where to.
        function: whose fault it is. One that cannot be weakly referenced is logged every time.
        fault: what it raised.
        what: the consequence, as the beginning of a sentence.
    """
    # A bound method is made anew whenever it is asked for.
    function = getattr(function, "__self__", function)
    if id(function) in _told:
        return
    _remember(function)
    # Its name, and not its repr: an object that gives credentials may show them there.
    name = getattr(function, "__qualname__", type(function).__qualname__)
    logger.warning("%s; further faults of %s are not logged", what, name, exc_info=fault)


def _remember(function: Any) -> None:
    key = id(function)

    def forget(_reference: Any) -> None:
        _told.pop(key, None)

    try:
        _told[key] = weakref.ref(function, forget)
    except TypeError:
        return

"""Recovery strategies of callers: what is answered in place of an error, for its codes or categories.

A fallback is asked once, when the call has failed for good; it is always visible in telemetry.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from grpc_faultwire.category import Category
from grpc_faultwire.errors import StatusError
from grpc_faultwire.plan import UNANSWERED

__all__ = ["OUTAGES", "UNANSWERED", "Failed", "Fallback", "function", "last_good", "value"]

OUTAGES = frozenset({Category.TRANSPORT, Category.OVERLOAD, Category.TIMEOUT, Category.DEPENDENCY, Category.INTERNAL})
"""The categories that fallbacks answer unless told otherwise: those where the caller did nothing wrong."""


class Failed(NamedTuple):
    """What a fallback may know.

    Attributes:
        error: what the call failed with.
        method: its full path, "/shop.v1.Shop/GetBook".
        request: of a unary request; None of a stream.
        now: seconds on the monotonic clock.
    """

    error: StatusError
    method: str
    request: Any
    now: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Fallback:
    """Answers in place of errors of some categories or codes. Make one with a function of this module.

    Attributes:
        name: in telemetry.
        answer: gives the response (of a response stream, an iterable of responses), or UNANSWERED.
        categories: those it answers. Default: `OUTAGES`.
        codes: names of the codes that it answers besides.
        learn: told of every good answer, with the same knowledge but for the error.
    """

    name: str
    answer: Callable[[Failed], Any]
    categories: frozenset[Category] = OUTAGES
    codes: frozenset[str] = frozenset()
    learn: Callable[[str, Any, Any, float], None] | None = field(default=None, repr=False)

    def covers(self, error: StatusError) -> bool:
        """Tell whether it answers this error."""
        return error.category in self.categories or error.code().name in self.codes


def value(response: Any, **settings: Any) -> Fallback:
    """Answer always the same.

    Args:
        response: of a response stream, a list of responses.
        settings: ``categories`` and ``codes``; see `Fallback`.
    """
    return _made("value", lambda _failed: response, settings)


def function(answer: Callable[[Failed], Any], **settings: Any) -> Fallback:
    """Answer what a function makes of the error and the request; UNANSWERED leaves the error.

    Args:
        answer: must not block.
        settings: ``categories`` and ``codes``; see `Fallback`.
    """
    return _made("function", answer, settings)


def last_good(
    *, max_age: float = 300.0, capacity: int = 1000, key: Callable[[Any], Hashable] | None = None, **settings: Any
) -> Fallback:
    """Answer what the same request was last answered with. Unary methods only.

    Args:
        max_age: seconds after which an answer is too old. 300.
        capacity: answers kept, the least recently used go first. 1000.
        key: what tells requests apart. None: their serialized bytes, for protobuf messages and bytes.
        settings: ``categories`` and ``codes``; see `Fallback`.

    Raises:
        ValueError: an age or capacity that is not positive.
    """
    if max_age <= 0 or capacity < 1:
        raise ValueError(f"max_age is {max_age!r} and capacity {capacity!r}; both must be positive")
    kept = _Answers(max_age, capacity, key or _bytes_of)
    return _made("last_good", kept.answer, settings, kept.learn)


def _made(name: str, answer: Callable[[Failed], Any], settings: dict[str, Any], learn: Any = None) -> Fallback:
    unknown = set(settings) - {"categories", "codes"}
    if unknown:
        raise TypeError(f"{', '.join(sorted(unknown))}: no setting of a fallback; there are categories and codes")
    codes = frozenset(settings.get("codes", ()))
    # To name codes alone is to leave the usual categories out.
    categories = frozenset(settings.get("categories", () if codes else OUTAGES))
    return Fallback(name=name, answer=answer, categories=categories, codes=codes, learn=learn)


def _bytes_of(request: Any) -> Hashable:
    return request if isinstance(request, bytes) else request.SerializeToString(deterministic=True)


class _Answers:
    def __init__(self, max_age: float, capacity: int, key: Callable[[Any], Hashable]) -> None:
        self._max_age = max_age
        self._capacity = capacity
        self._key = key
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, Hashable], tuple[float, Any]] = OrderedDict()

    def learn(self, method: str, request: Any, response: Any, now: float) -> None:
        key = method, self._key(request)
        with self._lock:
            self._kept[key] = now, response
            self._kept.move_to_end(key)
            while len(self._kept) > self._capacity:
                self._kept.popitem(last=False)

    def answer(self, failed: Failed) -> Any:
        with self._lock:
            at, response = self._kept.get((failed.method, self._key(failed.request)), (-1e18, UNANSWERED))
        return response if failed.now - at <= self._max_age else UNANSWERED

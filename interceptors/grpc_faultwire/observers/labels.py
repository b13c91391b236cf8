"""Values of labels that stay few, whatever comes: a value beyond the limit is replaced, and that is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet

from grpc_faultwire.errors import StatusError
from grpc_faultwire.observers import names
from grpc_faultwire.records import CODE_NAMES, CallInfo, Side

MAX_LENGTH = 256
"""Characters beyond which no value is kept."""

MAX_WORDS = 50
"""How many values all labels with a fixed vocabulary (decisions, states, results) may take together."""

OWN_REASONS = frozenset(
    {"METHOD_NOT_FOUND", "REQUEST_MALFORMED", "RESPONSE_UNSERIALIZABLE", "CIRCUIT_OPEN", "RETRY_BUDGET_EXHAUSTED"}
)
"""Reasons that this package gives itself."""


class Bounded:
    """The values that one label may take: those given, and the first others up to a limit.

    Args:
        label: its name.
        limit: how many others.
        overflowed: called with the label's name for each value that was replaced.
        given: values that are always taken; looked at each time.
    """

    __slots__ = ("_given", "_label", "_limit", "_overflowed", "_seen")

    def __init__(
        self, label: str, limit: int, overflowed: Callable[[str], None], given: AbstractSet[str] = frozenset()
    ) -> None:
        self._label = label
        self._limit = limit
        self._overflowed = overflowed
        self._given = given
        self._seen: dict[str, None] = {}

    def __call__(self, value: str) -> str:
        """Return the value, or what stands for those that are too many."""
        if value in self._seen or value in self._given:
            return value
        # Threads that race here let in one value too many each at most; a lock on every error would cost more.
        if len(self._seen) < self._limit and len(value) <= MAX_LENGTH:
            self._seen[value] = None
            return value
        self.overflow()
        return names.OTHER

    def overflow(self) -> None:
        """Count a value that was replaced."""
        self._overflowed(self._label)


class Labels:
    """The labels of one observer.

    Args:
        overflowed: called with a label's name for each value that was replaced.
        methods: full names, "shop.v1.Shop/GetBook", that are always taken.
        max_methods: how many others, on each side.
        reasons: reasons that are taken beside those of catalogues.
        max_reasons: how many declared reasons.
        max_exception_types: how many types of exceptions.
        max_breakers: how many breakers, and how many targets.
    """

    def __init__(
        self,
        overflowed: Callable[[str], None],
        *,
        methods: Iterable[str] = (),
        max_methods: int = 500,
        reasons: Iterable[str] = (),
        max_reasons: int = 500,
        max_exception_types: int = 64,
        max_breakers: int = 100,
    ) -> None:
        for name, limit in (
            ("max_methods", max_methods),
            ("max_reasons", max_reasons),
            ("max_exception_types", max_exception_types),
            ("max_breakers", max_breakers),
        ):
            if limit < 0:
                raise ValueError(f"{name} is {limit!r}; it must be 0 or more")
        self._declared = set(methods)
        self._reasons = frozenset(reasons) | OWN_REASONS
        self._methods = {side: Bounded("grpc_method", max_methods, overflowed, self._declared) for side in Side}
        self._reason = Bounded("reason", max_reasons, overflowed, self._reasons)
        self.exception_type = Bounded("exception_type", max_exception_types, overflowed)
        self.breaker = Bounded("breaker", max_breakers, overflowed)
        self.target = Bounded("target", max_breakers, overflowed)
        self.word = Bounded("word", MAX_WORDS, overflowed)

    def declare(self, methods: Iterable[str]) -> None:
        """Take these methods always."""
        self._declared.update(methods)

    def method(self, call: CallInfo) -> tuple[str, str]:
        """Return the service and the method of a call. A server's unknown methods are made up by whoever calls it."""
        bounded = self._methods[call.side]
        full = call.full_method
        if not call.known:
            bounded.overflow()
            return names.OTHER, names.OTHER
        return (call.service, call.method) if bounded(full) == full else (names.OTHER, names.OTHER)

    def reason(self, error: StatusError) -> str:
        """Return a declared reason, or the code's name where none was said."""
        reason = error.reason
        if reason in self._reasons or reason == CODE_NAMES[id(error._code)]:
            return reason
        if error.declaration is not None and error.declaration.reason == reason:
            return self._reason(reason)
        self._reason.overflow()
        return names.OTHER

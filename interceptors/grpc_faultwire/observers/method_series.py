"""The series of one method on one side, each resolved when it is first needed."""

from __future__ import annotations

from typing import Any

import grpc

from grpc_faultwire.category import Fault, meaning
from grpc_faultwire.errors import StatusError
from grpc_faultwire.observers import names
from grpc_faultwire.observers.labels import Labels
from grpc_faultwire.observers.series import Add, adding, observing
from grpc_faultwire.records import CODE_NAMES, OK, Kind, Side


class MethodSeries:
    """What `PrometheusObserver` counts a method's calls with: its token.

    Args:
        instruments: the metrics of the method's side, by name.
        labels: what the values of labels are bounded by.
        key: the side, the shape, and the labels of service and method.
        go: whether codes and types are spelled as go-grpc-middleware does.
    """

    __slots__ = (
        "_children",
        "_counters",
        "_endings",
        "_errors",
        "_exemplar_at",
        "_go",
        "_in_flight",
        "_instruments",
        "_labels",
        "_type",
        "attempts",
        "in_flight",
        "method",
        "received",
        "rejections",
        "seconds",
        "sent",
        "service",
        "side",
        "started",
        "succeeded",
    )

    def __init__(
        self, instruments: dict[str, Any], labels: Labels, key: tuple[Side, Kind, str, str], *, go: bool
    ) -> None:
        self.side, kind, self.service, self.method = key
        self._instruments = instruments
        self._labels = labels
        self._go = go
        self._type = kind.value if go else kind.name
        typed = self._type, self.service, self.method
        self._in_flight = instruments["in_flight"].labels(self.service, self.method)
        self.in_flight = adding(self._in_flight)
        self.started = adding(instruments["started"].labels(*typed), self._in_flight)
        self.seconds = instruments["seconds"].labels(*typed)
        self.received = adding(instruments["received"].labels(*typed))
        self.sent = adding(instruments["sent"].labels(*typed))
        self.attempts: dict[Any, Add] = {}
        self.rejections: dict[str, Add] = {}
        self._endings: dict[int, Add] = {}
        self._errors: dict[tuple[Any, ...], tuple[Any, Add]] = {}
        self._counters: dict[tuple[str, ...], Add] = {}
        self._exemplar_at = float("-inf")
        self._children: dict[tuple[str, ...], Any] = {}
        self.succeeded = self.ending(OK)

    def is_due(self, now: float) -> bool:
        """Tell whether the last exemplar is a second old.

        Args:
            now: seconds that never go back.
        """
        if now - self._exemplar_at < 1.0:
            return False
        self._exemplar_at = now
        return True

    def initialise(self) -> None:
        """Make the series of what may go wrong here, at 0: a rate does not see a series begin."""
        for code in grpc.StatusCode:
            means = meaning(code.value[0])
            if code is not OK and means.category.fault is Fault.SERVER:
                self.handled(code)
                self._error(code, means.category.name.lower(), "server", code.name, "raised")

    def handled(self, code: grpc.StatusCode) -> Any:
        """Return the counter of calls that ended with this code."""
        return self._instruments["handled"].labels(self._type, self.service, self.method, self._code(code))

    def ending(self, code: grpc.StatusCode) -> Add:
        """Return what takes the seconds of calls that ended with this code, and counts them."""
        found = self._endings.get(id(code))
        if found is None:
            found = observing(self.seconds, (self.handled(code), 1), (self._in_flight, -1))
            self._endings[id(code)] = found
        return found

    def error(self, error: StatusError) -> tuple[Any, Add]:
        """Return the counter of errors like this one, and what adds to it."""
        category, reason = error.category, self._labels.reason(error)
        # By identity: an enum's hash is a function in Python.
        key = id(error._code), id(category), reason, id(error.origin)
        found = self._errors.get(key)
        if found is None:
            words = category.word, category.fault.name.lower(), reason, error.origin.value
            series = self._error(error._code, *words)
            found = self._errors[key] = series, adding(series)
        return found

    def attempt(self, key: Any) -> Add:
        """Return what takes the seconds of attempts like one, and counts them.

        Args:
            key: "first", "retry" or "hedge" for one that ended with OK; a pair of that and the code's identity for
                another.
        """
        kind, code = (key[0], CODE_NAMES[key[1]]) if isinstance(key, tuple) else (key, "OK")
        count = self._instruments["attempts"].labels(self.service, self.method, self._spelled(code), kind)
        took = self.attempts[key] = observing(self.child("attempt_seconds"), (count, 1))
        return took

    def counter(self, key: str, *labels: str) -> Add:
        """Return what adds to a series of this method by the name of its metric and its further labels."""
        found = self._counters.get((key, *labels))
        if found is None:
            found = self._counters[(key, *labels)] = adding(self.child(key, *labels))
        return found

    def child(self, key: str, *labels: str) -> Any:
        """Return a series of this method by the name of its metric and its further labels."""
        found = self._children.get((key, *labels))
        if found is None:
            found = self._instruments[key].labels(self.service, self.method, *labels)
            self._children[(key, *labels)] = found
        return found

    def _error(self, code: grpc.StatusCode, *labels: str) -> Any:
        given = labels if self.side is Side.CLIENT else labels[:-1]
        return self._instruments["errors"].labels(self.service, self.method, self._code(code), *given)

    def _code(self, code: grpc.StatusCode) -> str:
        return self._spelled(CODE_NAMES[id(code)])

    def _spelled(self, code: str) -> str:
        return names.GO_CODES[code] if self._go else code

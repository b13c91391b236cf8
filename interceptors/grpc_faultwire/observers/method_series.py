"""The series of one method on one side, each resolved when it is first needed."""

from __future__ import annotations

from typing import Any

import grpc

from grpc_faultwire.category import Fault, meaning
from grpc_faultwire.errors import StatusError
from grpc_faultwire.observers import names
from grpc_faultwire.observers.labels import Labels
from grpc_faultwire.observers.series import Add, Step, adding, observing
from grpc_faultwire.records import CODE_NAMES, OK, Attempt, Judgement, Kind, Outcome, Side

MAX_JUDGEMENTS = 4
"""How many judgements of breakers are counted along with a method's usual calls. The rule is one breaker."""


class ErrorSeries:
    """A counter of errors.

    Attributes:
        add: adds to it.
        exemplar_at: when it was given an exemplar, in seconds that never go back.
        series: prometheus_client's.
    """

    __slots__ = ("add", "exemplar_at", "series")

    def __init__(self, series: Any) -> None:
        self.series = series
        self.add = adding(series)
        self.exemplar_at = float("-inf")


class MethodSeries:
    """What `PrometheusObserver` counts a method's calls with: its token.

    Args:
        instruments: the metrics of the method's side, by name.
        labels: what the values of labels are bounded by.
        key: the side, the shape, and the labels of service and method.
        go: whether codes and types are spelled as go-grpc-middleware does.

    Attributes:
        attempts: how many a usual call has: none on servers.
        exemplar_at: when its series were given an exemplar, in seconds that never go back.
        usual: what counts calls that ended with OK at once, by what a breaker made of them.
    """

    __slots__ = (
        "_answer",
        "_attempts",
        "_children",
        "_counters",
        "_endings",
        "_errors",
        "_go",
        "_in_flight",
        "_instruments",
        "_kind",
        "_labels",
        "_type",
        "attempts",
        "exemplar_at",
        "in_flight",
        "method",
        "received",
        "rejections",
        "seconds",
        "sent",
        "service",
        "side",
        "started",
        "usual",
    )

    def __init__(
        self, instruments: dict[str, Any], labels: Labels, key: tuple[Side, Kind, str, str], *, go: bool
    ) -> None:
        self.side, self._kind, self.service, self.method = key
        self._instruments = instruments
        self._labels = labels
        self._go = go
        self._type = self._kind.value if go else self._kind.name
        typed = self._type, self.service, self.method
        self._in_flight = instruments["in_flight"].labels(self.service, self.method)
        self.in_flight = adding(self._in_flight)
        self.seconds = instruments["seconds"].labels(*typed)
        requests, responses = instruments["received"].labels(*typed), instruments["sent"].labels(*typed)
        self.received, self.sent = adding(requests), adding(responses)
        if self.side is Side.CLIENT:
            requests, responses = responses, requests
        # The one message of a side that streams none is counted with the call's begin, or its end with OK.
        first = () if self._kind.request_streaming else (requests,)
        self.started = adding(instruments["started"].labels(*typed), self._in_flight, *first)
        self._answer: tuple[Step, ...] = () if self._kind.response_streaming else ((responses, 1),)
        self.attempts = 1 if self.side is Side.CLIENT else 0  # of a usual call
        self.usual: dict[Judgement | None, Add] = {}
        self._attempts: dict[tuple[str, int], Add] = {}
        self.rejections: dict[str, Add] = {}
        self._endings: dict[tuple[int, bool], Add] = {}
        self._errors: dict[tuple[Any, ...], ErrorSeries] = {}
        self._counters: dict[tuple[str, ...], Add] = {}
        self.exemplar_at = float("-inf")
        self._children: dict[tuple[str, ...], Any] = {}
        self.handled(OK)

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

    def usually(self, judged: Judgement | None, *more: Step) -> Add:
        """Return what takes the seconds of calls that ended with OK at once, and counts all that goes with it.

        Args:
            judged: what a breaker made of their attempts.
            more: what else one of them is counted in.
        """
        histograms, steps = [self.seconds], [(self.handled(OK), 1), (self._in_flight, -1), *self._answer, *more]
        if self.attempts:
            histograms.append(self.child("attempt_seconds"))
            steps.append((self._attempts_of("first", OK), 1))
        add = self.usual[judged] = observing(histograms, steps)
        return add

    def ended(self, outcome: Outcome, exemplar: dict[str, str], *, answered: bool) -> None:
        """Count a call that ended, with an exemplar; the rest is as with `ending`."""
        self.in_flight(-1)
        self.handled(outcome.code).inc(1, exemplar)
        self.seconds.observe(outcome.seconds, exemplar)
        if answered:
            for series, amount in self._answer:
                series.inc(amount)

    def ending(self, code: grpc.StatusCode, *, answered: bool) -> Add:
        """Return what takes the seconds of calls that ended with this code, and counts them.

        Args:
            code: the status.
            answered: whether the one response of a method that streams none was sent, or received.
        """
        found = self._endings.get((id(code), answered))
        if found is None:
            steps = [(self.handled(code), 1), (self._in_flight, -1), *(self._answer if answered else ())]
            found = self._endings[id(code), answered] = observing([self.seconds], steps)
        return found

    def error(self, error: StatusError) -> ErrorSeries:
        """Return the counter of errors like this one."""
        category, reason = error.category, self._labels.reason(error)
        # By identity: an enum's hash is a function in Python.
        key = id(error._code), id(category), reason, id(error.origin)
        found = self._errors.get(key)
        if found is None:
            words = category.word, category.fault.name.lower(), reason, error.origin.value
            found = self._errors[key] = ErrorSeries(self._error(error._code, *words))
        return found

    def attempt(self, attempt: Attempt) -> None:
        """Count an attempt."""
        kind = "first" if attempt.number == 1 else "hedge" if attempt.hedge else "retry"
        code = OK if attempt.error is None else attempt.error._code
        took = self._attempts.get((kind, id(code)))
        if took is None:
            took = observing([self.child("attempt_seconds")], [(self._attempts_of(kind, code), 1)])
            self._attempts[kind, id(code)] = took
        took(max((attempt.ended or attempt.started) - attempt.started, 0.0))

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

    def _attempts_of(self, kind: str, code: grpc.StatusCode) -> Any:
        return self._instruments["attempts"].labels(self.service, self.method, self._code(code), kind)

    def _error(self, code: grpc.StatusCode, *labels: str) -> Any:
        given = labels if self.side is Side.CLIENT else labels[:-1]
        return self._instruments["errors"].labels(self.service, self.method, self._code(code), *given)

    def _code(self, code: grpc.StatusCode) -> str:
        name = CODE_NAMES[id(code)]
        return names.GO_CODES[name] if self._go else name

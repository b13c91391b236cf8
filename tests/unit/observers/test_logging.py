"""The log: one line for each error, with its id; stacks and texts that repeat are left out, and counted."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from grpc_faultwire import Internal, NotFound, Severity, StatusError, Unavailable
from grpc_faultwire.errors import Origin
from grpc_faultwire.observers import LoggingObserver, names
from grpc_faultwire.records import OK, CallInfo, Event, Kind, Outcome, Side
from grpc_faultwire.testing import FakeClock

CALL = CallInfo(service="shop.v1.Shop", method="GetBook", kind=Kind.UNARY, side=Side.SERVER)
CLIENT = CallInfo(service="shop.v1.Shop", method="GetBook", kind=Kind.UNARY, side=Side.CLIENT)


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def fields(self, name: str) -> list[Any]:
        return [getattr(record, names.LOG_PREFIX + name, None) for record in self.records]


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler = Lines()
    logger = logging.getLogger("test.telemetry")
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def observer(clock: FakeClock | None = None, **settings: Any) -> LoggingObserver:
    return LoggingObserver(logging.getLogger("test.telemetry"), clock=clock or FakeClock(), **settings)


def outcome(error: StatusError | None, exception: BaseException | None = None, **more: Any) -> Outcome:
    code = OK if error is None else error.code()
    return Outcome(code=code, error=error, seconds=0.25, how="done", exception=exception, **more)


def boom(text: str = "boom") -> BaseException:
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


def unreachable() -> StatusError:
    error = Unavailable("no route")
    error.origin = Origin.UNKNOWN
    return error


def test_ok_is_no_line(lines: Lines) -> None:
    """A call that succeeds is not logged."""
    observer().on_end(CALL, outcome(None))
    assert not lines.records


def test_fields(lines: Lines) -> None:
    """A line and its record have the declared fields, and no others."""
    error = NotFound("No book.", reason="NO_BOOK")
    observer().on_end(CALL, outcome(error))
    [record] = lines.records
    assert record.levelno == logging.INFO
    found = {name.removeprefix(names.LOG_PREFIX) for name in vars(record) if name.startswith(names.LOG_PREFIX)}
    assert found <= {field.name for field in names.LOG_FIELDS}
    line = record.getMessage()
    assert f"error_id={error.error_id}" in line
    assert 'message="No book."' in line
    assert "method=shop.v1.Shop/GetBook code=NOT_FOUND category=NOT_FOUND reason=NO_BOOK" in line


def test_every_id_has_its_line(lines: Lines) -> None:
    """Of a hundred equal errors every id is found; the stack is there 9 times, and the rest is counted."""
    watching = observer()
    errors = [Internal("Internal error.") for _ in range(100)]
    exception = boom()
    for error in errors:
        watching.on_end(CALL, outcome(error, exception))
    assert lines.fields("error_id") == [error.error_id for error in errors]
    shown = [number for number, stack in enumerate(lines.fields("stack"), 1) if stack]
    assert shown == [1, 2, 3, 4, 5, 8, 16, 32, 64]
    watching.flush()
    assert sum(count or 0 for count in lines.fields("suppressed")) + len(shown) == 100
    assert lines.fields("event")[-1] == "suppressed"


def test_other_text_is_shown(lines: Lines) -> None:
    """A text that differs from the last one is there, even where its stack is left out."""
    watching = observer()
    for number in range(7):
        watching.on_end(CALL, outcome(Internal(), boom(f"order {number}")))
    assert lines.fields("exception") == [f"ValueError: order {number}" for number in range(7)]
    assert not lines.fields("stack")[6]


def test_lines_without_an_id_are_suppressed(lines: Lines) -> None:
    """A caller that cannot reach its server does not fill the log; a minute later one line says how often."""
    clock = FakeClock()
    watching = observer(clock)
    for _ in range(7):
        watching.on_end(CLIENT, outcome(unreachable()))
    assert len(lines.records) == 5
    clock.advance(61)
    watching.on_end(CLIENT, outcome(unreachable()))
    assert lines.fields("suppressed")[-1] == 2


def test_a_flood_that_ends_is_counted(lines: Lines) -> None:
    """What was suppressed of an error that does not come again is told when another one comes."""
    clock = FakeClock()
    watching = observer(clock)
    for _ in range(7):
        watching.on_end(CLIENT, outcome(unreachable()))
    clock.advance(61)
    watching.on_end(CLIENT, outcome(NotFound("x")))
    assert lines.fields("suppressed")[-1] == 2
    assert lines.fields("event")[-1] == "suppressed"


def test_repeats_may_be_wanted(lines: Lines) -> None:
    """With repeats=None every line is in full."""
    watching = observer(repeats=None)
    for _ in range(10):
        watching.on_end(CALL, outcome(Internal(), boom()))
    assert all(lines.fields("stack"))


def test_texts_are_redacted_and_escaped(lines: Lines) -> None:
    """No secret and no line break of an exception's text reaches the log."""
    observer().on_end(CALL, outcome(Internal(), boom("password=hunter2\nFAKE line")))
    assert "hunter2" not in lines.records[0].getMessage()
    assert "\n" not in lines.records[0].getMessage()


def test_text_and_stack_only_at_error(lines: Lines) -> None:
    """An exception behind an error of less severity is not shown."""
    observer().on_end(CALL, outcome(NotFound("x"), boom()))
    assert lines.fields("exception") == [None]


def test_recovered(lines: Lines) -> None:
    """An error in whose place an answer was given is logged as such."""
    observer().on_end(CALL, outcome(None, recovered=Internal("x")))
    assert lines.fields("event") == ["recovered"]


def test_trace_ids(lines: Lines) -> None:
    """Where a span is current, a line has its ids."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    with tracer.start_as_current_span("outer") as span:
        observer().on_end(CALL, outcome(NotFound("x")))
    where = span.get_span_context()
    assert lines.fields("trace_id") == [trace.format_trace_id(where.trace_id)]
    assert lines.fields("span_id") == [trace.format_span_id(where.span_id)]


def test_levels_that_are_off_cost_nothing(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is made of an error whose level is off."""
    logging.getLogger("test.telemetry").setLevel(logging.ERROR)
    monkeypatch.setattr(LoggingObserver, "_fields", lambda *_: pytest.fail("made"))
    observer().on_end(CALL, outcome(NotFound("x")))
    assert not lines.records


def test_codes_cover_grpc() -> None:
    """Go's spelling is known of every code that grpc has."""
    assert {code.name for code in grpc.StatusCode} == set(names.GO_CODES)


def test_batches_that_fail_alike_are_logged_as_errors_are(lines: Lines) -> None:
    """At the highest severity of their items; the first five, then fewer, with the number of those left out."""
    observer = LoggingObserver(logging.getLogger("test.telemetry"), clock=FakeClock())

    def end(partial: bool = True, **failures: int) -> None:
        told = {"items": 9, "failed": 3, "categories": "…", "severity": Severity.WARNING, "partial": partial}
        observer.on_event(CALL, Event(name=names.BATCH.name, attributes=told | {"failures": failures}))

    end()
    end(partial=False, conflict=3)
    assert lines.records == []
    for _ in range(8):
        end(conflict=3)
    assert [record.levelno for record in lines.records] == [logging.WARNING] * 6
    assert lines.fields("suppressed") == [None] * 5 + [2]
    end(not_found=3)
    assert lines.fields("fingerprint")[-1] == "shop.v1.Shop/GetBook,not_found"

"""What is current: changed for a while, and given back, wherever that is asked for."""

from __future__ import annotations

import contextvars
import logging
from typing import Any

import pytest
from opentelemetry import context as api
from opentelemetry import trace

from grpc_faultwire.observers import OpenTelemetryObserver, contexts

SPAN = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False))


def attached(context: api.Context) -> contexts.Attached:
    made = contexts.Attached()
    made.context = context
    return made


def test_attached_is_what_the_api_calls_current() -> None:
    """What is attached here is current there, for as long as it is entered."""
    before = api.get_current()
    context = api.Context({contexts.SPAN: SPAN})
    with attached(context):
        assert api.get_current() is context is contexts.current()
        assert trace.get_current_span() is SPAN
    assert api.get_current() is before is contexts.current()


def test_intercepting_keeps_what_is_current() -> None:
    """Other instrumentation is told to keep out; nothing else is changed."""
    with OpenTelemetryObserver().intercepting():
        assert api.get_current() == {contexts.SUPPRESSED: True}
    with attached(trace.set_span_in_context(SPAN)):
        with OpenTelemetryObserver().intercepting():
            assert api.get_value(contexts.SUPPRESSED)
            assert trace.get_current_span() is SPAN
        assert not api.get_value(contexts.SUPPRESSED)


def test_leaving_elsewhere_raises_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged as the API logs it."""
    entered = attached(api.Context({contexts.SPAN: SPAN}))
    entered.__enter__()
    with caplog.at_level(logging.ERROR):
        contextvars.Context().run(entered.__exit__, None, None, None)
    entered.__exit__(None, None, None)
    assert [record.getMessage() for record in caplog.records] == ["Failed to detach context"]


def test_other_runtimes_are_asked_through_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """What attaches in a way of its own is not passed by."""

    class Own(type(api._RUNTIME_CONTEXT)):  # type: ignore[misc]  # whatever its type is
        pass

    assert contexts._functions() != (api.get_current, api.attach, api.detach)
    for runtime in (Own(), Any, None):
        monkeypatch.setattr(api, "_RUNTIME_CONTEXT", runtime)
        assert contexts._functions() == (api.get_current, api.attach, api.detach)

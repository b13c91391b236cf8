"""The same scenario on a bare and on a wrapped channel: what can be observed is the same, but for decoded errors."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc import experimental
from sync_lab import Lab, Ledger, Twice, path

from grpc_faultwire.errors import StatusError
from grpc_faultwire.sync import wrap_channel

pytest_plugins = ["sync_lab"]

SINGLE = (experimental.ChannelOptions.SingleThreadedUnaryStream, 1)


def pause(requests: list[bytes], seconds: float) -> Iterator[bytes]:
    """Yield requests, the ones after the first a little later."""
    for number, request in enumerate(requests):
        if number:
            time.sleep(seconds)
        yield request


def raising(request: bytes) -> Iterator[bytes]:
    """Yield one request, then fail, once there was time to answer the first."""
    yield request
    time.sleep(0.2)
    raise LookupError("no more")


class Style:
    """A way to make a call: a shape, and what stubs offer for it."""

    def __init__(self, shape: str, how: str = "", *options: Any) -> None:
        self.shape = shape
        self.how = how
        self.options = options
        self.name = "-".join(filter(None, [shape, how, "single" if options else ""]))
        self.streams_requests = shape.startswith("Stream")
        self.streams_responses = shape.endswith("Stream")
        self.held = self.streams_responses or how == "future"

    def method(self, channel: grpc.Channel, serializer: Any = None, deserializer: Any = None, name: str = "") -> Any:
        kind = {
            "UnaryUnary": channel.unary_unary,
            "UnaryStream": channel.unary_stream,
            "StreamUnary": channel.stream_unary,
            "StreamStream": channel.stream_stream,
        }[self.shape]
        return kind(path(name or self.shape), serializer, deserializer)

    def call(self, method: Any, request: Any, **options: Any) -> Any:
        if self.streams_requests and isinstance(request, bytes):
            request = iter([request, b"more"])
        return getattr(method, self.how or "__call__")(request, **options)


STYLES = [
    Style("UnaryUnary"),
    Style("UnaryUnary", "with_call"),
    Style("UnaryUnary", "future"),
    Style("UnaryStream"),
    Style("UnaryStream", "", SINGLE),
    Style("StreamUnary"),
    Style("StreamUnary", "with_call"),
    Style("StreamUnary", "future"),
    Style("StreamStream"),
]
HELD = [style for style in STYLES if style.held]
MULTI = [style for style in HELD if not style.options]
STREAMS = [style for style in HELD if style.streams_responses]


def show(value: Any) -> Any:
    """Describe what a call gave, so that grpc's errors and ours are alike."""
    if isinstance(value, grpc.RpcError) and isinstance(value, grpc.Call):
        if isinstance(value, StatusError):
            assert isinstance(value.__cause__, grpc.RpcError)
        # Core has two sentences for a deadline, and it is up to chance which one comes.
        details = None if value.code() is grpc.StatusCode.DEADLINE_EXCEEDED else value.details()
        return ("error", value.code(), details, show(value.initial_metadata()), show(value.trailing_metadata()))
    if isinstance(value, Exception):
        return (type(value).__name__, str(value) if not isinstance(value, grpc.experimental.UsageError) else "")
    if isinstance(value, tuple):
        return tuple(show(one) for one in value)
    if isinstance(value, bytes) and len(value) > 100:
        return len(value)
    return value


def attempt(function: Callable[[], Any]) -> Any:
    """Return what a function returns or raises."""
    try:
        return show(function())
    except Exception as error:
        return ("raised", show(error))


def look(call: Any) -> list[Any]:
    """Look at a call that has ended, from all sides but the debug string, which may never come."""
    return [
        isinstance(call, grpc.Call) and isinstance(call, grpc.Future) and isinstance(call, grpc.RpcError),
        attempt(call.code),
        None if attempt(call.code) is grpc.StatusCode.DEADLINE_EXCEEDED else attempt(call.details),
        attempt(call.initial_metadata),
        attempt(call.trailing_metadata),
        attempt(lambda: call.result(timeout=2)),
        attempt(lambda: call.exception(timeout=2)),
        attempt(lambda: call.traceback(timeout=2) is not None),
        call.cancelled(),
        call.done(),
        call.running(),
        call.is_active(),
        call.cancel(),
        call.time_remaining() is None,
    ]


def drain(call: Any) -> list[Any]:
    """Read a stream to its end, and once more."""
    seen = []
    for _ in range(6):
        seen.append(attempt(lambda: next(call)))
        if isinstance(seen[-1], tuple) and seen[-1][0] == "raised":
            break
    return [*seen, attempt(lambda: next(call))]


def observe(style: Style, call: Any) -> list[Any]:
    """Wait for a call as its style does, and look at it."""
    if style.streams_responses:
        return [drain(call), look(call)]
    if style.how == "future":
        return [attempt(lambda: call.result(timeout=5)), look(call)]
    if style.how == "with_call":
        response, rendezvous = call
        return [show(response), look(rendezvous)]
    return [show(call)]


# Every command of the lab, in every style.

COMMANDS = ["ok", "metadata", "error", "rich", "late", "partway", "raise", "none", "big", "empty"]


class Run:
    """One scenario on one channel."""

    def __init__(self, channel: grpc.Channel, lab: Lab) -> None:
        self.channel = channel
        self.lab = lab


Scenario = Callable[[Style, Run], list[Any]]


def commanded(command: str) -> Scenario:
    def scenario(style: Style, run: Run) -> list[Any]:
        def call() -> Any:
            return observe(style, style.call(style.method(run.channel), command.encode(), timeout=5))

        return [attempt_list(call)]

    return scenario


def attempt_list(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except Exception as error:
        return ("raised", show(error))


def calling(
    request: Any = b"ok", *, serializer: Any = None, deserializer: Any = None, name: str = "", **options: Any
) -> Scenario:
    def scenario(style: Style, run: Run) -> list[Any]:
        method = style.method(run.channel, serializer, deserializer, name)
        given = request() if callable(request) and style.streams_requests else b"ok" if callable(request) else request
        return [attempt_list(lambda: observe(style, style.call(method, given, **options)))]

    return scenario


def fail(_: Any) -> Any:
    raise LookupError("serializer")


def with_credentials(style: Style, run: Run) -> list[Any]:
    credentials = grpc.access_token_call_credentials("token")
    return calling(credentials=credentials)(style, run)


def on_closed_channel(style: Style, run: Run) -> list[Any]:
    method = style.method(run.channel)
    run.channel.close()
    return [attempt_list(lambda: observe(style, style.call(method, b"ok")))]


CALLS: dict[str, Scenario] = {
    **{command: commanded(command) for command in COMMANDS},
    "deadline": calling(b"slow", timeout=0.15),
    "negative-timeout": calling(timeout=-1),
    "timeout-no-number": calling(timeout="soon"),
    "wait-for-ready": calling(wait_for_ready=True, timeout=5),
    "metadata-sent": calling(metadata=(("a", "1"), ("a", "2"), ("b-bin", b"\x00"))),
    "metadata-as-list": calling(metadata=[("a", "1")]),
    "metadata-empty": calling(metadata=()),
    "metadata-invalid-key": calling(metadata=(("A b", "1"),)),
    "metadata-invalid-value": calling(metadata=(("a", "\x01"),)),
    "compressed": calling(b"ok:" + b"x" * 2000, compression=grpc.Compression.Gzip),
    "credentials-on-insecure": with_credentials,
    "unimplemented": calling(name="Nowhere"),
    "serializer-fails": calling(serializer=fail),
    "serializer-none": calling(serializer=lambda _: None),
    "deserializer-fails": calling(deserializer=fail),
    "deserializer-none": calling(deserializer=lambda _: None),
    "closed-channel": on_closed_channel,
}
STREAMED: dict[str, Scenario] = {
    "no-requests": calling(lambda: iter([])),
    "requests-fail": calling(lambda: raising(b"echo")),
    "requests-no-iterator": calling(lambda: [b"ok"]),
    "requests-generator": calling(lambda: pause([b"echo", b"1", b"2"], 0.01)),
}


# Calls that are held: what can be done to one, and when.


def cancel_at_once(style: Style, run: Run) -> list[Any]:
    call = style.call(style.method(run.channel), b"slow")
    return [call.cancel(), call.cancel(), *(drain(call) if style.streams_responses else []), look(call)]


def cancel_while_waiting(style: Style, run: Run) -> list[Any]:
    call = style.call(style.method(run.channel), b"slow")
    run.lab.reached()
    threading.Timer(0.05, call.cancel).start()
    waited = attempt(lambda: next(call)) if style.streams_responses else attempt(lambda: call.result(timeout=5))
    return [waited, look(call)]


def cancel_when_done(style: Style, run: Run) -> list[Any]:
    call = style.call(style.method(run.channel), b"ok")
    seen = observe(style, call)
    return [seen, call.cancel(), call.cancelled(), attempt(call.code)]


def state_before(style: Style, run: Run) -> list[Any]:
    call = style.call(style.method(run.channel), b"slow", timeout=5)
    run.lab.reached()
    seen = [call.done(), call.running(), call.is_active(), call.cancelled(), 4 < call.time_remaining() <= 5]
    seen += [iter(call) is call, type(repr(call)), type(str(call))]
    call.cancel()
    return [*seen, call.time_remaining() > 4]


def result_times_out(style: Style, run: Run) -> list[Any]:
    call = style.call(style.method(run.channel), b"slow")
    run.lab.reached()
    seen = [attempt(lambda: call.result(timeout=0.02)), attempt(lambda: call.exception(timeout=0.02))]
    seen.append(attempt(lambda: call.traceback(timeout=0)))
    call.cancel()
    return seen


def callbacks_in_order(style: Style, run: Run) -> list[Any]:
    order: list[Any] = []
    call = style.call(style.method(run.channel), b"slow", timeout=0.2)
    called = threading.Event()
    call.add_done_callback(lambda c: order.append(("first", c is call, c.done())))
    seen = [call.add_callback(lambda: order.append("second"))]
    call.add_done_callback(lambda c: (order.append(("third", attempt(c.code))), called.set()))
    waited = attempt(lambda: list(call)) if style.streams_responses else attempt(call.result)
    called.wait(2)
    call.add_done_callback(lambda c: order.append(("late", c is call)))
    return [*seen, waited, order, call.add_callback(lambda: None)]


def callback_that_raises(style: Style, run: Run) -> list[Any]:
    called = threading.Event()

    def fail(call: Any) -> None:
        raise LookupError("callback")

    call = style.call(style.method(run.channel), b"slow", timeout=0.2)
    call.add_done_callback(fail)
    call.add_done_callback(lambda c: called.set())
    first = attempt(lambda: list(call)) if style.streams_responses else attempt(call.result)
    other = style.call(style.method(run.channel), b"ok")
    again = attempt(lambda: list(other)) if style.streams_responses else attempt(other.result)
    return [first, called.wait(2), again]


def callbacks_after_cancel(style: Style, run: Run) -> list[Any]:
    called = threading.Event()
    call = style.call(style.method(run.channel), b"slow")
    call.add_done_callback(lambda c: called.set())
    run.lab.reached()
    call.cancel()
    return [called.wait(2 if not style.options else 0.1), look(call)]


def metadata_first(style: Style, run: Run) -> list[Any]:
    call = style.call(style.method(run.channel), b"metadata")
    return [attempt(call.initial_metadata), observe(style, call)]


def metadata_of_an_error(style: Style, run: Run) -> list[Any]:
    call = style.call(style.method(run.channel), b"late")
    return [attempt(call.initial_metadata), observe(style, call)]


def code_first(style: Style, run: Run) -> list[Any]:
    call = style.call(style.method(run.channel), b"error")
    return [attempt(call.code), attempt(call.details), attempt(call.trailing_metadata), observe(style, call)]


def close_channel(style: Style, run: Run) -> list[Any]:
    call = style.call(style.method(run.channel), b"slow")
    run.lab.reached()
    threading.Timer(0.05, run.channel.close).start()
    waited = attempt(lambda: next(call)) if style.streams_responses else attempt(lambda: call.result(timeout=5))
    return [waited, look(call)]


def drop(style: Style, run: Run) -> list[Any]:
    call = style.call(style.method(run.channel), b"slow")
    started = run.lab.reached()
    del call
    with run.lab.changed:
        return [started, run.lab.changed.wait_for(lambda: run.lab.active == 0, 2)]


def drop_with_callback(style: Style, run: Run) -> list[Any]:
    called = threading.Event()
    call = style.call(style.method(run.channel), b"ok")
    call.add_done_callback(lambda c: called.set())
    del call
    return [called.wait(2 if not style.streams_responses else 0.1)]


HELD_CALLS: dict[str, Scenario] = {
    "cancel-at-once": cancel_at_once,
    "cancel-while-waiting": cancel_while_waiting,
    "cancel-when-done": cancel_when_done,
    "state-before": state_before,
    "callbacks-after-cancel": callbacks_after_cancel,
    "metadata-first": metadata_first,
    "metadata-of-an-error": metadata_of_an_error,
    "close-channel": close_channel,
    "drop": drop,
}
MULTI_CALLS: dict[str, Scenario] = {
    "result-times-out": result_times_out,
    "callbacks-in-order": callbacks_in_order,
    "callback-that-raises": callback_that_raises,
    "code-first": code_first,
    "drop-with-callback": drop_with_callback,
}


def trickle_then_cancel(style: Style, run: Run) -> list[Any]:
    call = style.call(style.method(run.channel), b"trickle")
    return [attempt(lambda: next(call)), call.cancel(), drain(call), look(call)]


def trickle_then_deadline(style: Style, run: Run) -> list[Any]:
    call = style.call(style.method(run.channel), b"trickle", timeout=0.4)
    return [drain(call), look(call)]


def trickle_then_drop(style: Style, run: Run) -> list[Any]:
    for response in style.call(style.method(run.channel), b"trickle"):
        first = response
        break
    with run.lab.changed:
        return [first, run.lab.changed.wait_for(lambda: run.lab.active == 0, 2)]


def getters_too_early(style: Style, run: Run) -> list[Any]:
    call = style.call(style.method(run.channel), b"slow")
    run.lab.reached()
    seen = [attempt(one) for one in (call.code, call.details, call.trailing_metadata, call.result, call.exception)]
    seen += [attempt(call.debug_error_string), attempt(call.traceback)]
    call.cancel()
    return seen


STREAM_CALLS: dict[str, Scenario] = {
    "trickle-then-cancel": trickle_then_cancel,
    "trickle-then-deadline": trickle_then_deadline,
    "trickle-then-drop": trickle_then_drop,
}


def next_named(style: Style, run: Run) -> list[Any]:
    call = style.call(style.method(run.channel), b"ok")
    return [call.next(), call.next(), call.next(), attempt(call.next), look(call)]


def ping_pong(style: Style, run: Run) -> list[Any]:
    more, seen = threading.Semaphore(0), []

    def requests() -> Iterator[bytes]:
        yield b"echo"
        for number in range(3):
            more.acquire()
            yield b"%d" % number

    call = style.call(style.method(run.channel), requests())
    for response in call:
        seen.append(response)
        more.release()
    return [seen, look(call)]


def all_scenarios() -> Iterator[Any]:
    for table, styles in (
        (CALLS, STYLES),
        (STREAMED, [style for style in STYLES if style.streams_requests]),
        (HELD_CALLS, HELD),
        (MULTI_CALLS, MULTI),
        (STREAM_CALLS, STREAMS),
        ({"getters-too-early": getters_too_early}, [style for style in HELD if style.options]),
        ({"next-named": next_named}, STREAMS),
        ({"ping-pong": ping_pong}, [style for style in STYLES if style.shape == "StreamStream"]),
    ):
        for name, scenario in table.items():
            for style in styles:
                yield pytest.param(style, scenario, id=f"{style.name}-{name}")


RACES = ("deadline", "negative-timeout", "serializer", "requests-fail", "requests-no-iterator", "cancel-at-once")
"""Scenarios in which it is up to chance what the server sees before the call is over."""

SCENARIOS = list(all_scenarios())
RUNS = itertools.count()


def play(
    style: Style, scenario: Scenario, address: str, lab: Lab, wrap: Callable[[Any], grpc.Channel] | None = None
) -> list[Any]:
    """Run a scenario, and return what its caller and its server saw."""
    # A call of a scenario before, cancelled on its way, may arrive only now.
    lab.agent = f"run-{next(RUNS)}-"
    bare = grpc.insecure_channel(address, options=[*style.options, ("grpc.primary_user_agent", lab.agent)])
    with bare if wrap is None else wrap(bare) as channel:
        seen = scenario(style, Run(channel, lab))
        served = lab.quiet()
        # A call that was cancelled at once may reach its server yet; one that follows it does so later.
        with contextlib.suppress(ValueError):
            channel.unary_unary(path("UnaryUnary"))(b"ok", timeout=5)
        lab.quiet()
    for one in served:
        one["metadata"] = sorted((key, value) for key, value in one["metadata"] if not key.startswith("grpc-"))
    return [seen, served]


def test_there_are_enough_scenarios() -> None:
    """The suite covers at least 80 scenarios; here it is more than three times as many."""
    assert len(SCENARIOS) > 250


@pytest.mark.parametrize(("style", "scenario"), SCENARIOS)
def test_a_wrapped_channel_behaves_as_a_bare_one(
    style: Style,
    scenario: Scenario,
    lab: Lab,
    address: str,
    ledger: Ledger,
    caplog: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
) -> None:
    """Results, exceptions, metadata, callbacks, states, what the server saw: no difference; and each call ends once."""
    caplog.set_level(logging.CRITICAL)
    bare = play(style, scenario, address, lab)
    wrapped = play(style, scenario, address, lab, lambda channel: wrap_channel(channel, observers=[ledger]))
    if any(race in request.node.name for race in RACES):
        bare, wrapped = bare[:1], wrapped[:1]
    assert wrapped == bare
    ledger.outcomes()


@pytest.mark.parametrize(("style", "scenario"), SCENARIOS)
@pytest.mark.slow
def test_a_channel_with_a_policy_behaves_as_a_bare_one(
    style: Style,
    scenario: Scenario,
    lab: Lab,
    address: str,
    ledger: Ledger,
    caplog: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
) -> None:
    """A policy that finds nothing to retry changes nothing either."""
    caplog.set_level(logging.CRITICAL)
    policy = Twice(attempts=1)
    bare = play(style, scenario, address, lab)
    wrapped = play(style, scenario, address, lab, lambda channel: wrap_channel(channel, policy, observers=[ledger]))
    if any(race in request.node.name for race in RACES):
        bare, wrapped = bare[:1], wrapped[:1]
    assert wrapped == bare
    ledger.outcomes()

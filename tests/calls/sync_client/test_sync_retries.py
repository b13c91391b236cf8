"""Another attempt takes the place of the first, in every shape; with a policy made for tests."""

from __future__ import annotations

import contextvars
import gc
import itertools
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc import experimental
from sync_lab import Lab, Ledger, Twice, path, settle_garbage

from grpc_faultwire.errors import Cancelled, StatusError, Unavailable
from grpc_faultwire.flow import ATTEMPTS_KEY
from grpc_faultwire.records import Event

pytest_plugins = ["sync_lab"]

SINGLE = [(experimental.ChannelOptions.SingleThreadedUnaryStream, 1)]
keys = (str(number) for number in itertools.count())

Make = Callable[..., Any]


def unary(channel: grpc.Channel, request: bytes, **options: Any) -> list[Any]:
    return [channel.unary_unary(path("UnaryUnary"))(request, **options)]


def with_call(channel: grpc.Channel, request: bytes, **options: Any) -> list[Any]:
    return [channel.unary_unary(path("UnaryUnary")).with_call(request, **options)[0]]


def future(channel: grpc.Channel, request: bytes, **options: Any) -> list[Any]:
    return [channel.unary_unary(path("UnaryUnary")).future(request, **options).result(timeout=5)]


def responses(channel: grpc.Channel, request: bytes, **options: Any) -> list[Any]:
    return list(channel.unary_stream(path("UnaryStream"))(request, **options))


def requests(channel: grpc.Channel, request: bytes, **options: Any) -> list[Any]:
    return [channel.stream_unary(path("StreamUnary"))(iter([request, b"2", b"3"]), **options)]


def requests_future(channel: grpc.Channel, request: bytes, **options: Any) -> list[Any]:
    call = channel.stream_unary(path("StreamUnary")).future(iter([request, b"2", b"3"]), **options)
    return [call.result(timeout=5)]


def both(channel: grpc.Channel, request: bytes, **options: Any) -> list[Any]:
    return list(channel.stream_stream(path("StreamStream"))(iter([request, b"2", b"3"]), **options))


def metadata_first(channel: grpc.Channel, request: bytes, **options: Any) -> list[Any]:
    call = channel.unary_stream(path("UnaryStream"))(request, **options)
    assert call.initial_metadata() == ()
    return list(call)


STYLES = [unary, with_call, future, responses, requests, requests_future, both, metadata_first]


def flaky() -> dict[str, Any]:
    return {"metadata": [("key", next(keys))]}


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.__name__)
def test_a_call_succeeds_at_the_third_attempt(style: Any, wrapped: Make, lab: Lab, ledger: Ledger) -> None:
    """The caller sees the answer alone; every attempt has all its requests, and says how many went before."""
    answer = style(wrapped(Twice()), b"flaky", **flaky())
    served = lab.quiet()
    whole = [b"flaky", b"2", b"3"] if style in (requests, requests_future, both) else [b"flaky"]
    assert answer == ([b"0", b"1", b"2"] if style in (responses, both, metadata_first) else [b"|".join(whole)])
    assert served[-1]["requests"] == whole
    assert [dict(one["metadata"]).get(ATTEMPTS_KEY) for one in served] == [None, "1", "2"]
    (outcome,) = ledger.outcomes()
    assert [attempt.delay for attempt in outcome.attempts] == [0.01, 0.01, None]
    assert ledger.attempts == [(1, "UNAVAILABLE"), (2, "UNAVAILABLE"), (3, "OK")]


@pytest.mark.parametrize("style", STYLES[:-1], ids=lambda style: style.__name__)
def test_the_last_error_is_raised_with_its_history(style: Any, wrapped: Make, ledger: Ledger) -> None:
    """When all attempts fail, the last real error comes out, its cause grpc's own, its history beside it."""
    with pytest.raises(Unavailable, match="never") as caught:
        style(wrapped(Twice()), b"unavailable")
    assert [attempt.number for attempt in caught.value.attempts] == [1, 2, 3]
    assert isinstance(caught.value.__cause__, grpc.RpcError)
    assert ledger.outcomes()[0].how == "done"


def test_a_single_threaded_stream_is_retried_by_its_reader(wrapped: Make, ledger: Ledger) -> None:
    """Nothing goes on in such a stream while nobody reads it, so reading it makes the attempts."""
    channel = wrapped(Twice(), options=SINGLE)
    call = channel.unary_stream(path("UnaryStream"))(b"flaky", **flaky())
    assert list(call) == [b"0", b"1", b"2"]
    assert call.code() is grpc.StatusCode.OK
    assert len(ledger.outcomes()[0].attempts) == 3


def test_after_the_first_message_there_is_no_other_attempt(wrapped: Make, lab: Lab) -> None:
    """What was delivered cannot be taken back: the error comes out as it is."""
    channel = wrapped(Twice())
    call = channel.unary_stream(path("UnaryStream"))(b"burst")
    assert next(call) == b"0"
    with pytest.raises(Unavailable, match="after a message"):
        next(call)
    assert len(lab.quiet()) == 1


class Dawdles:
    """An observer that takes its time after each step: the rest of the world goes on meanwhile."""

    def activate(self, token: Any) -> Any:
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        time.sleep(0.1)


def test_where_a_reader_waits_the_reader_decides(wrapped: Make, lab: Lab, ledger: Ledger) -> None:
    """A message that its reader has in hand is delivered once, though the attempt fails before the reader goes on."""
    channel = wrapped(Twice(), observers=[Dawdles(), ledger])
    call = channel.unary_stream(path("UnaryStream"))(b"burst")
    assert next(call) == b"0"
    with pytest.raises(Unavailable, match="after a message"):
        next(call)
    assert len(lab.quiet()) == 1
    assert ledger.attempts == [(1, "UNAVAILABLE")]


def test_one_who_asks_for_metadata_leaves_the_decision_to_a_reader(wrapped: Make, lab: Lab, ledger: Ledger) -> None:
    """So it is when another thread finds out first that the attempt has failed."""
    channel = wrapped(Twice(), observers=[Dawdles(), ledger])
    call = channel.unary_stream(path("UnaryStream"))(b"burst")
    seen: list[Any] = []
    reader = threading.Thread(target=lambda: seen.append(next(call)))
    reader.start()
    time.sleep(0.05)
    call.initial_metadata()
    reader.join()
    assert seen == [b"0"]
    assert call.code() is grpc.StatusCode.UNAVAILABLE
    assert len(lab.quiet()) == 1
    assert len(ledger.outcomes()) == 1


@pytest.mark.parametrize("end", ["cancel", "drop"])
def test_a_call_that_ends_while_the_next_attempt_is_being_sent(
    wrapped: Make, lab: Lab, ledger: Ledger, end: str
) -> None:
    """The attempt that comes too late is cancelled at once, and its server knows."""
    sending, go_on = threading.Event(), threading.Event()

    class Holds:
        def inject(self, token: Any, attempt: Any) -> Any:
            if attempt.number > 1:
                sending.set()
                go_on.wait(5)
            return []

    channel = wrapped(Twice(), observers=[Holds(), ledger])
    call = channel.unary_unary(path("UnaryUnary")).future(b"flaky-slow")
    assert sending.wait(5)
    if end == "cancel":
        call.cancel()
    del call
    go_on.set()
    assert [outcome.how for outcome in ledger.outcomes(1)] == ["cancelled" if end == "cancel" else "abandoned"]
    assert all(one.get("cancelled", True) for one in lab.quiet(timeout=2))
    assert lab.active == 0


def test_callbacks_come_once_and_after_the_last_attempt(wrapped: Make) -> None:
    """A done callback does not see the attempts that failed."""
    for name in ("UnaryUnary", "UnaryStream"):
        seen: list[Any] = []
        called = threading.Event()
        channel = wrapped(Twice())
        method = channel.unary_unary(path(name)).future if name == "UnaryUnary" else channel.unary_stream(path(name))
        call = method(b"unavailable")
        call.add_done_callback(lambda c, seen=seen: seen.append((c.code(), len(c.exception().attempts))))
        call.add_callback(called.set)
        assert not call.done()
        assert called.wait(5)
        assert seen == [(grpc.StatusCode.UNAVAILABLE, 3)]
        assert call.exception().initial_metadata() == ()


def test_getters_wait_for_the_last_attempt(wrapped: Make) -> None:
    """code() and its like tell of the call, not of its first attempt."""
    channel = wrapped(Twice())
    call = channel.unary_stream(path("UnaryStream"))(b"unavailable")
    assert call.code() is grpc.StatusCode.UNAVAILABLE
    assert len(call.exception().attempts) == 3
    assert (call.details(), call.trailing_metadata()) == ("never", ())
    assert "never" in call.debug_error_string()


@pytest.fixture
def waiting(wrapped: Make) -> tuple[Any, Callable[[], Any]]:
    """Return a channel, and a function that makes a call which waits for its second attempt."""
    channel = wrapped(Twice(delay=30))

    def make() -> Any:
        call = channel.unary_unary(path("UnaryUnary")).future(b"unavailable")
        deadline = time.monotonic() + 5
        while call._running.inner is not None or not call._running.flow.attempts[0].delay:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        return call

    return channel, make


def test_cancelling_during_a_backoff(waiting: Any, ledger: Ledger) -> None:
    """It ends at once, as CANCELLED, and callbacks come."""
    call = waiting[1]()
    called = threading.Event()
    call.add_done_callback(lambda c: called.set())
    assert not call.done()
    assert call.cancel()
    assert call.cancelled()
    assert call.code() is grpc.StatusCode.CANCELLED
    assert call.initial_metadata() == ()
    with pytest.raises(grpc.FutureCancelledError):
        call.result()
    assert called.wait(2)
    assert not call.add_callback(called.set)
    other = waiting[1]()
    other.cancel()
    assert not other.add_callback(called.set)
    outcome, _ = ledger.outcomes()
    assert (outcome.how, outcome.code) == ("cancelled", grpc.StatusCode.CANCELLED)


def test_closing_the_channel_during_a_backoff(waiting: Any, ledger: Ledger) -> None:
    """It ends at once, as grpc ends calls in flight, and callbacks come."""
    channel, make = waiting
    call, called = make(), threading.Event()
    call.add_done_callback(lambda c: called.set())
    channel.close()
    with pytest.raises(Cancelled, match="Channel closed!"):
        call.result(timeout=2)
    assert not call.cancelled()
    assert called.wait(2)
    assert ledger.outcomes()[0].how == "done"


def test_closing_the_channel_wakes_a_thread_that_waits(wrapped: Make, ledger: Ledger) -> None:
    """A blocking call in a backoff ends as one in flight would."""
    channel = wrapped(Twice(delay=30))
    threading.Timer(0.1, channel.close).start()
    with pytest.raises(Cancelled, match="Channel closed!"):
        unary(channel, b"unavailable")
    assert ledger.outcomes()[0].how == "done"


def test_a_reader_that_waits_out_a_backoff_is_woken_too(wrapped: Make) -> None:
    """So does a stream whose reader waits for another attempt."""
    channel = wrapped(Twice(delay=30))
    threading.Timer(0.1, channel.close).start()
    with pytest.raises(Cancelled, match="Channel closed!"):
        responses(channel, b"unavailable")


def test_dropping_during_a_backoff(waiting: Any, ledger: Ledger, lab: Lab) -> None:
    """Nobody wants the answer any more: the call ends as abandoned, and nothing more is sent."""
    call = waiting[1]()
    del call
    outcome = ledger.outcomes(1, timeout=5)[0]
    assert (outcome.how, len(outcome.attempts)) == ("abandoned", 1)


def test_attempts_from_the_timer_have_the_callers_context(wrapped: Make) -> None:
    """Observers that look at context variables, such as those of tracing, find the caller's."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nothing")
    found: list[str] = []

    class Injects:
        def inject(self, token: Any, attempt: Any) -> Any:
            found.append(variable.get())
            return [("injected", str(attempt.number))]

    variable.set("the caller's")
    assert future(wrapped(Twice(), observers=[Injects()]), b"flaky", **flaky())
    assert found == ["the caller's"] * 3


def test_injected_metadata_join_the_callers(wrapped: Make, lab: Lab) -> None:
    """What observers send comes after what the caller sends, and the caller's own object is left as it was."""

    class Injects:
        def inject(self, token: Any, attempt: Any) -> Any:
            return [("injected", "1"), ("injected-bin", b"\x00")]

    metadata = [("own", "1")]
    unary(wrapped(observers=[Injects()]), b"ok", metadata=metadata)
    unary(wrapped(observers=[Injects()]), b"ok")
    first, second = lab.quiet()
    assert first["metadata"] == [("own", "1"), ("injected", "1"), ("injected-bin", b"\x00")]
    assert second["metadata"] == [("injected", "1"), ("injected-bin", b"\x00")]
    assert metadata == [("own", "1")]


def test_the_timeout_covers_all_attempts(wrapped: Make, lab: Lab) -> None:
    """Later attempts get what is left, so that the call does not outlive its caller's patience."""
    channel = wrapped(Twice(delay=0.2, attempts=100))
    with pytest.raises(StatusError) as caught:
        unary(channel, b"unavailable", timeout=1.0)
    given = [attempt.timeout for attempt in caught.value.attempts]
    assert 2 <= len(given) <= 5
    assert given == sorted(given, reverse=True)
    assert given[0] == 1.0
    assert given[-1] < 0.81
    assert len(lab.quiet()) <= 5


def test_metadata_from_a_generator_serve_every_attempt(wrapped: Make, lab: Lab) -> None:
    """An iterable that can be read once is read once."""
    key = next(keys)
    unary(wrapped(Twice()), b"flaky", metadata=(pair for pair in [("key", key)]))
    assert [dict(one["metadata"])["key"] for one in lab.quiet()] == [key] * 3


# Requests.


def test_messages_that_are_used_again_are_replayed_as_they_were(wrapped: Make, lab: Lab) -> None:
    """Callers change a message once it has been sent: what is replayed is what was sent then."""
    message = bytearray()

    def reused() -> Iterator[bytearray]:
        for text in (b"flaky", b"2", b"3"):
            message[:] = text
            yield message

    method = wrapped(Twice()).stream_unary(path("StreamUnary"), bytes)
    assert method(reused(), **flaky()) == b"flaky|2|3"
    assert [one["requests"] for one in lab.quiet()][-1] == [b"flaky", b"2", b"3"]


def test_too_many_requests_end_the_chance_of_another_attempt(wrapped: Make, lab: Lab) -> None:
    """Beyond the cap they are not kept, and the error comes out instead of a truncated stream."""
    policy = Twice()
    policy.replay_bytes = 10
    sent = threading.Event()

    def many() -> Iterator[bytes]:
        yield b"slow"
        yield b"x" * 100
        sent.set()
        yield b"y"

    call = wrapped(policy).stream_unary(path("StreamUnary")).future(many())
    assert sent.wait(5)
    deadline = time.monotonic() + 5
    while not call._running.flow.committed:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert lab.reached()
    call.cancel()
    assert len(lab.quiet()) == 1


def test_a_long_stream_is_not_kept(wrapped: Make, lab: Lab) -> None:
    """Once there can be no other attempt, requests that were sent are let go."""

    class Request:
        pass

    alive: weakref.WeakSet[Request] = weakref.WeakSet()
    most = 0

    def endless() -> Iterator[Request]:
        nonlocal most
        for _ in range(300):
            request = Request()
            alive.add(request)
            most = max(most, len(alive))
            yield request

    blob = b"z" * 10_000
    method = wrapped(Twice()).stream_unary(path("StreamUnary"), lambda _: blob)
    call = method.future(endless())
    call.result(timeout=20)
    kept = call._running
    assert most < 50
    assert kept.done
    lab.quiet()


def test_an_iterator_that_fails_does_not_look_like_its_end(wrapped: Make, lab: Lab) -> None:
    """A generator that raised would be empty the next time, and the server would answer a truncated stream with OK."""

    class Any_(Twice):  # noqa: N801  # a policy that repeats whatever failed
        def begin(self, flow: Any) -> Any:
            decisions = super().begin(flow)
            decisions.decide = lambda attempt, now: 0.01 if attempt.error and attempt.number < 3 else None
            return decisions

    def fails() -> Iterator[bytes]:
        yield b"ok"
        raise LookupError("no more")

    with pytest.raises(StatusError, match="Exception iterating requests!") as caught:
        wrapped(Any_()).stream_unary(path("StreamUnary"))(fails())
    assert len(caught.value.attempts) == 3
    assert all(one["requests"] in ([], [b"ok"]) for one in lab.quiet())


def test_a_slow_iterator_does_not_hold_a_retry_up(wrapped: Make, lab: Lab) -> None:
    """The next attempt replays what there is while the caller's iterator still thinks about the rest."""
    go_on = threading.Event()

    def thoughtful() -> Iterator[bytes]:
        yield b"flaky"
        go_on.wait(5)
        yield b"2"

    call = wrapped(Twice()).stream_stream(path("StreamStream"))(thoughtful(), **flaky())
    deadline = time.monotonic() + 5
    while sum(bool(one["requests"]) for one in lab.seen) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    go_on.set()
    assert list(call) == [b"0", b"1", b"2"]
    assert lab.quiet()[-1]["requests"] == [b"flaky", b"2"]


# What is not kept alive, and what observers hear.


@pytest.mark.parametrize("policy", [None, Twice()], ids=["no policy", "policy"])
def test_the_error_of_a_blocking_call_is_freed_by_reference_counting(wrapped: Make, policy: Any) -> None:
    """No cycle leads from an error to itself, as none does in grpc: failed calls cost no garbage collections."""
    channel = wrapped(policy, observers=[])
    settle_garbage()
    gc.disable()
    try:
        for _ in range(3):
            try:
                unary(channel, b"unavailable")
            except Unavailable as error:
                gone = weakref.ref(error)
            assert gone() is None
    finally:
        gc.enable()


def test_a_refused_call_sends_nothing(wrapped: Make, lab: Lab, ledger: Ledger) -> None:
    """A policy's refusal is raised by blocking calls, and found in futures and streams, which do not raise it early."""

    class Refuses(Twice):
        def begin(self, flow: Any) -> Any:
            decisions = super().begin(flow)

            def refuse(attempt: Any, now: float) -> None:
                flow.note(Event(name="circuit_open"))
                raise Unavailable("circuit open", reason="CIRCUIT_OPEN")

            decisions.admit = refuse
            return decisions

    channel = wrapped(Refuses())
    with pytest.raises(Unavailable, match="circuit open"):
        unary(channel, b"ok")
    call = channel.unary_unary(path("UnaryUnary")).future(b"ok")
    called: list[Any] = []
    call.add_done_callback(called.append)
    assert called == [call]
    assert call.exception().reason == "CIRCUIT_OPEN"
    assert (call.code(), call.initial_metadata(), call.trailing_metadata()) == (grpc.StatusCode.UNAVAILABLE, (), ())
    stream = channel.unary_stream(path("UnaryStream"))(b"ok")
    with pytest.raises(Unavailable, match="circuit open"):
        next(stream)
    assert lab.quiet() == []
    assert [outcome.how for outcome in ledger.outcomes()] == ["refused"] * 3


def test_messages_are_counted(wrapped: Make) -> None:
    """Observers hear of each message of a stream, in both directions, and of requests once however often they go."""
    counted: list[str] = []

    class Counts:
        def on_message(self, token: Any, direction: str) -> None:
            counted.append(direction)

    for policy in (None, Twice()):
        channel = wrapped(policy, observers=[Counts()])
        for style, sent, received in (
            (unary, 0, 0),
            (future, 0, 0),
            (responses, 0, 3),
            (requests, 3, 0),
            (requests_future, 3, 0),
            (both, 3, 3),
        ):
            counted.clear()
            style(channel, b"ok")
            assert (counted.count("sent"), counted.count("received")) == (sent, received), style.__name__
    counted.clear()
    requests(channel, b"flaky", **flaky())
    assert (counted.count("sent"), counted.count("received")) == (3, 0)


def test_steps_run_inside_the_observers_contexts(wrapped: Make) -> None:
    """While grpc is called, observers are active, so that instrumentation inside finds its parent; not in between."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("active", default="no")
    seen: list[str] = []

    class Active:
        def activate(self, token: Any) -> Any:
            return self

        def __enter__(self) -> None:
            variable.set("yes")

        def __exit__(self, *_: object) -> None:
            variable.set("no")

    def serializer(request: bytes) -> bytes:
        seen.append(variable.get())
        return request

    channel = wrapped(observers=[Active()])
    channel.unary_unary(path("UnaryUnary"), serializer)(b"ok")
    call = channel.unary_stream(path("UnaryStream"), serializer)(b"ok")
    for _ in call:
        assert variable.get() == "no"
    assert seen == ["yes", "yes"]

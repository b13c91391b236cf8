"""Exactly once: calls cancelled, dropped, closed and raced from other threads, in all shapes; each ends once."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from grpc import experimental
from sync_lab import Lab, Ledger, Twice, path, settle_garbage

from grpc_faultwire.flow import Flow
from grpc_faultwire.sync import wrap_channel
from grpc_faultwire.sync.calls import Call
from grpc_faultwire.sync.running import Running

pytest_plugins = ["sync_lab"]

SINGLE = [(experimental.ChannelOptions.SingleThreadedUnaryStream, 1)]
COMMANDS = [b"ok", b"error", b"slow", b"trickle", b"unavailable", b"metadata"]

Make = Callable[..., Any]


def begin(channel: Any, number: int, command: bytes, **options: Any) -> Any:
    """Begin a call of a shape that can be held."""
    match number % 4:
        case 0:
            return channel.unary_unary(path("UnaryUnary")).future(command, **options)
        case 1:
            return channel.unary_stream(path("UnaryStream"))(command, **options)
        case 2:
            return channel.stream_unary(path("StreamUnary")).future(iter([command, b"2"]), **options)
        case _:
            return channel.stream_stream(path("StreamStream"))(iter([command, b"2"]), **options)


def read(call: Any, *, stream: bool) -> None:
    """Wait for a call as its callers do: grpc's futures can be iterated too, but do not stand it."""
    with contextlib.suppress(grpc.RpcError, grpc.FutureCancelledError):
        if stream:
            list(call)
        else:
            call.result(timeout=10)


def alive(*classes: type) -> Counter[str]:
    settle_garbage()
    return Counter(type(one).__name__ for one in gc.get_objects() if isinstance(one, classes))


def threads_of_channels() -> int:
    """Count the threads, without those of the server and our one timer."""
    own = ("ThreadPoolExecutor", "faultwire-timer")
    return sum(not thread.name.startswith(own) for thread in threading.enumerate())


def assert_nothing_alive(threads: int, files: int, before: Counter[str]) -> None:
    """Check that calls, flows, threads and files are gone; the channel's own threads take a moment to end."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        left = alive(Call, Running, Flow) - before
        if not left and threads_of_channels() <= threads and len(os.listdir("/proc/self/fd")) <= files + 2:
            return
        time.sleep(0.05)
    names = [thread.name for thread in threading.enumerate()]
    pytest.fail(
        f"alive: {left}, threads {names} (were {threads}), {len(os.listdir('/proc/self/fd'))} files (were {files})"
    )


def storm(make: Make, ledger: Ledger, lab: Lab, count: int, policy: Any, seed: int) -> Counter[str]:
    """Make calls in waves; end each in a way drawn by lot, from this thread and others."""
    lottery = random.Random(seed)
    # Tests that failed before may hold calls by their tracebacks.
    baseline = threads_of_channels(), len(os.listdir("/proc/self/fd")), alive(Call, Running, Flow)
    wave = 40
    for start in range(0, count, wave):
        channel = make(policy, options=SINGLE if lottery.random() < 0.2 else None)
        workers: list[threading.Thread] = []
        calls: list[Any] = []
        for number in range(start, min(start + wave, count)):
            shape = lottery.randrange(4)
            call = begin(channel, shape, lottery.choice(COMMANDS), timeout=lottery.choice([0.05, 1.0]))
            fate = lottery.choice(["cancel", "cancel-elsewhere", "drop", "read", "race", "keep", "callback"])
            if fate == "cancel":
                call.cancel()
            elif fate == "cancel-elsewhere":
                workers.append(threading.Thread(target=call.cancel))
            elif fate == "read":
                workers.append(threading.Thread(target=read, args=(call,), kwargs={"stream": shape % 2 == 1}))
            elif fate == "race":
                workers.append(threading.Thread(target=read, args=(call,), kwargs={"stream": shape % 2 == 1}))
                workers += [threading.Thread(target=call.cancel) for _ in range(2)]
            elif fate == "callback":
                call.add_done_callback(lambda c: c.code())
            if fate in ("keep", "race"):
                calls.append(call)
            del call
            if number % 13 == 0:
                gc.collect()
        for worker in workers:
            worker.start()
        if lottery.random() < 0.5:
            channel.close()
        for worker in workers:
            worker.join(10)
            assert not worker.is_alive()
        channel.close()
        del calls, workers, channel
        settle_garbage()
    outcomes = ledger.outcomes(count)
    assert len(outcomes) == count
    hows = Counter(outcome.how for outcome in outcomes)
    lab.quiet()
    del outcomes
    ledger.ends.clear()  # errors know the frames through which they were raised
    assert_nothing_alive(*baseline)
    return hows


@pytest.fixture
def channels(address: str, ledger: Ledger) -> Make:
    """Return a function that makes wrapped channels, which the test closes."""
    return lambda policy=None, *, options=None: wrap_channel(
        grpc.insecure_channel(address, options=options), policy, observers=[ledger]
    )


@pytest.mark.parametrize(
    ("policy", "seed"),
    [
        pytest.param(Twice(delay=0.005), 0, id="policy"),
        pytest.param(None, 0, id="no policy", marks=pytest.mark.slow),
        pytest.param(Twice(delay=0.005), 1, id="another", marks=pytest.mark.slow),
    ],
)
def test_every_call_of_a_small_storm_ends_once(
    channels: Make, ledger: Ledger, lab: Lab, policy: Any, seed: int
) -> None:
    """120 calls, each with another fate."""
    hows = storm(channels, ledger, lab, 120, policy, seed)
    assert hows["cancelled"]
    assert hows["done"]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("policy", [None, Twice(delay=0.005)], ids=["no policy", "policy"])
def test_every_call_of_a_storm_ends_once(channels: Make, ledger: Ledger, lab: Lab, policy: Any) -> None:
    """2,000 calls, each with another fate."""
    storm(channels, ledger, lab, 2000, policy, 7)


def dropped(channels: Make, ledger: Ledger, count: int, options: Any = None) -> Counter[str]:
    with channels(options=options) as channel:
        for number in range(count):
            begin(channel, number if options is None else 1, b"slow")
        return Counter(outcome.how for outcome in ledger.outcomes(count))


def test_dropped_calls_end_as_abandoned(channels: Make, ledger: Ledger, lab: Lab) -> None:
    """A call whose handle nobody keeps is cancelled at once, while its channel stays open."""
    assert dropped(channels, ledger, 40) == {"abandoned": 40}
    lab.quiet()


def test_dropped_single_threaded_streams_end_as_abandoned(channels: Make, ledger: Ledger, lab: Lab) -> None:
    """No callback of grpc comes for them: the timer's thread ends them."""
    assert dropped(channels, ledger, 20, SINGLE) == {"abandoned": 20}
    lab.quiet()


def test_calls_in_a_cycle_are_dropped_by_the_garbage_collector(channels: Make, ledger: Ledger, lab: Lab) -> None:
    """The collector may run inside any lock, also one of ours; a call that it finds takes none."""
    with channels() as channel:
        gc.disable()
        try:
            for number in range(20):
                cycle: list[Any] = [begin(channel, number, b"slow")]
                cycle.append(cycle)
                del cycle
            assert not ledger.ends
        finally:
            gc.enable()
        gc.collect()
        assert {outcome.how for outcome in ledger.outcomes(20)} == {"abandoned"}
    lab.quiet()


def test_half_read_streams_are_cancelled_when_dropped(channels: Make, ledger: Ledger, lab: Lab) -> None:
    """As in grpc: leaving a loop early cancels the RPC."""
    with channels() as channel:
        for _ in range(20):
            for response in channel.unary_stream(path("UnaryStream"))(b"trickle"):
                assert response == b"0"
                break
        assert {outcome.how for outcome in ledger.outcomes(20)} == {"abandoned"}
    lab.quiet()


def test_many_threads_share_a_channel(channels: Make, ledger: Ledger, lab: Lab) -> None:
    """Blocking calls of all shapes from eight threads, half of them failing: each is told once."""
    with channels(Twice(delay=0.001)) as channel:
        problems: list[Exception] = []

        def work(seed: int) -> None:
            lottery = random.Random(seed)
            try:
                for _ in range(12):
                    command = lottery.choice([b"ok", b"error", b"unavailable"])
                    try:
                        if lottery.random() < 0.5:
                            channel.unary_unary(path("UnaryUnary"))(command)
                        else:
                            channel.stream_unary(path("StreamUnary"))(iter([command]))
                    except grpc.RpcError:
                        assert command != b"ok"
            except Exception as problem:
                problems.append(problem)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not problems
        assert len(ledger.outcomes(96)) == 96
    lab.quiet()


def memory_of(channel: Any, count: int) -> int:
    method = channel.unary_unary(path("UnaryUnary"))
    for number in range(count):
        try:
            if number % 4 == 0:
                method.future(b"ok").result()
            elif number % 4 == 1:
                list(channel.unary_stream(path("UnaryStream"))(b"ok"))
            else:
                method(b"ok" if number % 4 == 2 else b"error")
        except grpc.RpcError:
            pass
    settle_garbage()
    return tracemalloc.get_traced_memory()[0]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ten_thousand_calls_leave_memory_flat(address: str, lab: Lab) -> None:
    """What a call takes is given back when it has ended."""
    with wrap_channel(grpc.insecure_channel(address)) as channel:
        tracemalloc.start()
        try:
            memory_of(channel, 500)
            lab.seen.clear()
            before = memory_of(channel, 500)
            lab.seen.clear()
            after = memory_of(channel, 10_000)
            served = len(lab.seen)
            lab.seen.clear()
            settle_garbage()
            after = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
    assert served == 10_000
    assert after - before < 200_000, f"{after - before} bytes more"

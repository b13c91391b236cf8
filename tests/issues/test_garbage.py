"""Calls that are over are freed at once: none of their objects waits for the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest

from grpc_faultwire import StatusError
from grpc_faultwire.aio import wrap_channel as aio_wrap_channel
from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.policies import BreakerPolicy
from grpc_faultwire.state import PolicyState
from grpc_faultwire.sync import wrap_channel

CALLS = 20
UNARY, BIDI = "/a.Garbage/Unary", "/a.Garbage/Bidi"


def unary(request: bytes, context: grpc.ServicerContext) -> bytes:
    if request == b"fail":
        context.abort(grpc.StatusCode.NOT_FOUND, "gone")
    return request


def bidi(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
    for request in requests:
        yield unary(request, context)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Bidi": grpc.stream_stream_rpc_method_handler(bidi),
    }
    service = grpc.method_handlers_generic_handler("a.Garbage", handlers)
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[service])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


class Watcher:
    def on_end(self, _token: Any, _outcome: Any) -> None:
        return None


def policies(case: str) -> tuple[ClientPolicy, PolicyState]:
    """Return policies that stop nothing, or have stopped everything."""
    if case != "refused":
        return ClientPolicy(breaker=BreakerPolicy(minimum_calls=10**6)), PolicyState()
    state = PolicyState()
    state.breaker("all", BreakerPolicy()).force_open(time.monotonic())
    return ClientPolicy(breaker_key=lambda _: "all"), state


def collected(run: Callable[[], None], settle: Callable[[], None] = lambda: None) -> int:
    """Return how many objects waited for the garbage collector after some calls."""
    run()
    settle()
    gc.collect()
    gc.disable()
    try:
        run()
        settle()
        return gc.collect()
    finally:
        gc.enable()


def message(case: str) -> bytes:
    return b"fail" if case == "failed" else b"x"


@pytest.mark.parametrize(
    ("shape", "case"), [("unary", "ok"), ("unary", "failed"), ("unary", "refused"), ("bidi", "ok")]
)
def test_sync_calls_leave_no_garbage(address: str, shape: str, case: str) -> None:
    """Whether they succeed, fail, or are refused; but a stream's error is held by its call, as in grpc itself."""
    policy, state = policies(case)
    with wrap_channel(grpc.insecure_channel(address), policy, state=state, observers=[Watcher()]) as channel:
        call = channel.unary_unary(UNARY)
        stream = channel.stream_stream(BIDI)

        def run() -> None:
            for _ in range(CALLS):
                try:
                    if shape == "unary":
                        call(message(case))
                    else:
                        list(stream(iter([message(case)] * 3)))
                except StatusError:
                    assert case != "ok"
                else:
                    assert case == "ok"

        # The threads in which grpc reads requests end a little later.
        assert collected(run, lambda: time.sleep(0.1)) < CALLS


def test_sync_calls_in_which_something_else_is_raised_leave_no_garbage(address: str) -> None:
    """Such as grpc's ValueError on a channel that was closed."""
    inner = grpc.insecure_channel(address)
    with wrap_channel(inner, *policies("ok")[:1], observers=[Watcher()]) as channel:
        call = channel.unary_unary(UNARY)
        call(b"x")
        inner.close()

        def run() -> None:
            for _ in range(CALLS):
                with pytest.raises(ValueError, match="closed"):
                    call(b"x")

        assert collected(run) < CALLS


@pytest.mark.parametrize("case", ["ok", "failed", "refused"])
@pytest.mark.parametrize("shape", ["unary", "bidi"])
def test_aio_calls_leave_no_garbage(address: str, shape: str, case: str) -> None:
    """Whether they succeed, fail, or are refused by an open circuit."""

    async def requests() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield message(case)

    async def calls(channel: Any) -> None:
        call, stream = channel.unary_unary(UNARY), channel.stream_stream(BIDI)
        for _ in range(CALLS):
            try:
                if shape == "unary":
                    await call(message(case))
                else:
                    assert [response async for response in stream(requests())]
            except StatusError:
                assert case != "ok"
            else:
                assert case == "ok"

    loop = asyncio.new_event_loop()
    policy, state = policies(case)

    async def opened() -> Any:
        return aio_wrap_channel(grpc.aio.insecure_channel(address), policy, state=state, observers=[Watcher()])

    channel = loop.run_until_complete(opened())
    try:
        assert (
            collected(
                lambda: loop.run_until_complete(calls(channel)), lambda: loop.run_until_complete(asyncio.sleep(0.02))
            )
            < CALLS
        )
    finally:
        loop.run_until_complete(channel.close())
        loop.close()

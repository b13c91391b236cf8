"""A server that does what the first request says, and remembers what it saw; the same for bare and wrapped channels.

A plugin of the test modules beside it (PYTEST_DONT_REWRITE: they import it before pytest does).
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from grpc_faultwire.flow import ATTEMPTS_KEY
from grpc_faultwire.plan import REPLAY_BYTES, Decisions
from grpc_faultwire.records import Attempt, CallInfo, Outcome
from grpc_faultwire.sync import wrap_channel
from grpc_faultwire.testing import serve

SERVICE = "lab.v1.Lab"
BIG = 5 * 1024 * 1024


def rich_trailers() -> tuple[tuple[str, str | bytes], ...]:
    """A google.rpc.Status that says the same as the abort with it."""
    info = error_details_pb2.ErrorInfo(reason="GONE", domain="lab.example.com", metadata={"k": "v"})
    status = status_pb2.Status(code=9, message="rich")
    status.details.add().Pack(info)
    return rpc_status.to_status(status).trailing_metadata


class Lab:
    """Behaviours for the four shapes, and what they saw.

    Attributes:
        agent: what the user agent starts with in calls that are remembered: others are late, of a test before.
        seen: the calls.
    """

    def __init__(self) -> None:
        self.agent = ""
        self.seen: list[dict[str, Any]] = []
        self.active = 0
        self.tries: dict[str, int] = {}
        self.changed = threading.Condition()

    def handler(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "UnaryUnary": grpc.unary_unary_rpc_method_handler(lambda r, c: self._one(iter([r]), c)),
                "UnaryStream": grpc.unary_stream_rpc_method_handler(lambda r, c: self._many(iter([r]), c)),
                "StreamUnary": grpc.stream_unary_rpc_method_handler(self._one),
                "StreamStream": grpc.stream_stream_rpc_method_handler(self._many),
            },
        )

    def _one(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Any:
        last = b""
        for response in self._act(requests, context, streaming=False):
            last = response
        return last

    def _many(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[Any]:
        yield from self._act(requests, context, streaming=True)

    def _act(self, requests: Iterator[bytes], context: grpc.ServicerContext, *, streaming: bool) -> Iterator[Any]:
        remaining, agent = context.time_remaining(), dict(context.invocation_metadata())["user-agent"]
        seen: dict[str, Any] = {
            "metadata": [(key, value) for key, value in context.invocation_metadata() if key != "user-agent"],
            "deadline": remaining is not None and remaining < 1e6,
            "requests": [],
        }
        over = threading.Event()

        def ended() -> None:
            over.set()
            self._less()

        with self.changed:
            self.active += 2  # until the behaviour and the RPC have both ended
            if agent.startswith(self.agent):
                self.seen.append(seen)
        try:
            if not context.add_callback(ended):
                ended()
            yield from self._begin(seen, requests, context, over, streaming=streaming)
        finally:
            self._less()

    def _less(self) -> None:
        with self.changed:
            self.active -= 1
            self.changed.notify_all()

    def _begin(self, seen: Any, requests: Any, context: Any, over: Any, *, streaming: bool) -> Iterator[Any]:
        command = b""
        try:
            first = next(requests)
        except StopIteration:
            pass
        except grpc.RpcError:
            return
        else:
            command = first.split(b":")[0]
            with self.changed:
                seen["requests"].append(first)
                self.changed.notify_all()
        yield from self._do(command, seen, requests, context, over, streaming=streaming)

    def _do(self, command: bytes, seen: Any, requests: Any, context: Any, over: Any, *, streaming: bool) -> Any:
        if command in (b"metadata", b"late"):
            context.send_initial_metadata((("i", "1"), ("i-bin", b"\x00\xff")))
        if command == b"late":
            time.sleep(0.02)
            context.abort(grpc.StatusCode.ABORTED, "late")
        if command == b"metadata":
            context.set_trailing_metadata((("t", "1"), ("t-bin", b"\x01")))
        if command == b"error":
            context.set_trailing_metadata((("t", "1"),))
            context.abort(grpc.StatusCode.NOT_FOUND, "gone: é☃")
        if command == b"rich":
            context.set_trailing_metadata(rich_trailers())
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "rich")
        if command == b"raise":
            raise ValueError("boom")
        if command == b"burst":
            yield b"0"
            context.abort(grpc.StatusCode.UNAVAILABLE, "after a message")
        if command == b"flaky-slow" and any(key == ATTEMPTS_KEY for key, _ in seen["metadata"]):
            seen["cancelled"] = over.wait(5)
            return
        if command == b"flaky-slow":
            context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        if command == b"flaky":
            key = dict(context.invocation_metadata())["key"]
            with self.changed:
                self.tries[key] = self.tries.get(key, 0) + 1
                fails = self.tries[key] < 3
            if fails:
                context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        if command == b"unavailable":
            context.abort(grpc.StatusCode.UNAVAILABLE, "never")
        if command == b"slow":
            seen["cancelled"] = over.wait(5)
            return
        if command == b"trickle":
            context.send_initial_metadata((("i", "1"),))
            yield b"0"
            over.wait(5)
            return
        if command == b"echo":
            yield b"echo"
            try:
                for request in requests:
                    seen["requests"].append(request)
                    yield request
            except grpc.RpcError:
                pass
            return
        try:
            for request in requests:
                seen["requests"].append(request)
        except grpc.RpcError:
            return
        if command == b"partway":
            yield b"0"
            context.abort(grpc.StatusCode.DATA_LOSS, "partway")
        if command == b"none":
            yield None
        elif command == b"big":
            yield b"x" * BIG
        elif command == b"empty":
            if not streaming:
                yield b""
        elif streaming:
            yield from (b"0", b"1", b"2")
        else:
            yield b"|".join(seen["requests"])

    def reached(self, count: int = 1, timeout: float = 5) -> bool:
        """Wait until so many calls have brought a request."""
        with self.changed:
            return self.changed.wait_for(lambda: sum(bool(one["requests"]) for one in self.seen) >= count, timeout)

    def quiet(self, timeout: float = 5) -> list[dict[str, Any]]:
        """Wait until nothing is going on, and return what was seen."""
        with self.changed:
            self.changed.wait_for(lambda: self.active == 0, timeout)
            seen, self.seen = self.seen, []
        return seen


class Ledger:
    """An observer that keeps the books: every call that starts must end once."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.ends: dict[int, list[Outcome]] = {}
        self.attempts: list[tuple[int, str]] = []
        self.calls: dict[int, CallInfo] = {}
        self._changed = threading.Condition()

    def on_start(self, call: CallInfo) -> int:
        with self._changed:
            number = len(self.started)
            self.started.append(number)
            self.calls[number] = call
            return number

    def on_attempt_end(self, token: int, attempt: Attempt) -> None:
        code = "OK" if attempt.error is None else attempt.error.code().name
        self.attempts.append((attempt.number, code))

    def on_end(self, token: int, outcome: Outcome) -> None:
        with self._changed:
            self.ends.setdefault(token, []).append(outcome)
            self._changed.notify_all()

    def outcomes(self, count: int | None = None, timeout: float = 10) -> list[Outcome]:
        """Wait until all that started have ended, check that each ended once, and return how."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.ends) >= max(len(self.started), count or 0), timeout)
            assert len(self.ends) == len(self.started), f"{len(self.started)} started, {len(self.ends)} ended"
            assert all(len(ends) == 1 for ends in self.ends.values())
            return [self.ends[token][0] for token in self.started]


class Twice:
    """A policy for tests: UNAVAILABLE is tried again, up to three attempts in all."""

    def __init__(self, delay: float = 0.01, attempts: int = 3) -> None:
        self.delay = delay
        self.max_attempts = attempts
        self.replay_bytes = REPLAY_BYTES
        self.released = 0
        self.finished = 0

    def for_method(self, call: CallInfo) -> Twice:
        return self

    def begin(self, flow: Any) -> _Decisions:
        return _Decisions(self, flow)


class _Decisions(Decisions):
    def __init__(self, policy: Twice, flow: Any) -> None:
        self.policy = policy
        self.flow = flow

    def admit(self, attempt: Attempt, now: float) -> None:
        pass

    def decide(self, attempt: Attempt, now: float) -> float | None:
        error = attempt.error
        again = error is not None and error.code() is grpc.StatusCode.UNAVAILABLE and not self.flow.committed
        return self.policy.delay if again and attempt.number < self.policy.max_attempts else None

    def release(self, attempt: Attempt, now: float) -> None:
        self.policy.released += 1

    def finish(self) -> None:
        self.policy.finished += 1


@pytest.fixture(scope="session")
def lab_server() -> Iterator[tuple[Lab, str]]:
    """Serve one lab for the whole run."""
    lab = Lab()
    with serve([lab.handler()], max_workers=40) as server:
        yield lab, server.address


@pytest.fixture
def lab(lab_server: tuple[Lab, str]) -> Lab:
    """Return the lab, when nothing goes on in it."""
    lab, _ = lab_server
    lab.agent = ""
    lab.quiet()
    return lab


@pytest.fixture
def address(lab_server: tuple[Lab, str]) -> str:
    """Return where the lab is served."""
    return lab_server[1]


@pytest.fixture
def ledger() -> Ledger:
    """Return new books."""
    return Ledger()


@pytest.fixture
def wrapped(address: str, lab: Lab, ledger: Ledger) -> Iterator[Callable[..., Any]]:
    """Return a function that makes wrapped channels, which are closed in the end."""
    channels: list[grpc.Channel] = []

    def make(policy: Any = None, *, options: Any = None, **settings: Any) -> Any:
        settings.setdefault("observers", [ledger])
        channels.append(wrap_channel(grpc.insecure_channel(address, options=options), policy, **settings))
        return channels[-1]

    yield make
    for channel in channels:
        channel.close()
    lab.quiet()


def path(shape: str) -> str:
    """Return the path of a method."""
    return f"/{SERVICE}/{shape}"


def settle_garbage() -> None:
    """Collect what only the garbage collector frees."""
    for _ in range(3):
        gc.collect()

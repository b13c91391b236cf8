"""The truth table of servers: each outcome is one count and one span, under the right code and category."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
import pytest
from telemetry_lab import ARRANGEMENTS, Telemetry, counted, difference, told
from test_cancellation import Gate
from worlds import SHAPES, World, call

from faultwire.testing.v1 import scripted_pb2 as pb
from grpc_faultwire import NotFound
from grpc_faultwire.observers.semconv import SERVER_ERRORS

Code = grpc.StatusCode


def raising(exception: Exception) -> Callable[[Any], Any]:
    def step(_context: Any) -> Any:
        raise exception

    return step


def rich_abort(context: Any) -> Any:
    from google.rpc import status_pb2
    from grpc_status import rpc_status

    return context.abort_with_status(rpc_status.to_status(status_pb2.Status(code=13, message="rich")))


def set_code(context: Any) -> None:
    context.set_code(Code.FAILED_PRECONDITION)
    context.set_details("said")


class Row(NamedTuple):
    step: Callable[[Any], Any]
    code: Code
    category: str | None


ROWS = {
    "ok": Row(lambda _context: None, Code.OK, None),
    "abort_not_found": Row(lambda context: context.abort(Code.NOT_FOUND, "no"), Code.NOT_FOUND, "not_found"),
    "abort_internal": Row(lambda context: context.abort(Code.INTERNAL, "no"), Code.INTERNAL, "internal"),
    "rich_error": Row(raising(NotFound("no", reason="NO_BOOK")), Code.NOT_FOUND, "not_found"),
    "rich_abort": Row(rich_abort, Code.INTERNAL, "internal"),
    "set_code": Row(set_code, Code.FAILED_PRECONDITION, "precondition"),
    "raise": Row(raising(ValueError("secret")), Code.INTERNAL, "internal"),
    "cancel": Row(lambda _context: None, Code.CANCELLED, "cancelled"),
    "deadline": Row(lambda _context: None, Code.DEADLINE_EXCEEDED, "timeout"),
    "unknown": Row(lambda _context: None, Code.UNIMPLEMENTED, "unimplemented"),
}


class Caller:
    """Brings the outcomes about."""

    def __init__(self, world: World, shape: str, address: str, gates: list[Gate]) -> None:
        self.shape = shape
        self._stub: Any = _stub(world, address)
        self._unknown = world.channel(address).unary_unary("/nowhere.v1.Nothing/None", lambda _: b"", lambda _: None)
        self._gates = gates
        self._running: list[Any] = []  # a call that nobody holds is cancelled
        self._recorder = world.recorder

    def bring_about(self, name: str) -> None:
        try:
            if name == "unknown":
                self._unknown(None, timeout=20)
            elif name == "cancel":
                running = self._begin(name, 20)
                assert self._gates[0].entered.wait(20)
                running.cancel()
            elif name == "deadline":
                self._expire()
            else:
                call(self._stub, self.shape, name, count=1, timeout=20)
        except grpc.RpcError:
            pass

    def _expire(self) -> None:
        started = self._recorder.started
        for timeout in (0.15, 1.0, 5.0):
            self._begin("deadline", timeout)
            # On a busy machine the deadline may be over before the RPC is there; then it is no RPC of the server's.
            if self._gates[1].entered.wait(timeout + 1) or self._recorder.started > started:
                return

    def _begin(self, name: str, timeout: float) -> Any:
        request = pb.Request(step=name, count=1)
        method = getattr(self._stub, self.shape)
        argument = iter([request]) if self.shape.startswith("Stream") else request
        running = (method if self.shape.endswith("Stream") else method.future)(argument, timeout=timeout)
        self._running.append(running)
        return running


def _stub(world: World, address: str) -> Any:
    from faultwire.testing.v1 import scripted_pb2_grpc

    return scripted_pb2_grpc.ScriptedStub(world.channel(address))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_truth_table(world: World, shape: str, arrangement: str) -> None:
    """Ten outcomes: one count and one span each, with the right code, category and status."""
    telemetry = Telemetry()
    gates = [Gate(world.name == "aio"), Gate(world.name == "aio")]
    steps: dict[str, Any] = {name: row.step for name, row in ROWS.items()} | {"cancel": gates[0], "deadline": gates[1]}
    ours = world.interceptor(observers=[*telemetry.observers, world.recorder])
    interceptors = telemetry.server_interceptors(arrangement, aio=world.aio, ours=ours)
    caller = Caller(world, shape, world.serve(steps, *interceptors), gates)
    wrong, seen = {}, 0
    for number, (name, row) in enumerate(ROWS.items(), 1):
        before = telemetry.settled("server", shape)
        caller.bring_about(name)
        world.recorder.wait(number, timeout=20)
        if name in ("cancel", "deadline"):
            steps[name].opened.set()
        counts = difference(before, telemetry.settled("server", shape))
        spans = [told(span) for span in telemetry.spans.wait(seen + 1, timeout=20)[seen:]]
        seen += len(spans)
        status = "ERROR" if row.code.name in SERVER_ERRORS else "UNSET"
        expected = counted(row.code, row.category), [("SERVER", row.code.value[0], status, row.category)]
        if (counts, spans) != expected:
            wrong[name] = (counts, spans)
    assert not wrong
    assert telemetry.total("grpc_server_started_total") == telemetry.total("grpc_server_handled_total") == len(ROWS)
    assert telemetry.total("grpc_server_in_flight") == 0
    assert telemetry.total("grpc_server_unhandled_exceptions_total") == 1

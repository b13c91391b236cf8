"""The admin service on real servers: refused unless its hook says yes, live, and able to hold a breaker."""

from __future__ import annotations

import threading
import time
from typing import Any

import grpc
import pytest
from worlds import World

from faultwire.testing.v1 import scripted_pb2 as scripted
from faultwire.testing.v1 import scripted_pb2_grpc
from faultwire.v1 import diagnostics_pb2 as pb
from faultwire.v1 import diagnostics_pb2_grpc
from grpc_faultwire import Unavailable, from_rpc_error
from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.diagnostics import ErrorGroups
from grpc_faultwire.diagnostics import aio as aio_diagnostics
from grpc_faultwire.diagnostics import sync as sync_diagnostics
from grpc_faultwire.state import PolicyState
from grpc_faultwire.sync import wrap_channel

CANARY = "canary-3d77"


def servicer(world: World, *arguments: Any, **settings: Any) -> Any:
    module = aio_diagnostics if world.name == "aio" else sync_diagnostics
    return module.DiagnosticsServicer(*arguments, **settings)


def everybody(context: Any, action: str) -> bool:
    return True


def stub(world: World, address: str) -> diagnostics_pb2_grpc.DiagnosticsStub:
    return diagnostics_pb2_grpc.DiagnosticsStub(world.channel(address))


def call_all(admin: Any) -> list[grpc.StatusCode]:
    """Call every method, and return the codes that they end with."""
    calls = (
        lambda: admin.GetSnapshot(pb.GetSnapshotRequest(), timeout=5),
        lambda: next(admin.WatchSnapshots(pb.WatchSnapshotsRequest(), timeout=5)),
        lambda: admin.ForceBreaker(pb.ForceBreakerRequest(breaker="x", override=pb.BREAKER_OVERRIDE_OPEN), timeout=5),
    )
    codes = []
    for method in calls:
        try:
            method()
            codes.append(grpc.StatusCode.OK)
        except grpc.RpcError as error:
            codes.append(error.code())
    return codes


def broken(context: Any, action: str) -> bool:
    raise RuntimeError(CANARY)


async def coroutine(context: Any, action: str) -> bool:
    return True


@pytest.mark.parametrize(
    "hook",
    [
        pytest.param(None, id="no-hook"),
        pytest.param(lambda context, action: False, id="says-no"),
        pytest.param(lambda context, action: None, id="says-nothing"),
        pytest.param(broken, id="raises"),
    ],
)
def test_every_call_is_refused_without_authorisation(world: World, hook: Any) -> None:
    """Without its own hook, or without its yes, nobody learns or does anything."""
    admin = stub(world, world.serve(servicer(world, ErrorGroups(), [PolicyState()], authorise=hook)))
    assert call_all(admin) == [grpc.StatusCode.PERMISSION_DENIED] * 3


def test_the_hook_decides_by_action_and_caller(world: World) -> None:
    """Reading may be allowed where forcing is not, by what the call's context says."""

    def hook(context: Any, action: str) -> bool:
        return action == "read" and dict(context.invocation_metadata()).get("x-operator") == "yes"

    admin = stub(world, world.serve(servicer(world, ErrorGroups(), authorise=hook)))
    assert call_all(admin) == [grpc.StatusCode.PERMISSION_DENIED] * 3
    operator = (("x-operator", "yes"),)
    assert admin.GetSnapshot(pb.GetSnapshotRequest(), metadata=operator, timeout=5).errors == 0
    with pytest.raises(grpc.RpcError) as raised:
        admin.ForceBreaker(pb.ForceBreakerRequest(), metadata=operator, timeout=5)
    assert raised.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_coroutine_as_hook(world: World) -> None:
    """In aio it is awaited; a sync servicer, which cannot await it, refuses."""
    admin = stub(world, world.serve(servicer(world, ErrorGroups(), authorise=coroutine)))
    expected = grpc.StatusCode.OK if world.name == "aio" else grpc.StatusCode.PERMISSION_DENIED
    assert call_all(admin)[0] is expected


def test_errors_of_the_server_are_told(world: World) -> None:
    """What the observer counts is there, and of the exception nothing."""
    groups = ErrorGroups()

    def fail(context: Any) -> Any:
        raise KeyError(CANARY)

    admin_servicer = servicer(world, groups, authorise=everybody)
    interceptor = world.interceptor(observers=[world.recorder, groups])
    address = world.serve([world.servicer({"fail": fail}), admin_servicer], interceptor)
    shop = scripted_pb2_grpc.ScriptedStub(world.channel(address))
    for _ in range(3):
        with pytest.raises(grpc.RpcError) as raised:
            shop.UnaryUnary(scripted.Request(step="fail"), timeout=5)
    world.recorder.wait(3)
    snapshot = stub(world, address).GetSnapshot(pb.GetSnapshotRequest(), timeout=5)
    [group] = snapshot.groups
    assert (group.count, group.method, group.side, snapshot.errors) == (3, "UnaryUnary", "server", 3)
    assert group.error_id == from_rpc_error(raised.value).error_id
    assert CANARY.encode() not in snapshot.SerializeToString()
    assert b"KeyError" not in snapshot.SerializeToString()


def test_watching_is_live_and_bounded(world: World) -> None:
    """New snapshots come until the caller leaves, which frees its place; too many watchers are refused."""
    admin = stub(world, world.serve(servicer(world, ErrorGroups(), authorise=everybody), max_workers=8))
    request = pb.WatchSnapshotsRequest()
    request.interval.FromMilliseconds(100)
    watchers = [admin.WatchSnapshots(request) for _ in range(4)]
    for watcher in watchers:
        first, second = next(watcher), next(watcher)
        assert first.time.ToNanoseconds() < second.time.ToNanoseconds()
    with pytest.raises(grpc.RpcError) as raised:
        next(admin.WatchSnapshots(request, timeout=5))
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    for watcher in watchers:
        watcher.cancel()
    ended = time.monotonic() + 5
    while time.monotonic() < ended:
        try:
            again = admin.WatchSnapshots(request, timeout=5)
            next(again)
            break
        except grpc.RpcError:
            threading.Event().wait(0.05)
    else:
        pytest.fail("no watcher's place became free")
    again.cancel()


def test_a_breaker_is_forced(world: World) -> None:
    """Held open it refuses calls at once; then it decides for itself again."""
    state = PolicyState()
    steps = {"ok": lambda context: None}
    address = world.serve([world.servicer(steps), servicer(world, None, [state], authorise=everybody)])
    admin = stub(world, address)
    wrapped = wrap_channel(world.channel(address), ClientPolicy(), state=state, target="shop")
    shop = scripted_pb2_grpc.ScriptedStub(wrapped)
    shop.UnaryUnary(scripted.Request(step="ok"), timeout=5)
    name = "shop/faultwire.testing.v1.Scripted"
    snapshot = admin.GetSnapshot(pb.GetSnapshotRequest(), timeout=5)
    assert [(one.name, one.state, one.calls) for one in snapshot.breakers] == [(name, pb.BREAKER_STATE_CLOSED, 1)]
    assert [(one.target, one.tokens) for one in snapshot.budgets] == [("shop", 11.0)]

    def force(override: Any) -> Any:
        return admin.ForceBreaker(pb.ForceBreakerRequest(breaker=name, override=override), timeout=5).state

    assert force(pb.BREAKER_OVERRIDE_OPEN) == pb.BREAKER_STATE_FORCED_OPEN
    with pytest.raises(Unavailable) as refused:
        shop.UnaryUnary(scripted.Request(step="ok"), timeout=5)
    assert refused.value.reason == "CIRCUIT_OPEN"
    assert force(pb.BREAKER_OVERRIDE_CLOSED) == pb.BREAKER_STATE_FORCED_CLOSED
    assert force(pb.BREAKER_OVERRIDE_AUTO) == pb.BREAKER_STATE_CLOSED
    shop.UnaryUnary(scripted.Request(step="ok"), timeout=5)
    for breaker, override, code in (
        ("nowhere", pb.BREAKER_OVERRIDE_OPEN, grpc.StatusCode.NOT_FOUND),
        (name, pb.BREAKER_OVERRIDE_UNSPECIFIED, grpc.StatusCode.INVALID_ARGUMENT),
    ):
        with pytest.raises(grpc.RpcError) as raised:
            admin.ForceBreaker(pb.ForceBreakerRequest(breaker=breaker, override=override), timeout=5)
        assert raised.value.code() is code

"""The transparency table: whatever grpc.aio's channel, multi-callables and calls have, ours have too."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import grpc
import grpc.aio
import pytest
from aio_lab import KINDS, OLD, lab
from grpc.aio import _call, _channel

from grpc_faultwire.aio import calls, channel, multicallables

FACES = {
    "unary_unary": "UnaryUnary",
    "unary_stream": "UnaryStream",
    "stream_unary": "StreamUnary",
    "stream_stream": "StreamStream",
}


def public(cls: type) -> set[str]:
    """The public names of a class, and the special methods that make it awaitable, iterable or a context manager."""
    special = {"__call__", "__await__", "__aiter__", "__anext__", "__aenter__", "__aexit__", "__enter__", "__exit__"}
    return {
        name for name in dir(cls) if not name.startswith("_") or name in special & set(vars(cls)) | special & _in(cls)
    }


def _in(cls: type) -> set[str]:
    return {name for base in cls.__mro__[:-1] for name in vars(base) if base is not type}


PAIRS: list[Any] = [pytest.param(_channel.Channel, channel.Channel, id="channel")]
for face in FACES.values():
    for module, suffix in ((multicallables, "MultiCallable"), (calls, "Call")):
        theirs = getattr(_channel if suffix == "MultiCallable" else _call, face + suffix)
        abstract = getattr(grpc.aio, face + suffix)
        PAIRS += [
            pytest.param(theirs, getattr(module, face + suffix), id=f"{face}{suffix}"),
            pytest.param(abstract, getattr(module, face + suffix), id=f"{face}{suffix}-abstract"),
        ]


@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
def test_nothing_is_missing(theirs: type, ours: type) -> None:
    """Every public name of grpc's class is defined by ours, not merely passed on, and is as asynchronous as grpc's."""
    missing = {name for name in public(theirs) if not _own(ours, name)}
    assert missing == set()
    for name in public(theirs):
        their, our = inspect.getattr_static(theirs, name), inspect.getattr_static(ours, name)
        assert inspect.iscoroutinefunction(our) == inspect.iscoroutinefunction(their), name
        assert inspect.isfunction(our) == inspect.isfunction(their), name


def _own(cls: type, name: str) -> bool:
    return any(name in vars(base) for base in cls.__mro__ if base.__module__.startswith("grpc_faultwire"))


@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
def test_signatures_are_grpc_s(theirs: type, ours: type) -> None:
    """Every public method takes what grpc's takes, by the same names, in the same order, with the same defaults."""
    for name in public(theirs):
        their, our = getattr(theirs, name), getattr(ours, name)
        if inspect.isfunction(their) and name != "__aexit__":
            assert _parameters(our) == _parameters(their), name


def _parameters(function: Any) -> list[Any]:
    return [(one.name, one.kind, one.default) for one in inspect.signature(function).parameters.values()]


def test_kinds_of_channels_methods() -> None:
    """grpc.aio's channel makes no other kinds of calls than those that are wrapped."""
    makers = {
        name
        for name in public(_channel.Channel)
        if "request_serializer" in inspect.signature(getattr(_channel.Channel, name)).parameters
    }
    assert makers == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_instances_are_grpc_s(kind: str) -> None:
    """Channel, multi-callables and calls are instances of grpc.aio's classes, on top of which others build."""

    async def run() -> None:
        async with lab() as made:
            assert isinstance(made.channel, grpc.aio.Channel)
            method = made.method(kind)
            assert isinstance(method, getattr(grpc.aio, FACES[kind] + "MultiCallable"))
            call = made.call(kind, "hang")
            assert isinstance(call, getattr(grpc.aio, FACES[kind] + "Call"))
            assert isinstance(call, grpc.aio.Call)
            assert "object" in repr(call)
            assert str(call) == repr(call)
            call.cancel()
            assert "CANCELLED" in repr(call)

    asyncio.run(run())


def test_the_rest_is_passed_on() -> None:
    """What libraries reach for beside the public names is the wrapped object's; what is nowhere is missing."""

    async def run() -> None:
        async with lab() as made:
            assert made.channel._unary_unary_interceptors == []
            assert not hasattr(made.channel, "nothing")
            call = made.call("stream_unary", requests=None)
            assert call._done_writing_flag is False
            assert not hasattr(call, "nothing")
            await call.done_writing()
            await call

    asyncio.run(run())


def test_sync_channels_are_refused() -> None:
    """A channel of the other world is refused with a word on where to go."""
    with grpc.insecure_channel("127.0.0.1:1") as other, pytest.raises(TypeError, match=r"sync\.wrap_channel"):
        channel.wrap_channel(other)  # type: ignore[arg-type]  # that is the point


@pytest.mark.skipif(OLD, reason="its channels do not tell what they were made for")
def test_target_is_told() -> None:
    """Observers learn what the channel was made for, or what wrap_channel was told."""
    heard = []

    class Hears:
        def on_start(self, call: Any) -> None:
            heard.append((call.target, call.service, call.method, call.kind.value))

    async def run() -> None:
        async with lab(observers=[Hears()]) as made:
            await made.call("unary_unary")
            other = channel.wrap_channel(made.channel, observers=[Hears()], target="shop")
            await other.unary_unary("/lab.Lab/unary_unary")(b"a")
            assert heard[0] == (made.address, "lab.Lab", "unary_unary", "unary")
            assert heard[1][0] == "shop"

    asyncio.run(run())

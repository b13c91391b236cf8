"""The transparency table: whatever grpc's objects of the sync world have, ours have; read from the installed grpcio."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc import experimental
from sync_lab import Lab, path

from grpc_faultwire.sync import wrap_channel
from grpc_faultwire.sync.calls import Call

pytest_plugins = ["sync_lab"]

SHAPES = {"unary_unary": "UnaryUnary", "unary_stream": "UnaryStream", "stream_unary": "StreamUnary"}
SHAPES["stream_stream"] = "StreamStream"
SPECIAL = {"__call__", "__enter__", "__exit__", "__iter__", "__next__", "__repr__", "__str__"}


def public(thing: Any) -> list[str]:
    """Return the names that a thing offers: public ones, and the special methods that a class of grpc defines."""
    names = {name for name in dir(thing) if not name.startswith("_")}
    for cls in type(thing).__mro__:
        if cls.__module__.startswith("grpc"):
            names |= SPECIAL & set(cls.__dict__)
    return sorted(names - set(dir(Exception)) | names & {"__repr__", "__str__"})


def signature(thing: Any, name: str) -> list[tuple[str, Any, Any]]:
    method = getattr(type(thing), name)
    parameters = list(inspect.signature(method).parameters.values())[1:]
    return [(one.name, one.default, one.kind) for one in parameters]


def bases(thing: Any) -> set[type]:
    """Return grpc's public interfaces among a thing's classes."""
    return {cls for cls in type(thing).__mro__ if cls.__module__ == "grpc" and not cls.__name__.startswith("_")}


def things(channel: grpc.Channel) -> dict[str, Any]:
    """Return one of each object that a channel gives."""
    found: dict[str, Any] = {"channel": channel}
    for name, shape in SHAPES.items():
        method = getattr(channel, name)(path(shape))
        found[name] = method
        request: Any = iter([b"ok"]) if name.startswith("stream") else b"ok"
        if name.endswith("unary"):
            found[f"{name} future"] = method.future(request)
            found[f"{name} future"].result()
        else:
            found[f"{name} call"] = method(request)
            list(found[f"{name} call"])
    return found


OPTIONS = {"": [], "single-threaded ": [(experimental.ChannelOptions.SingleThreadedUnaryStream, 1)]}


@pytest.fixture(scope="module")
def pairs(lab_server: tuple[Lab, str]) -> Iterator[dict[str, tuple[Any, Any]]]:
    """Return grpc's and our objects side by side."""
    _, address = lab_server
    found: dict[str, tuple[Any, Any]] = {}
    channels = []
    for prefix, options in OPTIONS.items():
        bare = grpc.insecure_channel(address, options=options)
        wrapped = wrap_channel(grpc.insecure_channel(address, options=options))
        channels += [bare, wrapped]
        ours = things(wrapped)
        found |= {prefix + name: (thing, ours[name]) for name, thing in things(bare).items()}
    yield found
    for channel in channels:
        channel.close()


OBJECTS = [prefix + name for prefix in OPTIONS for name in ("channel", *SHAPES)]
OBJECTS += [f"{prefix}{name} {'future' if name.endswith('unary') else 'call'}" for prefix in OPTIONS for name in SHAPES]


@pytest.mark.parametrize("name", OBJECTS)
def test_everything_that_grpc_offers_is_there(pairs: dict[str, tuple[Any, Any]], name: str) -> None:
    """Every public attribute and method of grpc's object is on ours, callable if it was, with the same parameters."""
    bare, ours = pairs[name]
    missing = [one for one in public(bare) if not hasattr(ours, one)]
    assert not missing
    for one in public(bare):
        assert callable(getattr(bare, one)) == callable(getattr(ours, one)), one


@pytest.mark.parametrize("name", OBJECTS)
def test_signatures_are_the_same(pairs: dict[str, tuple[Any, Any]], name: str) -> None:
    """Arguments have grpc's names, order and defaults, so that any way of passing them works."""
    bare, ours = pairs[name]
    for one in public(bare):
        if one != "__exit__":  # its arguments are named by nobody
            assert signature(ours, one) == signature(bare, one), one


@pytest.mark.parametrize("name", OBJECTS)
def test_interfaces_are_the_same(pairs: dict[str, tuple[Any, Any]], name: str) -> None:
    """Whatever isinstance() says of grpc's object, it says of ours."""
    bare, ours = pairs[name]
    assert bases(bare) <= bases(ours)


@pytest.mark.parametrize("name", [name for name in OBJECTS if name.endswith(("future", "call"))])
def test_what_can_be_asked_is_answered_alike(pairs: dict[str, tuple[Any, Any]], name: str) -> None:
    """Every method without arguments answers with the same type on a call that has ended well."""
    bare, ours = pairs[name]
    for one in public(bare):
        needs = [parameter for parameter in signature(bare, one) if parameter[1] is inspect.Parameter.empty]
        if one not in {"next", "__next__"} and not needs:
            expected = Call if one == "__iter__" else type(getattr(bare, one)())
            assert type(getattr(ours, one)()) is expected, one


def test_private_attributes_of_the_channel_inside_can_be_reached(address: str) -> None:
    """Libraries reach for ``_channel`` and the like; a name that nobody has is an AttributeError."""
    bare = grpc.insecure_channel(address)
    with wrap_channel(bare) as channel:
        assert channel._channel is bare._channel
        assert channel._target == address
        assert channel._connectivity_state is bare._connectivity_state
        with pytest.raises(AttributeError):
            _ = channel.nonsense


class Remembers(grpc.Channel):
    """Somebody's channel: it remembers how multi-callables were asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def unary_unary(self, *args: Any, **options: Any) -> Any:
        self.asked.append((args, options))

    unary_stream = stream_unary = stream_stream = unary_unary
    subscribe = unsubscribe = close = unary_unary


@pytest.mark.parametrize("shape", SHAPES)
def test_methods_of_generated_code_are_registered(shape: str) -> None:
    """Generated code asks for that; a channel of somebody's that does not know of it is asked only then."""
    inner = Remembers()
    channel = wrap_channel(inner)
    getattr(channel, shape)("/lab.v1.Lab/Do", bytes, str, _registered_method=True)
    getattr(channel, shape)("/lab.v1.Lab/Do", bytes, str, True)
    getattr(channel, shape)("/lab.v1.Lab/Do")
    arguments = ("/lab.v1.Lab/Do", bytes, str)
    assert inner.asked == [
        (arguments, {"_registered_method": True}),
        (arguments, {"_registered_method": True}),
        (("/lab.v1.Lab/Do", None, None), {}),
    ]


def test_connectivity_is_the_channels(address: str) -> None:
    """subscribe, unsubscribe and channel_ready_future work on a wrapped channel."""
    seen: list[grpc.ChannelConnectivity] = []
    with wrap_channel(grpc.insecure_channel(address)) as channel:
        channel.subscribe(seen.append, try_to_connect=True)
        grpc.channel_ready_future(channel).result(timeout=5)
        channel.unsubscribe(seen.append)
        given_up = time.monotonic() + 5
        while channel._connectivity_state.polling and time.monotonic() < given_up:
            time.sleep(0.01)  # grpc's polling thread raises if it finds the channel closed
    assert grpc.ChannelConnectivity.READY in seen


def test_an_aio_channel_is_refused_with_advice() -> None:
    """The other world's channel has its own function, and the message names it."""

    class Channel(grpc.aio.Channel):
        __abstractmethods__ = frozenset()

    Channel.__abstractmethods__ = frozenset()
    with pytest.raises(TypeError, match=r"grpc_faultwire\.aio"):
        wrap_channel(Channel.__new__(Channel))  # type: ignore[arg-type]

"""Scenarios: how calls end, and their options."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
from aio_lab import KINDS, US, UU, Lab, called, consume, outcome, status
from aio_scenarios import scenario

# How calls end.


async def _headers(lab: Lab, kind: str, call: Any) -> None:
    if kind != UU:  # where they come with the end
        await call.initial_metadata()
    lab.gate.set()


@scenario(*KINDS)
async def succeeds(lab: Lab, kind: str) -> Any:
    """A call that succeeds, and all that it says of itself."""
    call = lab.call(kind)
    return await consume(kind, call), await status(call)


@scenario(*KINDS)
async def sends_metadata(lab: Lab, kind: str) -> Any:
    """Metadata in both directions."""
    call = lab.call(kind, "initial gate trail", metadata=(("x-one", "1"), ("x-bin-bin", b"\x00"), ("x-one", "2")))
    await _headers(lab, kind, call)
    return await outcome(consume(kind, call)), await status(call)


@scenario(*KINDS)
async def takes_metadata_objects(lab: Lab, kind: str) -> Any:
    """A grpc.aio.Metadata instead of a tuple."""
    metadata = grpc.aio.Metadata(("script", "trail" if kind in (UU, US) else "drain trail"), ("x-two", "2"))
    request = b"a" if kind in (UU, US) else iter([b"a"])
    call = lab.method(kind)(request, metadata=metadata)
    return await outcome(consume(kind, call)), await status(call), tuple(metadata)


@scenario(*KINDS)
async def refuses_bad_metadata(lab: Lab, kind: str) -> Any:
    """Metadata that grpc cannot send."""
    call = called(lab.call, kind, metadata=(("x-number", 7),))
    return call[:2] if call[0] != "returned" else await outcome(asyncio.wait_for(consume(kind, call[1]), 0.3))


@scenario(*KINDS)
async def aborted(lab: Lab, kind: str) -> Any:
    """A status from the server."""
    call = lab.call(kind, "initial gate abort:NOT_FOUND")
    await _headers(lab, kind, call)
    return await outcome(consume(kind, call)), await status(call)


@scenario(*KINDS)
async def aborted_at_once(lab: Lab, kind: str) -> Any:
    """A status without initial metadata."""
    call = lab.call(kind, "abort:PERMISSION_DENIED")
    return await outcome(consume(kind, call)), await status(call)


@scenario(*KINDS)
async def handler_raises(lab: Lab, kind: str) -> Any:
    """An exception in the handler."""
    call = lab.call(kind, "raise")
    return await outcome(consume(kind, call)), await status(call)


@scenario(*KINDS)
async def cancelled_by_the_server(lab: Lab, kind: str) -> Any:
    """CANCELLED as a status of the server's is an error, not a cancellation."""
    call = lab.call(kind, "abort:CANCELLED")
    return await outcome(consume(kind, call)), await status(call)


@scenario(*KINDS)
async def unknown_method(lab: Lab, kind: str) -> Any:
    """A method that the server has not."""
    call = getattr(lab.channel, kind)("/lab.Lab/None")(b"a" if kind in (UU, US) else iter([b"a"]))
    return await outcome(consume(kind, call)), await status(call)


@scenario(*KINDS)
async def deadline(lab: Lab, kind: str) -> Any:
    """A deadline that expires."""
    call = lab.call(kind, "hang", timeout=0.05)
    return await outcome(consume(kind, call)), await status(call)


@scenario(*KINDS)
async def deadline_in_the_past(lab: Lab, kind: str) -> Any:
    """A deadline that has expired."""
    call = lab.call(kind, "hang", timeout=-1)
    return await outcome(consume(kind, call)), await status(call), call.time_remaining()


@scenario(*KINDS)
async def bad_timeout(lab: Lab, kind: str) -> Any:
    """A timeout that is no number."""
    return called(lab.call, kind, timeout="soon")


@scenario(*KINDS)
async def time_remaining(lab: Lab, kind: str) -> Any:
    """What is left of the timeout."""
    call, other = lab.call(kind, timeout=50), lab.call(kind)
    left = call.time_remaining()
    await consume(kind, call), await consume(kind, other)
    return 40 < left <= 50, 40 < call.time_remaining() <= left, other.time_remaining()


# Options.


@scenario(*KINDS)
async def wait_for_ready_and_compression(lab: Lab, kind: str) -> Any:
    """Options that change nothing here."""
    call = lab.call(kind, wait_for_ready=True, compression=grpc.Compression.Gzip)
    return await consume(kind, call), await status(call)


@scenario(*KINDS)
async def credentials_on_an_insecure_channel(lab: Lab, kind: str) -> Any:
    """Call credentials without TLS."""
    call = called(lab.call, kind, credentials=grpc.access_token_call_credentials("token"))
    return call if call[0] != "returned" else await outcome(consume(kind, call[1]))


@scenario(*KINDS)
async def registered_method(lab: Lab, kind: str) -> Any:
    """A registered method, as generated code makes them."""
    method = getattr(lab.channel, kind)(f"/lab.Lab/{kind}", None, None, True)
    call = method(b"a" if kind in (UU, US) else iter([b"a"]))
    return await consume(kind, call), await status(call)


@scenario(*KINDS)
async def serializers(lab: Lab, kind: str) -> Any:
    """Messages that are not bytes."""
    method = lab.method(kind, request_serializer=str.encode, response_deserializer=lambda data: ("got", data))
    call = method("ä" if kind in (UU, US) else iter(["ä", "b"]))
    return await consume(kind, call), await status(call)


@scenario(*KINDS)
async def same_multicallable_twice(lab: Lab, kind: str) -> Any:
    """Two calls at the same time."""
    first, second = lab.call(kind, "sleep:0.01"), lab.call(kind)
    return await asyncio.gather(consume(kind, first), consume(kind, second))

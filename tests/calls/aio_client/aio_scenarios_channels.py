"""Scenarios: what becomes of calls when their channel is closed, and the state of channels."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
from aio_lab import KINDS, UU, Lab, called, consume, outcome, status
from aio_scenarios import scenario

# Channels.


@scenario(*KINDS)
async def unreachable(lab: Lab, kind: str) -> Any:
    """Nobody listens there."""
    await lab.quiet()
    options = {"wait_for_ready": False, "timeout": 5}
    channel = lab.channel
    lab.channel = lab.to("127.0.0.1:1")
    call = lab.call(kind, **options)
    connected = outcome(call.wait_for_connection())
    result = _without_address(await connected), _without_address(await outcome(consume(kind, call)))
    done = call.done(), await call.code(), call.cancelled()
    await lab.channel.close()
    lab.channel = channel
    return result, done


def _without_address(result: Any) -> Any:
    return result[:3]


@scenario(*KINDS)
async def closed_during_a_call(lab: Lab, kind: str) -> Any:
    """Closing the channel cancels its calls."""
    call = lab.call(kind, "hang")
    task = asyncio.ensure_future(outcome(consume(kind, call)))
    await lab.until(("start", kind, []))
    await lab.channel.close()
    return await task, await status(call)


@scenario(*KINDS)
async def closed_with_grace(lab: Lab, kind: str) -> Any:
    """Closing with enough grace lets calls end."""
    call = lab.call(kind, "sleep:0.03")
    task = asyncio.ensure_future(outcome(consume(kind, call)))
    await lab.until(("start", kind, []))
    await lab.channel.close(20)
    return await task, await status(call)


@scenario(*KINDS)
async def closed_with_too_little_grace(lab: Lab, kind: str) -> Any:
    """Closing with too little grace cancels calls."""
    call = lab.call(kind, "hang")
    task = asyncio.ensure_future(outcome(consume(kind, call)))
    await lab.until(("start", kind, []))
    await lab.channel.close(0.02)
    return await task, await status(call)


@scenario(*KINDS)
async def closed_before(lab: Lab, kind: str) -> Any:
    """No call on a closed channel."""
    await lab.channel.close()
    await lab.channel.close()
    return called(lab.call, kind)


@scenario(*KINDS)
async def closed_by_leaving(lab: Lab, kind: str) -> Any:
    """The channel as a context manager."""
    async with lab.channel as channel:
        call = lab.call(kind, "hang")
        same = channel is lab.channel
        await asyncio.sleep(0.01)
    return same, await outcome(consume(kind, call)), await status(call)


@scenario(UU)
async def negative_grace(lab: Lab, kind: str) -> Any:
    """A grace that is refused closes nothing."""
    call = lab.call(kind, "sleep:0.02")
    return await outcome(lab.channel.close(-1)), await outcome(call)


@scenario(UU)
async def connectivity(lab: Lab, kind: str) -> Any:
    """States of the connection."""
    before = lab.channel.get_state()
    await lab.channel.channel_ready()
    ready = lab.channel.get_state(try_to_connect=True)
    waiting = asyncio.ensure_future(lab.channel.wait_for_state_change(ready))
    await lab.channel.close()
    return before, ready, await outcome(asyncio.wait_for(waiting, 2)), called(lab.channel.get_state)


@scenario(UU)
async def state_wait_cancelled(lab: Lab, kind: str) -> Any:
    """Waiting for a state that does not come."""
    await lab.channel.channel_ready()
    waiting = lab.channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
    return await outcome(asyncio.wait_for(waiting, 0.02))

"""A wrapped channel does what the bare one does: every scenario, on both, with everything that can be observed."""

from __future__ import annotations

import asyncio
from typing import Any

import aio_scenarios_cancelling
import aio_scenarios_channels
import aio_scenarios_endings
import aio_scenarios_requests
import aio_scenarios_responses
import pytest
from aio_lab import lab
from aio_scenarios import SCENARIOS

PLACES = (
    aio_scenarios_cancelling,
    aio_scenarios_channels,
    aio_scenarios_endings,
    aio_scenarios_requests,
    aio_scenarios_responses,
)


_LOST = "Internal error from Core"
"""What the bare channel says, instead of the server's status, where it loses a race of its own against a failing write.

The wrapped one waits for the status, so it is the bare one that is asked again.
"""


async def observe(how: str, name: str) -> Any:
    scenario, kind = SCENARIOS[name]
    unhandled: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unhandled.append(context["message"]))
    async with lab(how) as made:
        result = await scenario(made, kind)
        await made.quiet()
    await asyncio.sleep(0)
    made.ends.assert_exactly_once()
    # grpc.aio's own poller loses a race for its socket now and then.
    return {"result": result, "server": what(made.seen), "unhandled": [one for one in unhandled if "Poller" not in one]}


def what(seen: list[Any]) -> Any:
    """What the server saw, as far as it is not a race.

    How much of a cancelled call reaches the server, if any, is one; so is the order of calls at the same time.
    """
    if not seen or seen[-1] in (("raised", "CancelledError"), ("raised", "_ServerStoppedError")):
        return "cancelled"
    return sorted(seen, key=repr) if str(seen).count("start") > 1 else seen


@pytest.mark.parametrize("name", SCENARIOS)
def test_wrapped_as_bare(name: str) -> None:
    """Whatever a caller does, it sees the same on a wrapped channel, and each call has one end."""

    async def both() -> tuple[Any, Any]:
        bare = await observe("bare", name)
        for _ in range(4):
            if _LOST not in repr(bare):
                break
            bare = await observe("bare", name)
        return bare, await observe("wrapped", name)

    bare, wrapped = asyncio.run(both())
    assert wrapped == bare


def test_there_are_enough_scenarios() -> None:
    """The suite covers at least eighty scenarios."""
    assert len(SCENARIOS) >= 80
    assert {scenario.__module__ for scenario, _ in SCENARIOS.values()} == {place.__name__ for place in PLACES}

"""The flaky server called within an event loop, for what only aio has."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from policy_lab import READ, READS, Act, Flaky, Ledger

from grpc_faultwire.aio import client_interceptors, wrap_channel
from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.policies import BudgetPolicy, HedgePolicy, RetryPolicy
from grpc_faultwire.state import PolicyState

Served = tuple[Flaky, str]
QUICK_RETRY = RetryPolicy(initial_backoff=0.001)
SLOW_RETRY = RetryPolicy(initial_backoff=20.0, max_backoff=20.0)
HEDGE = HedgePolicy(delay=0.02)
BUDGET = BudgetPolicy(initial=50)


async def until(happened: Callable[[], Any], within: float = 5.0) -> None:
    """Wait for something that nobody tells of."""
    async with asyncio.timeout(within):
        while not happened():  # noqa: ASYNC110  # it happens in threads of the server
            await asyncio.sleep(0.002)


@dataclass
class Lab:
    """A channel with a policy, what the policy remembers, and what the server sees."""

    server: Flaky
    channel: Any
    state: PolicyState
    ledger: Ledger
    keys: list[str] = field(default_factory=list)

    def call(self, *acts: Act, path: str = READ, **options: Any) -> Any:
        """Start a call."""
        key = self.server.plan(acts)
        self.keys.append(key)
        shape = self.channel.unary_stream if path == READS else self.channel.unary_unary
        return shape(path)(b"request", metadata=(("key", key),), timeout=options.pop("timeout", 30), **options)

    async def arrived(self, count: int = 1, index: int = -1) -> None:
        """Wait until so many attempts of a call have arrived."""
        await until(lambda: len(self.server.seen(self.keys[index])) >= count)

    async def arrived_in_all(self, first: int, count: int) -> None:
        """Wait until so many attempts of all the calls from ``first`` on have arrived."""
        await until(lambda: sum(len(self.server.seen(key)) for key in self.keys[first:]) >= count)

    async def over(self, within: float = 1.0) -> None:
        """Wait until the server has nothing left to do, as nobody waits for it."""
        await until(lambda: not self.server.active, within)

    async def ends(self) -> list[str]:
        """Wait for all ends, and return how they came."""
        return [outcome.how for outcome in await asyncio.to_thread(self.ledger.outcomes)]

    def tokens(self) -> float:
        """Return the budget's tokens."""
        (tokens,) = self.state.budgets().values()
        return tokens


@contextlib.asynccontextmanager
async def connected(
    served: Served, policy: ClientPolicy, *, how: str = "wrapped", clock: Any = time.monotonic
) -> AsyncIterator[Lab]:
    """Connect to the flaky server; in the end, no task of ours is left."""
    server, address = served
    lab = Lab(server, None, PolicyState(), Ledger())
    if how == "wrapped":
        bare = grpc.aio.insecure_channel(address)
        lab.channel = wrap_channel(bare, policy, state=lab.state, observers=[lab.ledger], clock=clock)
    else:
        ours = client_interceptors(policy, state=lab.state, observers=[lab.ledger], target="flaky")
        lab.channel = grpc.aio.insecure_channel(address, interceptors=ours)
    async with lab.channel:
        yield lab
    await lab.over(12)
    await asyncio.sleep(0)
    assert [task for task in asyncio.all_tasks() if "grpc_faultwire" in repr(task.get_coro())] == []


async def result(call: Any) -> Any:
    return await (call if isinstance(call, grpc.aio.UnaryUnaryCall) else collected(call))


async def collected(call: Any) -> list[Any]:
    return [response async for response in call]

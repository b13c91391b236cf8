"""Whole operations that are tried again, and deadlines that servers hand on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import grpc_faultwire.aio.operation
import grpc_faultwire.sync.operation
from grpc_faultwire import Aborted, NotFound, RetryScope, StatusError, Unavailable
from grpc_faultwire.operation import deadline_from
from grpc_faultwire.policies import RetryPolicy
from grpc_faultwire.testing import FakeClock


def run(world: str, errors: list[StatusError], policy: RetryPolicy | None = None, **settings: Any) -> tuple[Any, Any]:
    """Run an operation that fails with these errors, then answers; return the answer or error, and the delays."""
    clock, delays, left = FakeClock(), [], list(errors)

    def sleep(seconds: float) -> None:
        delays.append(seconds)
        clock.advance(seconds)

    def function() -> str:
        if left:
            raise left.pop(0)
        return "done"

    settings |= {"clock": clock, "random": lambda: 0.5}
    try:
        if world == "sync":
            return grpc_faultwire.sync.operation.retry_operation(function, policy, sleep=sleep, **settings), delays

        async def aio_function() -> str:
            return function()

        async def aio_sleep(seconds: float) -> None:
            sleep(seconds)

        made = grpc_faultwire.aio.operation.retry_operation(aio_function, policy, sleep=aio_sleep, **settings)
        return asyncio.run(made), delays
    except StatusError as error:
        return error, delays


@pytest.mark.parametrize("world", ["sync", "aio"])
@pytest.mark.parametrize(
    ("make", "tried"),
    [
        pytest.param(Aborted, True, id="aborted"),
        pytest.param(lambda: NotFound(retry_scope=RetryScope.OPERATION), True, id="the error says so"),
        pytest.param(lambda: Aborted(retry_scope=RetryScope.NEVER), False, id="never"),
        pytest.param(Unavailable, False, id="a call's business"),
        pytest.param(NotFound, False, id="not found"),
    ],
)
def test_what_is_tried_again(world: str, make: Callable[[], StatusError], tried: bool) -> None:
    """An error whose scope is OPERATION begins the whole operation anew."""
    error = make()
    answer, delays = run(world, [error])
    assert answer == "done" if tried else answer is error
    assert len(delays) == tried


@pytest.mark.parametrize("world", ["sync", "aio"])
def test_limits(world: str) -> None:
    """Attempts, codes that the policy names, delays that the error asks for, and the time for all tries."""
    last = Aborted("last")
    assert run(world, [Aborted(), Aborted(), last])[0] is last
    named = RetryPolicy(retryable_codes=frozenset({"UNAVAILABLE"}))
    assert run(world, [Unavailable(), Aborted()], named)[0] == "done"
    assert run(world, [Aborted(retry_delay=2)])[1] == [pytest.approx(2.2)]
    late = Aborted(retry_delay=2)
    assert run(world, [late], timeout=1)[0] is late


class Context:
    def __init__(self, remaining: float | None) -> None:
        self._remaining = remaining

    def time_remaining(self) -> float | None:
        return self._remaining


@pytest.mark.parametrize(
    ("remaining", "margin", "expected"),
    [(None, 0, None), (9.2e18, 0, None), (5, 0, 5), (5, 1, 4), (0.5, 1, 0)],
)
def test_deadlines_are_handed_on(remaining: float | None, margin: float, expected: float | None) -> None:
    """What the caller has left, less a margin; None where there is no deadline, in either world's words."""
    assert deadline_from(Context(remaining), margin=margin) == expected


def test_a_margin_below_nothing() -> None:
    """Is refused."""
    with pytest.raises(ValueError, match="margin is -1"):
        deadline_from(Context(5), margin=-1)

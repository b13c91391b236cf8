"""from_rpc_error, on every kind of error and call object that there is in grpc.aio."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from aio_lab import KINDS, US, UU, Lab, Scripted, consume, lab
from test_aio_errors import Rich
from test_aio_others import single

from grpc_faultwire import errors
from grpc_faultwire.errors import Origin
from grpc_faultwire.status import from_rpc_error

kinds = pytest.mark.parametrize("kind", KINDS)
channels = pytest.mark.parametrize("how", ["bare", "intercepted", "official", "wrapped"])


def served(how: str, kind: str) -> Any:
    """A lab whose channel is bare, bare with somebody's interceptor, bare with ours, or wrapped."""
    if how == "intercepted":
        return lab("bare", interceptors=[single(kind)], servicers=[Rich()])
    return lab(how, servicers=[Rich()])


def rich(made: Lab, kind: str) -> Any:
    return getattr(made.channel, kind)(f"/rich/{kind}")(b"a" if kind in (UU, US) else iter([]))


@channels
@kinds
def test_errors_and_finished_calls(kind: str, how: str) -> None:
    """What a call raises and the call itself give the same typed error, in its event loop and after it."""

    async def run() -> tuple[Any, errors.StatusError]:
        async with served(how, kind) as made:
            call = rich(made, kind)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await consume(kind, call)
            from_error = from_rpc_error(caught.value)
            assert from_error.__cause__ is caught.value or from_error is caught.value
            assert from_rpc_error(from_error) is from_error
            for error in (from_error, from_rpc_error(call)):
                assert (type(error), error.reason) == (errors.FailedPrecondition, "BOOK_LOST")
                assert isinstance(error.trailing_metadata(), grpc.aio.Metadata)
            return call, from_error

    call, error = asyncio.run(run())
    again = from_rpc_error(call)
    assert (type(again), again.reason, again.origin) == (errors.FailedPrecondition, "BOOK_LOST", Origin.REMOTE)
    assert again.debug_error_string() == error.debug_error_string()


@channels
@kinds
def test_calls_under_way(kind: str, how: str) -> None:
    """An aio call that has not ended says so, since only a coroutine could wait; cancelled, it decodes."""

    async def run() -> None:
        async with served(how, kind) as made:
            call = made.call(kind, "hang")
            with pytest.raises(ValueError, match=rf"{type(call).__name__} has not ended: await it"):
                from_rpc_error(call)
            await made.until(("start", kind, [("x-passed", "yes")] if how == "intercepted" else []))
            assert call.cancel()
            assert await call.code() is grpc.StatusCode.CANCELLED
            error = from_rpc_error(call)
            assert (type(error), error.message) == (errors.Cancelled, "Locally cancelled by application!")

    asyncio.run(run())


@channels
def test_deadlines_and_answers(how: str) -> None:
    """A deadline decodes as any status; a call that did not fail has no error, which is Unknown."""

    async def run() -> None:
        async with served(how, UU) as made:
            late = made.call(UU, "hang", timeout=0.01)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await late
            assert type(from_rpc_error(caught.value)) is type(from_rpc_error(late)) is errors.DeadlineExceeded
            good = made.call(UU)
            await good
            assert type(from_rpc_error(good)) is errors.Unknown

    asyncio.run(run())


def test_calls_on_a_wrapped_channel_give_the_error_that_they_raise() -> None:
    """Nothing is lost on the way through the getters: a policy's refusal stays this side's."""

    async def run() -> None:
        async with lab(policy=Scripted([], refuse=(1, errors.Unavailable))) as made:
            call = made.call(UU)
            with pytest.raises(errors.Unavailable) as caught:
                await call
            error = from_rpc_error(call)
            assert error.error_id == caught.value.error_id
            assert error.origin is caught.value.origin

    asyncio.run(run())

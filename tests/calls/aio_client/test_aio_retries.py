"""A second attempt takes the place of the first, whatever the caller is doing meanwhile."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from typing import Any

import grpc
import grpc.aio
import pytest
from aio_lab import KINDS, SS, SU, US, UU, Lab, Scripted, consume, lab, status

from grpc_faultwire import errors
from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.flow import ATTEMPTS_KEY
from grpc_faultwire.records import Observer

TWICE = "fail:UNAVAILABLEx2"
ALWAYS = "fail:UNAVAILABLEx99"
VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
kinds = pytest.mark.parametrize("kind", KINDS)
request_streams = pytest.mark.parametrize("kind", [SU, SS])


def script(kind: str, *steps: str) -> str:
    """Steps that end as this kind's default does."""
    tail = {UU: "", US: "reply:2", SU: "drain", SS: "drain reply:2"}[kind]
    return " ".join([*steps, tail])


def expected(kind: str) -> Any:
    return {UU: b"0 requests", SU: b"2 requests"}.get(kind, [b"reply 0", b"reply 1"])


async def settled(made: Lab) -> None:
    await made.settled()


@kinds
def test_third_attempt_succeeds(kind: str) -> None:
    """A call that fails twice and then succeeds has succeeded for its caller, in three attempts and with one end."""

    async def run() -> None:
        policy = Scripted([0.01, 0.01])
        async with lab(policy=policy) as made:
            order: list[Any] = []
            call = made.call(kind, script(kind, TWICE))
            call.add_done_callback(lambda given: order.append((given is call, given.done())))
            assert await consume(kind, call) == expected(kind)
            assert await status(call) == (True, False, [*_returned(grpc.StatusCode.OK, ""), *_metadata(())], "str")
            assert order == [(True, True)]
            await settled(made)
            [end] = made.ends.outcomes
            assert (end.how, end.code, [one.delay for one in end.attempts]) == (
                "done",
                grpc.StatusCode.OK,
                [0.01, 0.01, None],
            )
        assert policy.finished == 1

    asyncio.run(run())


def _returned(*values: Any) -> list[Any]:
    return [("returned", value) for value in values]


def _metadata(pairs: Any) -> list[Any]:
    return _returned(grpc.aio.Metadata(*pairs), grpc.aio.Metadata(*pairs))


@kinds
def test_last_real_error(kind: str) -> None:
    """When attempts run out, the last attempt's error is raised, with the history, everywhere that grpc raises."""

    async def run() -> None:
        async with lab(policy=Scripted([0.01, 0.01])) as made:
            call = made.call(kind, script(kind, ALWAYS))
            with pytest.raises(errors.Unavailable, match="failure 3") as caught:
                await consume(kind, call)
            assert [attempt.number for attempt in caught.value.attempts] == [1, 2, 3]
            assert isinstance(caught.value.__cause__, grpc.aio.AioRpcError)
            assert (await call.code(), await call.details()) == (grpc.StatusCode.UNAVAILABLE, "failure 3")
            await settled(made)

    asyncio.run(run())


@kinds
def test_getters_wait_for_the_last_attempt(kind: str) -> None:
    """Getters that wait since the first attempt tell of the last one."""

    async def run() -> None:
        async with lab(policy=Scripted([0.01, 0.01])) as made:
            call = made.call(kind, script(kind, TWICE, "initial", "trail"))
            asking = [asyncio.ensure_future(getter()) for getter in (call.code, call.details, call.trailing_metadata)]
            initial = asyncio.ensure_future(call.initial_metadata())
            assert await consume(kind, call) == expected(kind)
            code, _, trailers = await asyncio.gather(*asking)
            assert (code, dict(tuple(trailers))["x-trailer"]) == (grpc.StatusCode.OK, "t")
            assert dict(tuple(await initial)) == {"x-initial": "i"}
            await settled(made)

    asyncio.run(run())


@pytest.mark.parametrize("kind", [US, SS])
def test_read_crosses_attempts(kind: str) -> None:
    """read() gives each response of the last attempt once."""

    async def run() -> None:
        async with lab(policy=Scripted([0.01, 0.01])) as made:
            call = made.call(kind, script(kind, TWICE))
            assert [await call.read() for _ in range(3)] == [b"reply 0", b"reply 1", grpc.aio.EOF]
            await settled(made)
            assert made.ends.messages["received"] == 2

    asyncio.run(run())


@pytest.mark.parametrize("reckless", [False, True], ids=["heedful-policy", "reckless-policy"])
@pytest.mark.parametrize("kind", [US, SS])
def test_delivered_responses_commit(kind: str, reckless: bool) -> None:
    """After the first response was delivered there is no other attempt, so nothing is delivered twice."""

    async def run() -> None:
        async with lab(policy=Scripted([0.01, 0.01], reckless=reckless)) as made:
            call = made.call(kind, f"drain reply:2 {ALWAYS}" if kind == SS else f"reply:2 {ALWAYS}")
            got = []

            async def read() -> None:
                async for response in call:
                    got.append(response)

            with pytest.raises(errors.Unavailable, match="failure 1"):
                await read()
            assert got == [b"reply 0", b"reply 1"]
            await settled(made)

    asyncio.run(run())


@request_streams
def test_written_requests_are_sent_again(kind: str) -> None:
    """What the caller has written goes to every attempt, in order, and is counted once."""

    async def run() -> None:
        async with lab(policy=Scripted([0.01, 0.01])) as made:
            call = made.call(kind, f"read:1 {TWICE} drain" + (" reply:1" if kind == SS else ""), requests=None)
            for number in range(4):
                await call.write(b"%d" % number)
                await asyncio.sleep(0.004)
            await call.done_writing()
            with pytest.raises(asyncio.InvalidStateError, match="half closed"):
                await call.write(b"more")
            assert await consume(kind, call) == (b"4 requests" if kind == SU else [b"reply 0"])
            await settled(made)
            last = made.seen[-made.seen[::-1].index(("start", kind, [])) :]
            assert last == [b"0", b"1", b"2", b"3", "ok"]
            assert made.ends.messages["sent"] == 4

    asyncio.run(run())


@request_streams
@pytest.mark.parametrize("source", ["iterator", "list", "asynchronous"])
def test_iterated_requests_are_sent_again(kind: str, source: str) -> None:
    """A one-shot iterator of requests is read once, and goes to every attempt whole."""

    async def asynchronous() -> Any:
        for request in (b"a", b"b"):
            yield request
            await asyncio.sleep(0.005)

    async def run() -> None:
        async with lab(policy=Scripted([0.01, 0.01])) as made:
            given = {"iterator": iter([b"a", b"b"]), "list": [b"a", b"b"], "asynchronous": asynchronous()}[source]
            call = made.call(kind, f"read:1 {TWICE} drain" + (" reply:1" if kind == SS else ""), requests=given)
            with pytest.raises(grpc.aio.UsageError):
                await call.write(b"c")
            with pytest.raises(grpc.aio.UsageError):
                await call.done_writing()
            assert await consume(kind, call) == (b"2 requests" if kind == SU else [b"reply 0"])
            await settled(made)
            assert made.ends.messages["sent"] == 2

    asyncio.run(run())


def test_bytes_are_kept_not_messages() -> None:
    """A caller that uses its message again after write() does not change what the next attempt sends."""

    async def run() -> None:
        async with lab(policy=Scripted([0.01])) as made:
            method = made.method(SU, request_serializer=bytes)
            call = method(metadata=(("script", "read:2 fail:UNAVAILABLEx1 drain"),))
            message = bytearray(b"one")
            await call.write(message)
            message[:] = b"two"
            await call.write(message)
            await call.done_writing()
            assert await call == b"2 requests"
            assert [event for event in made.seen if isinstance(event, bytes)] == [b"one", b"two"] * 2

    asyncio.run(run())


def test_too_many_requests_commit() -> None:
    """Requests beyond the limit are not kept, and the call is not tried again."""

    async def run() -> None:
        async with lab(policy=ClientPolicy(idempotent=True, replay_bytes=10)) as made:
            call = made.call(SU, f"drain {ALWAYS}", requests=None)
            for _ in range(20):
                await call.write(b"four")
            assert len(call._running.requests._written) == 0
            await call.done_writing()
            with pytest.raises(errors.Unavailable, match="failure 1"):
                await call
            assert made.seen.count(b"four") == 20
            await settled(made)

    asyncio.run(run())


@request_streams
def test_iterator_that_raises_cancels(kind: str) -> None:
    """An iterator of requests that raises cancels a call that might be tried again."""

    def requests() -> Any:
        yield b"a"
        raise ValueError("in the iterator")

    async def run() -> None:
        async with lab(policy=Scripted([0.01])) as made:
            call = made.call(kind, "read:1 hang", requests=requests())
            with pytest.raises(asyncio.CancelledError):
                await consume(kind, call)
            await settled(made)
            assert made.ends.hows == ["cancelled"]

    asyncio.run(run())


@pytest.mark.parametrize("how", ["wrapped", "official"])
@pytest.mark.parametrize("kind", [UU, US])
def test_context_and_metadata_of_retries(kind: str, how: str) -> None:
    """Attempts carry the caller's context variables, its metadata, and how many attempts went before."""
    contexts: list[str] = []

    class Injects(Observer):
        def inject(self, token: Any, attempt: Any) -> Any:
            contexts.append(VARIABLE.get())
            return [("x-injected", str(attempt.number))]

    async def run() -> None:
        async with lab(how, policy=Scripted([0.005, 0.005]), observers=[Injects()]) as made:
            VARIABLE.set("caller")
            metadata = grpc.aio.Metadata(("script", script(kind, TWICE)), ("x-mine", "m"))
            call = made.method(kind)(b"a", metadata=metadata)
            await asyncio.sleep(0)
            VARIABLE.set("later")
            assert await consume(kind, call) == expected(kind)
            starts = [event[2] for event in made.seen if event[0] == "start"]
            assert starts == [[("x-mine", "m"), ("x-injected", str(number))] for number in (1, 2, 3)]
            assert tuple(metadata) == (("script", script(kind, TWICE)), ("x-mine", "m"))

    asyncio.run(run())
    assert contexts == ["caller"] * 3
    assert ATTEMPTS_KEY == "faultwire-previous-attempts"


@kinds
def test_timeout_is_for_all_attempts(kind: str) -> None:
    """Each attempt gets what is left of the caller's timeout."""

    async def run() -> None:
        async with lab(policy=Scripted([0.02, 0.02])) as made:
            call = made.call(kind, script(kind, TWICE), timeout=60)
            await consume(kind, call)
            await settled(made)
            [end] = made.ends.outcomes
            first, second, third = [attempt.timeout for attempt in end.attempts]
            assert first == 60
            assert 30 < third < second < first

    asyncio.run(run())


@kinds
def test_refused_first_attempt(kind: str) -> None:
    """A call that a policy refuses sends nothing, and raises the policy's error where grpc would raise."""

    async def run() -> None:
        async with lab(policy=Scripted([], refuse=(1, errors.ResourceExhausted))) as made:
            call = made.call(kind)
            assert (call.done(), call.cancel(), call.cancelled()) == (True, False, False)
            late: list[Any] = []
            call.add_done_callback(late.append)
            assert late == [call]
            for _ in range(2):
                with pytest.raises(errors.ResourceExhausted, match="refused"):
                    await consume(kind, call) if kind in (UU, SU) else await call.read()
            with pytest.raises(errors.ResourceExhausted):
                await call.wait_for_connection()
            assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            if kind in (SU, SS):
                with pytest.raises(asyncio.InvalidStateError):
                    await made.call(kind, requests=None).write(b"a")
                await made.call(kind, requests=None).done_writing()
            assert made.seen == []
            assert set(made.ends.hows) == {"refused"}
            assert "RESOURCE_EXHAUSTED" in repr(call)
            await settled(made)

    asyncio.run(run())


@kinds
def test_refused_second_attempt(kind: str) -> None:
    """When another attempt is refused, the last real error is raised."""

    async def run() -> None:
        async with lab(policy=Scripted([0.01], refuse=(2, errors.ResourceExhausted))) as made:
            with pytest.raises(errors.Unavailable, match="failure 1"):
                await consume(kind, made.call(kind, script(kind, ALWAYS)))
            await settled(made)

    asyncio.run(run())


def test_cancelled_by_the_server_is_judged() -> None:
    """CANCELLED from the server is an error that policies judge; a local cancellation is none."""

    class Retries(Scripted):
        def begin(self, flow: Any) -> Any:
            decisions = super().begin(flow)
            decisions.decide = lambda attempt, now: 0.001 if attempt.error and attempt.number < 3 else None
            return decisions

    async def run() -> None:
        async with lab(policy=Retries([])) as made:
            with pytest.raises(errors.Cancelled, match="server says"):
                await made.call(UU, "abort:CANCELLED")
            call = made.call(UU, "hang")
            await made.until(("start", UU, []))
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await settled(made)
            assert [len(end.attempts) for end in made.ends.outcomes] == [3, 1]

    asyncio.run(run())


def test_no_task_is_left(caplog: pytest.LogCaptureFixture) -> None:
    """Retried calls leave no task, and nothing is logged."""

    async def run() -> None:
        async with lab(policy=Scripted([0.001, 0.001])) as made:
            for kind in KINDS:
                await consume(kind, made.call(kind, script(kind, TWICE)))
            await settled(made)
            await asyncio.sleep(0.01)
            ours = [task for task in asyncio.all_tasks() if "grpc_faultwire" in repr(task)]
            assert ours == []

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert caplog.records == []

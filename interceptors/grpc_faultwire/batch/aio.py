"""`BatchCaller` for grpc's asyncio API: a task for each request under way; all decisions are `BatchRun`'s."""

from __future__ import annotations

import asyncio
import random as random_numbers
import time
from collections.abc import Callable, Iterable
from typing import Any

import grpc
import grpc.aio

from grpc_faultwire.batch.answers import Answers, Read, Values
from grpc_faultwire.batch.policy import BatchPolicy
from grpc_faultwire.batch.result import BatchResult, Progress
from grpc_faultwire.batch.run import BatchRun, Request
from grpc_faultwire.batch.splitting import size_of
from grpc_faultwire.batch.streams import StreamReport
from grpc_faultwire.config import calling
from grpc_faultwire.policies import Budget
from grpc_faultwire.status import from_rpc_error

LONGEST_WAIT = 3600.0
"""Seconds after which a waiting batch looks around."""

_REQUEST_STREAMS = (grpc.aio.StreamUnaryMultiCallable, grpc.aio.StreamStreamMultiCallable)
_RESPONSE_STREAMS = (grpc.aio.UnaryStreamMultiCallable, grpc.aio.StreamStreamMultiCallable)


class BatchCaller:
    """As `grpc_faultwire.batch.sync.BatchCaller`, for grpc.aio.

    Args:
        method: of a stub, of any shape.
        request: makes a request, or the messages of a request stream, from a list of items.
        policy: how batches are split and sent again. Default: `BatchPolicy()`.
        values: see `Answers`.
        read: see `Answers`.
        size: from an item to its serialized bytes. Default: of protobuf messages, bytes and text.
        budget: what retries draw on: that of a wrapped channel, ``state.budget(target, policy)``. None: one for each
            batch.
        metadata: sent with every request.
        on_progress: called after each request; it must not block.
        clock: returns seconds that never go back.
        random: returns numbers in [0, 1), for jitter.
    """

    def __init__(
        self,
        method: Any,
        request: Callable[[list[Any]], Any],
        policy: BatchPolicy | None = None,
        *,
        values: Values | None = None,
        read: Read | None = None,
        size: Callable[[Any], int] = size_of,
        budget: Budget | None = None,
        metadata: tuple[tuple[str, str | bytes], ...] | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random_numbers.random,
    ) -> None:
        self.policy = policy or BatchPolicy()
        self._method = method
        self._request = request
        self._answers = Answers(values, read)
        self._size = size
        self._budget = budget
        self._metadata = metadata
        self._on_progress = on_progress
        self._clock = clock
        self._random = random

    def begin(self, items: Iterable[Any]) -> Batch:
        """Return a batch that `Batch.run` sends; it tells the truth about its items whenever it is asked.

        Args:
            items: any iterable; items are taken from it when there is room to send them.
        """
        run = BatchRun(items, self.policy, now=self._clock(), random=self._random, budget=self._budget, size=self._size)
        return Batch(self, run)

    async def send(self, items: Iterable[Any]) -> BatchResult:
        """Send a batch, and return what became of it: failed items are in the result.

        Args:
            items: see `begin`.

        Raises:
            Exception: what the iterable or the size function raised, once the items before have ended.
        """
        return await self.begin(items).run()


class Batch:
    """One batch.

    Args:
        caller: whose it is.
        run: what is decided about it.
    """

    def __init__(self, caller: BatchCaller, run: BatchRun) -> None:
        self._caller = caller
        self._run = run
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()

    async def run(self) -> BatchResult:
        """Send all items, and return what became of them. Once it is cancelled, `result` still tells.

        Raises:
            Exception: what the iterable or the size function raised, once the items before have ended.
        """
        try:
            while (step := self._run.next(self._caller._clock())) is not None:
                if isinstance(step, Request):
                    task = asyncio.create_task(self._exchange(step))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                else:
                    await self._wait(step)
        finally:
            self.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)
        if self._run.fault is not None:
            raise self._run.fault
        return self.result()

    def cancel(self) -> None:
        """Send nothing more, and give up what is under way."""
        self._run.abandon()
        for task in self._tasks:
            task.cancel()
        self._wake.set()

    def result(self) -> BatchResult:
        """Return what became of the items. Of a batch that goes on, it ends it: see `cancel`."""
        return self._run.result()

    def progress(self) -> Progress:
        """Return how far it is."""
        return self._run.progress()

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(min(seconds, LONGEST_WAIT)):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()
        if self._caller._on_progress is not None:
            self._caller._on_progress(self.progress())

    async def _exchange(self, request: Request) -> None:
        try:
            call = self._start(request)
            if call is not None:
                await self._receive(request, call)
        except grpc.RpcError as raised:
            self._caller._answers.failed(self._run, request, from_rpc_error(raised), self._caller._clock())
        except Exception as fault:  # noqa: BLE001  # whatever a deserializer or a user's function raises
            self._run.finish(request, None, self._caller._clock(), cause=fault)
        finally:
            self._run.drop(request)  # whatever has happened, nobody waits for it any more
            self._wake.set()

    def _start(self, request: Request) -> Any:
        caller = self._caller
        try:
            message = caller._request(request.items)
            with calling(idempotent=False):
                return caller._method(message, timeout=request.timeout, metadata=caller._metadata)
        except Exception as fault:  # noqa: BLE001  # a user's function, or grpc about what it made
            self._run.unsendable(request, fault, caller._clock())
            return None

    async def _receive(self, request: Request, call: Any) -> None:
        caller = self._caller
        if not isinstance(caller._method, _RESPONSE_STREAMS):
            response = await call
            caller._answers.responded(self._run, request, response, caller._clock())
            return
        report = StreamReport(len(request.entries))
        async for response in call:
            caller._answers.streamed(self._run, request, report, response)
        self._run.finish(request, None, caller._clock())

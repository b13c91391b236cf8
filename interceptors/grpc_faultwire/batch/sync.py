"""`BatchCaller` for grpc's synchronous API: a thread for each request under way; all decisions are `BatchRun`'s."""

from __future__ import annotations

import queue
import random as random_numbers
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

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
"""Seconds after which a waiting batch looks around: a queue cannot wait for ever and be interrupted everywhere."""

_REQUEST_STREAMS = (grpc.StreamUnaryMultiCallable, grpc.StreamStreamMultiCallable)
_RESPONSE_STREAMS = (grpc.UnaryStreamMultiCallable, grpc.StreamStreamMultiCallable)


class BatchCaller:
    """Sends batches to one method: split, concurrently, and the retryable items again.

    The channel's own retries see these calls as not idempotent, so that the two do not multiply.

    Args:
        method: of a stub, of any shape. A request stream is one batch of messages; of a response stream each response
            has the statuses of some items.
        request: makes a request, or the messages of a request stream, from a list of items. Called in the threads of
            the requests, as are ``values`` and ``read``.
        policy: how batches are split and sent again. Default: `BatchPolicy()`.
        values: see `Answers`.
        read: see `Answers`.
        size: from an item to its serialized bytes. Default: of protobuf messages, bytes and text.
        budget: what retries draw on: that of a wrapped channel, ``state.budget(target, policy)``. None: one for each
            batch.
        metadata: sent with every request.
        on_progress: called in the thread that runs the batch, after each request; it must not block.
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

    def send(self, items: Iterable[Any]) -> BatchResult:
        """Send a batch, and return what became of it: failed items are in the result.

        Args:
            items: see `begin`.

        Raises:
            Exception: what the iterable or the size function raised, once the items before have ended.
        """
        return self.begin(items).run()


class Batch:
    """One batch. `cancel` may be called from any thread.

    Args:
        caller: whose it is.
        run: what is decided about it.
    """

    def __init__(self, caller: BatchCaller, run: BatchRun) -> None:
        self._caller = caller
        self._run = run
        self._lock = threading.Lock()
        self._calls: dict[Request, Any] = {}
        self._cancelled = False
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()

    def run(self) -> BatchResult:
        """Send all items, and return what became of them.

        Raises:
            Exception: what the iterable or the size function raised, once the items before have ended.
        """
        with ThreadPoolExecutor(self._caller.policy.concurrency, thread_name_prefix="batch") as pool:
            try:
                while (step := self._next()) is not None:
                    if isinstance(step, Request):
                        pool.submit(self._exchange, step)
                    else:
                        self._wait(step)
            finally:
                # Without effect where all has ended; else nobody waits for the answers any more.
                self.cancel()
        if self._run.fault is not None:
            raise self._run.fault
        return self.result()

    def cancel(self) -> None:
        """Send nothing more, and give up what is under way."""
        with self._lock:
            self._cancelled = True
            calls = list(self._calls.values())
            self._run.abandon()
        for call in calls:
            call.cancel()
        self._ended.put(None)

    def result(self) -> BatchResult:
        """Return what became of the items. Of a batch that goes on, it ends it: see `cancel`."""
        with self._lock:
            self._cancelled = True
            return self._run.result()

    def progress(self) -> Progress:
        """Return how far it is."""
        with self._lock:
            return self._run.progress()

    def _next(self) -> Request | float | None:
        with self._lock:
            return self._run.next(self._caller._clock())

    def _wait(self, seconds: float) -> None:
        try:
            self._ended.get(timeout=min(seconds, LONGEST_WAIT))
        except queue.Empty:
            return
        if self._caller._on_progress is not None:
            self._caller._on_progress(self.progress())

    def _exchange(self, request: Request) -> None:
        try:
            call = self._start(request)
            if call is not None:
                self._receive(request, call)
        except grpc.RpcError as raised:
            error = from_rpc_error(raised)
            with self._lock:
                self._caller._answers.failed(self._run, request, error, self._caller._clock())
        except Exception as fault:  # noqa: BLE001  # whatever a deserializer or a user's function raises
            with self._lock:
                self._run.finish(request, None, self._caller._clock(), cause=fault)
        finally:
            with self._lock:
                self._run.drop(request)  # whatever has happened, nobody waits for it any more
                self._calls.pop(request, None)
            self._ended.put(None)

    def _start(self, request: Request) -> Any:
        caller = self._caller
        if self._cancelled:
            return None
        begin = caller._method if isinstance(caller._method, _RESPONSE_STREAMS) else caller._method.future
        try:
            message = caller._request(request.items)
            with calling(idempotent=False):
                call = begin(
                    iter(message) if isinstance(caller._method, _REQUEST_STREAMS) else message,
                    timeout=request.timeout,
                    metadata=caller._metadata,
                )
        except Exception as fault:  # noqa: BLE001  # a user's function, or grpc about what it made
            with self._lock:
                self._run.unsendable(request, fault, caller._clock())
            return None
        with self._lock:
            self._calls[request] = call
            cancelled = self._cancelled
        if cancelled:
            call.cancel()
        return call

    def _receive(self, request: Request, call: Any) -> None:
        caller = self._caller
        if not isinstance(caller._method, _RESPONSE_STREAMS):
            response = call.result()
            with self._lock:
                caller._answers.responded(self._run, request, response, caller._clock())
            return
        report = StreamReport(len(request.entries))
        for response in call:
            with self._lock:
                caller._answers.streamed(self._run, request, report, response)
        with self._lock:
            self._run.finish(request, None, caller._clock())

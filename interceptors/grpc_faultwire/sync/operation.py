"""`retry_operation`: a whole transaction, tried again when an error says that the operation may be."""

from __future__ import annotations

import random as random_numbers
import time
from collections.abc import Callable
from typing import TypeVar

import grpc

from grpc_faultwire.operation import OperationRetries
from grpc_faultwire.policies import RetryPolicy
from grpc_faultwire.status import from_rpc_error

T = TypeVar("T")


def retry_operation(
    function: Callable[[], T],
    policy: RetryPolicy | None = None,
    *,
    timeout: float | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
    random: Callable[[], float] = random_numbers.random,
) -> T:
    """Call a function, again from its beginning while its error says that the operation may be tried again.

    Args:
        function: the whole operation; it must begin anew each time.
        policy: how often, and with which delays; codes that it names are tried again too. Default: ``RetryPolicy()``.
        timeout: seconds for all tries together. None: no limit.
        clock: returns seconds that never go back.
        sleep: waits for so many seconds.
        random: returns numbers in [0, 1), for jitter.

    Raises:
        StatusError: what the last try ended with.
    """
    retries = OperationRetries(policy or RetryPolicy(), timeout=timeout, now=clock())
    while True:
        try:
            return function()
        except grpc.RpcError as raised:
            delay = retries.delay(from_rpc_error(raised), now=clock(), u=random())
            if delay is None:
                raise
        sleep(delay)

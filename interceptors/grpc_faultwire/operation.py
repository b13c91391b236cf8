"""What is bigger than a call: whole operations that are tried again, and deadlines that servers hand on."""

from __future__ import annotations

import dataclasses
from typing import Any

from grpc_faultwire.category import RetryScope
from grpc_faultwire.errors import StatusError
from grpc_faultwire.policies import Deadline, RetryPolicy, RetryState
from grpc_faultwire.presets import Circumstances, classify

_FOREVER = 1e9
"""grpc's sync contexts answer with centuries where there is no deadline."""


class OperationRetries:
    """The tries at one operation: whether, and after how long, it is begun anew.

    An operation is tried again after an error whose retry scope is OPERATION (by its code, ABORTED: AIP-194), or whose
    code the policy names.

    Args:
        policy: how often, and with which delays.
        timeout: seconds for all tries together. None: no limit.
        now: seconds on the monotonic clock.
    """

    def __init__(self, policy: RetryPolicy, *, timeout: float | None, now: float) -> None:
        self._policy = policy
        self._state = RetryState(dataclasses.replace(policy, retryable_codes=None))
        self._deadline = Deadline.after(timeout, now)
        self._tries = 0

    def delay(self, error: StatusError, *, now: float, u: float) -> float | None:
        """Return the seconds before the next try; None: the error stands.

        Args:
            error: what this try ended with.
            now: seconds on the monotonic clock.
            u: a random number in [0, 1).
        """
        self._tries += 1
        verdict = classify(error, Circumstances(idempotent=True))
        named = self._policy.retryable_codes
        if error.retry_scope is not RetryScope.OPERATION and (named is None or verdict.code not in named):
            return None
        # What forbids to send the call again says nothing of the operation, whose calls are new ones.
        verdict = verdict._replace(retryable=True, scope=None, stop=False)
        decision = self._state.decide(verdict, attempt=self._tries, now=now, u=u, deadline=self._deadline)
        return decision.delay


def deadline_from(context: Any, *, margin: float = 0.0) -> float | None:
    """Return the timeout that a handler may give the calls it makes: what its own caller has left.

    Args:
        context: the handler's context, sync or aio.
        margin: seconds to keep for the handler's own answer.

    Returns:
        Seconds, at least 0; None if the caller set no deadline.

    Raises:
        ValueError: a margin below 0.
    """
    if margin < 0:
        raise ValueError(f"margin is {margin!r}; it must be 0 or more.")
    remaining = context.time_remaining()
    return None if remaining is None or remaining > _FOREVER else max(0.0, remaining - margin)

"""The verdict on one attempt: the only thing about an error that policies look at.

A classifier, which knows gRPC, makes verdicts; policies, which do not, act on them. So every policy judges an
attempt alike, and a caller who disagrees changes one function.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from grpc_faultwire.category import Category, RetryScope

RETRY_COST = 5.0
"""Budget tokens that a retry costs: with one token per success, at most one call in five is retried for long."""

TIMEOUT_COST = 10.0
"""Budget tokens that a retry after a timeout costs: a server that lets calls time out is the most overloaded kind."""


class Health(enum.Enum):
    """What an attempt tells about the server, for circuit breakers and budgets."""

    SUCCESS = "success"
    """The server answered in time, be it with INVALID_ARGUMENT: a refusal shows a server that works."""
    FAILURE = "failure"
    """The server, or the way to it, failed."""
    NEUTRAL = "neutral"
    """Nothing can be told: our own cancels, losing hedges, local refusals, quota, deadlines without fair time."""


class Verdict(NamedTuple):
    """What one finished attempt means to retry, budget, breaker and hedge.

    The defaults are the verdict on a success, which exists once, as ``OK``.

    How a classifier fills it:

    * ``code`` and ``category`` from the status and its details.
    * ``retryable`` is the classifier's own opinion, from the code, the category, the method's idempotency and
      whether RetryInfo came. A ``RetryPolicy`` that names codes does not ask for it.
    * ``scope`` only if the *error* declared one (a report or a catalogue entry). A code's usual scope is an
      assumption: it belongs in ``retryable``, else no policy could overrule it.
    * ``health`` from the code and from who made the error: one made in this process by a policy is NEUTRAL, a
      DEADLINE_EXCEEDED is a FAILURE only if ``deadline.had_fair_time()``, RESOURCE_EXHAUSTED only if it means
      overload and not quota.
    * ``cost`` is ``TIMEOUT_COST`` for an attempt that timed out.
    * ``delay``, ``pushback`` and ``stop`` from RetryInfo and the ``grpc-retry-pushback-ms`` trailer.

    Attributes:
        code: name of the status code as gRFC A6 spells it (``"UNAVAILABLE"``), or ``"OK"``.
        category: what kind of failure; None for a success.
        retryable: this request may be sent again.
        health: what it tells about the server.
        cost: budget tokens that a retry of it takes.
        delay: seconds that google.rpc.RetryInfo asked for, finite and not negative: a *minimum*, which policies
            jitter upward so that the callers do not return all at once. None if it was not there.
        pushback: seconds that ``grpc-retry-pushback-ms`` asked for, finite and not negative: exact (gRFC A6), unless
            ``delay`` is there too; then it is a minimum as well. None if it was not there.
        stop: the server forbade retries: the pushback was negative or could not be parsed (gRFC A6).
        scope: what the error declared may be tried again; None if it declared nothing. Anything but REQUEST keeps
            this call from being retried as it is, whatever else allows it.
    """

    code: str = "OK"
    category: Category | None = None
    retryable: bool = False
    health: Health = Health.SUCCESS
    cost: float = RETRY_COST
    delay: float | None = None
    pushback: float | None = None
    stop: bool = False
    scope: RetryScope | None = None

    def allowed_by(self, codes: frozenset[str] | None) -> bool:
        """Whether the request may be sent again under a policy that names these codes (None: it names none).

        Naming a code is consent to repeat the call, so it replaces ``retryable``. It overrules neither the
        server's ``stop`` nor the scope that the error declared.
        """
        if self.stop or (self.scope is not None and self.scope is not RetryScope.REQUEST):
            return False
        return self.retryable if codes is None else self.code in codes


OK = Verdict()
"""The verdict on a success."""

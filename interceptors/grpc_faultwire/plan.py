"""What is decided before a call begins: the plan of its method, and what the policies may be asked.

The protocols stand here, below the flow that asks and the policies that answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

from grpc_faultwire.audience import Audience, Tokens
from grpc_faultwire.errors import StatusError
from grpc_faultwire.records import OK, Attempt, CallInfo, Event, Kind, Outcome

REPLAY_BYTES = 256 * 1024
"""Serialized requests of one call that are kept for another attempt; with more, the call is not retried."""

UNANSWERED = object()
"""What a fallback gives that has no answer."""


Begun = tuple[Attempt, Tokens]
"""A call that has begun without a flow: its first attempt, and what the observers know it by."""


class Noting(Protocol):
    """What decisions need of a flow."""

    plan: Plan
    attempts: list[Attempt]
    committed: bool
    delivered: bool
    started: float
    timeout: float | None

    def note(self, event: Event) -> None:
        """Keep an event for the observers."""


class Decisions:
    """What the policies decide about one call. Called under the flow's lock, unless it says otherwise.

    This one lets every call be one attempt.

    Attributes:
        final: the attempt that was judged last ends the call, whatever others are out.
        refresh: what to call before the next attempt, once, with the error that asked for it; None: nothing.
        resume: makes the request that continues a response stream, from the first request and the last response.
    """

    final: bool = False
    refresh: Callable[[], Any] | None = None
    resume: Callable[[Any, Any], Any] | None = None

    def admit(self, attempt: Attempt, now: float) -> None:
        """Let an attempt pass: it may shorten ``attempt.timeout``, and leave a ``permit``.

        Raises:
            StatusError: the attempt is refused, and nothing must be sent.
        """

    def decide(self, attempt: Attempt, now: float) -> float | None:
        """Judge an attempt that has ended, OK or not: record its permit, and return the delay before the next one."""

    def release(self, attempt: Attempt, now: float) -> None:
        """Give back the permit of an attempt whose end tells nothing: it was cancelled, or lost to another."""

    def give_up(self) -> None:
        """Learn that the attempt that was decided cannot be made."""

    def pending(self) -> bool:
        """Whether another attempt has been decided and not been sent, whatever becomes of those in flight."""
        return False

    def finish(self) -> None:
        """Learn that the call is over: a retry that was decided will not be sent."""

    def healthy(self, attempt: Attempt, now: float) -> None:
        """Learn that part of the answer has come: a stream may last for hours before it ends."""

    def hedge_in(self, now: float) -> float | None:  # noqa: ARG002  # for those that hedge
        """Return the seconds until another attempt is due beside those in flight; None: none will be."""
        return None

    def expects(self) -> bool:
        """Whether an attempt may follow now: of a hedged call, several failures may bring about one and the same."""
        return True

    def take_hedge(self) -> bool:
        """Whether the attempt that is due may be sent beside the others."""
        return False

    def covers(self, error: StatusError) -> bool:  # noqa: ARG002  # for those with fallbacks
        """Whether there may be an answer in place of this error."""
        return False

    def fall_back(self, error: StatusError, request: Any, now: float) -> Any:  # noqa: ARG002  # for those with fallbacks
        """Return the answer in place of an error, or UNANSWERED. Not under the lock: it runs users' functions."""
        return UNANSWERED


class Policies(Protocol):
    """What the policies decide about a method."""

    def begin(self, flow: Noting) -> Decisions | None:
        """Return the decisions about a call that begins; None: every attempt is the only one."""
        ...


class BriefPolicies(Policies, Protocol):
    """Policies that can do with less for a call that is one attempt and OK, as most are."""

    def first(self, now: float, timeout: float | None) -> Attempt | None:
        """Return the first attempt of a call, admitted; None: something about the call is special, so ask `begin`."""
        ...

    def succeeded(self, attempt: Attempt, now: float, judged: bool) -> None:  # noqa: FBT001  # keywords take time
        """Learn that the first attempt has ended with OK; ``judged``: somebody wants to know what a breaker says."""

    def following(self, flow: Noting) -> Decisions | None:
        """Return the decisions about a call whose first attempt has not."""
        ...


class PolicySource(Protocol):
    """What the policies of a channel are taken from."""

    def for_method(self, call: CallInfo) -> Policies | None:
        """Return what decides about this method; None: nothing does, and every call is one attempt."""
        ...


class Plan:
    """What all calls of a method have in common: one for each multi-callable.

    Args:
        call: what is called.
        clock: returns seconds that never go back, such as `time.monotonic`.
        audience: the observers.
        policies: what decides about attempts, `Policies` or `BriefPolicies`. None: every call is one attempt.
        random: returns numbers in [0, 1), for jitter.

    Attributes:
        brief: the policies, if they are `BriefPolicies`.
        timeout: seconds for a call whose caller gives none, as the policies say.
        hedges: whether further attempts may be sent beside those in flight.
        learn: what is told of every good answer: request, response, clock reading. None: nothing is.
        replay_bytes: bytes of a request stream that are kept for another attempt.
        simple: whether calls may do without a flow until something goes wrong: see `begin`.
        wait_for_ready: for calls whose caller does not say.
    """

    __slots__ = (
        "audience",
        "brief",
        "call",
        "clock",
        "hedges",
        "learn",
        "policies",
        "random",
        "replay_bytes",
        "simple",
        "timeout",
        "wait_for_ready",
    )

    def __init__(
        self,
        call: CallInfo,
        *,
        clock: Callable[[], float],
        audience: Audience,
        policies: Policies | None = None,
        random: Callable[[], float] | None = None,
    ) -> None:
        self.call = call
        self.clock = clock
        self.audience = audience
        self.policies = policies
        self.brief = cast("BriefPolicies | None", policies if hasattr(policies, "first") else None)
        self.random = random
        self.timeout: float | None = getattr(policies, "timeout", None)
        self.hedges: bool = getattr(policies, "hedge", None) is not None
        self.learn: Callable[[Any, Any, float], None] | None = getattr(policies, "learn", None)
        self.replay_bytes: int = getattr(policies, "replay_bytes", REPLAY_BYTES)
        self.wait_for_ready: bool | None = getattr(policies, "wait_for_ready", None)
        self.simple = (
            policies is self.brief
            and not (self.hedges or self.learn or audience.activates or audience.injects)
            and self.wait_for_ready is None
            and call.kind is Kind.UNARY
        )

    def begin(self, timeout: float | None) -> Begun | None:
        """Begin a call that nobody but its caller can end, while nothing about it is special.

        It is as cheap as it may be: nothing is locked, and nothing is prepared for what policies decide after failures.
        Unless it ends with OK (see `succeed`), a `Flow` goes on with it.

        Args:
            timeout: seconds that the caller allows.

        Returns:
            None: nothing has begun, and it takes a flow.
        """
        if timeout is None:
            timeout = self.timeout
        elif not isinstance(timeout, float | int):
            return None
        now = self.clock()
        attempt = Attempt(1, now, timeout) if self.brief is None else self.brief.first(now, timeout)
        if attempt is None:
            return None
        audience = self.audience
        tokens = audience.start(self.call)
        if audience.on_attempt_start:
            audience.tell(audience.on_attempt_start, tokens, attempt)
        return attempt, tokens

    def succeed(self, attempt: Attempt, tokens: Tokens) -> None:
        """End a call that `begin` began, with OK."""
        audience = self.audience
        attempt.ended = now = self.clock()
        if self.brief is not None:
            self.brief.succeeded(attempt, now, audience.hears_ends)
        if audience.on_attempt_end:
            audience.tell(audience.on_attempt_end, tokens, attempt)
        if audience.hears_ends:
            audience.ended(tokens, Outcome(OK, now - attempt.started, "done", None, (attempt,)))

"""What a wrapped channel takes its decisions from: a policy, method by method, and what it remembers."""

from __future__ import annotations

import logging
from typing import Any

from grpc_faultwire.config import CALL_OPTIONS, NOTHING_SAID, CallOptions, ClientPolicy, by_service
from grpc_faultwire.decisions import CallDecisions, name_of
from grpc_faultwire.plan import Noting
from grpc_faultwire.policies import OK, Breaker, BreakerState, Budget, Health, Latencies, Permit, Refusal
from grpc_faultwire.presets import is_idempotent, is_safe
from grpc_faultwire.records import Attempt, CallInfo, Judgement, Kind
from grpc_faultwire.redaction import encodable
from grpc_faultwire.state import PolicyState

_SUCCESS = Health.SUCCESS
_LOGGER = logging.getLogger(__name__)


class Enforcement:
    """A policy and what it remembers: what a wrapped channel takes its decisions from.

    Args:
        policy: the caller's.
        state: shared or the channel's own.
    """

    def __init__(self, policy: ClientPolicy, state: PolicyState | None = None) -> None:
        self.policy = policy
        self.state = state or PolicyState()

    def for_method(self, call: CallInfo) -> MethodPolicies | None:
        """Return what decides about a method; None: it is exempt."""
        settings = self.policy.for_call(call)
        return None if settings is None else MethodPolicies(call, settings, self.state)


class MethodPolicies:
    """What all calls of a method have in common, looked up once.

    Attributes:
        settings: the policy, with what was overridden for this method.
        idempotent: what policy and proto say.
        hedge: for methods with one request and one response; None if they are not hedged.
        learn: what the fallbacks are told of good answers with; None if none of them learns.
        resume: for methods with one request and a stream of responses.
        watched: whether calls that are overdue count as failed; streams are meant to last.
    """

    def __init__(self, call: CallInfo, settings: ClientPolicy, state: PolicyState) -> None:
        self.call = call
        self.settings = settings
        self.state = state
        self.enforced = settings.mode == "enforce"
        self.idempotent = is_idempotent(call) if settings.idempotent is None else settings.idempotent
        safe = is_safe(call) or settings.idempotent is True
        self.hedge = settings.hedge if safe and self.enforced and call.kind is Kind.UNARY else None
        self.resume = settings.resume if self.enforced and call.kind is Kind.SERVER_STREAM else None
        learns = any(fallback.learn is not None for fallback in settings.fallbacks)
        self.learn = self._learn if learns and self.enforced and call.kind is Kind.UNARY else None
        self.replay_bytes = settings.replay_bytes
        self.wait_for_ready = settings.wait_for_ready
        self.timeout = settings.timeout
        self.watched = not call.kind.response_streaming
        self._budget: Budget | None = None
        self._breaker: Breaker | None = None
        self._key = by_service(call) if settings.breaker_key is by_service else None
        asks = self._key is None and settings.breaker is not None
        self._is_special = asks or self.hedge is not None or self.learn is not None
        self._judged: tuple[Breaker | None, dict[int, Judgement]] = None, {}
        self._refusing: tuple[Breaker | None, BreakerState | None, tuple[str, str]] = None, None, ("", "")
        self.latencies: Latencies | None = (
            state.latencies((call.target, call.full_method)) if self.hedge is not None else None
        )

    def begin(self, flow: Noting) -> CallDecisions | None:
        """Return the decisions about a call that begins; None if the call wants none."""
        options = CALL_OPTIONS.get()
        return self._decisions(flow, options) if options.policy else None

    def following(self, flow: Noting) -> CallDecisions:
        """Return the decisions about a call whose attempt `first` returned, whoever asks."""
        return self._decisions(flow, NOTHING_SAID)

    def _decisions(self, flow: Noting, options: CallOptions) -> CallDecisions:
        breaker = self._breaker
        if breaker is None or breaker.forgotten:
            breaker = self._find_breaker()
        else:
            breaker.used = True
        idempotent = self.idempotent if options.idempotent is None else options.idempotent
        return CallDecisions(self, flow, self._find_budget(), breaker, idempotent)

    def first(self, now: float, timeout: float | None) -> Attempt | None:
        """Return the first attempt of a call that nothing is special about, admitted; None: ask `begin`."""
        if self._is_special or CALL_OPTIONS.get() is not NOTHING_SAID:
            return None
        if self._budget is None:
            self._find_budget()
        breaker = self._breaker
        if breaker is None or breaker.forgotten:
            breaker = self._find_breaker()
        permit: Permit | Refusal | None = None
        if breaker is not None:
            if not breaker.passing:
                return None
            breaker.used = True
            permit = breaker.acquire(now, timeout, self.watched)
            if isinstance(permit, Refusal) or permit.shadowed:  # it has opened just now
                return None
        limit = self.settings.attempt_timeout
        if limit is not None and (timeout is None or timeout > limit):
            timeout = limit
        return Attempt(1, now, timeout, permit)

    def succeeded(self, attempt: Attempt, now: float, judged: bool) -> None:  # noqa: FBT001  # as the protocol has it
        """Credit the breaker and the budget with an attempt that `first` returned."""
        permit = attempt.permit
        if permit is not None:
            permit.record(_SUCCESS, now)
            if judged:
                attempt.judged = self.judged(permit.breaker, _SUCCESS)
        if self._budget is not None:
            self._budget.credit(OK)

    def _find_budget(self) -> Budget | None:
        if self._budget is None and self.settings.budget is not None:
            self._budget = self.state.budget(self.call.target, self.settings.budget)
        return self._budget

    def _find_breaker(self) -> Breaker | None:
        """Return the breaker of this call's key, and keep it if all calls of the method have that."""
        policy = self.settings.breaker
        if policy is None:
            return None
        if self._key is None:
            return self.state.breaker(self.settings.breaker_key(self.call), policy)
        self._breaker = self.state.breaker(self._key, policy)
        return self._breaker

    def judged(self, breaker: Breaker, health: Health) -> Judgement:
        """Return what a breaker made of an attempt: the same object for all that it judged alike."""
        known, judgements = self._judged
        if known is not breaker:
            judgements = {}
            self._judged = breaker, judgements
        found = judgements.get(id(health))  # by identity: an enum's hash is a function in Python
        if found is None:
            found = judgements[id(health)] = Judgement(name_of(breaker.key), health.value)
        return found

    def refusing(self, breaker: Breaker, state: BreakerState) -> tuple[str, str]:
        """Return what a breaker and its state are called when a call is refused: looked up once for each state."""
        known, at, named = self._refusing
        if known is not breaker or at is not state:
            named = encodable(name_of(breaker.key)), state.value
            self._refusing = breaker, state, named
        return named

    def _learn(self, request: Any, response: Any, now: float) -> None:
        for fallback in self.settings.fallbacks:
            if fallback.learn is not None:
                try:
                    fallback.learn(f"/{self.call.full_method}", request, response, now)
                except Exception:  # the answer is good, whatever a user's function makes of it
                    _LOGGER.exception("The fallback %s could not learn an answer", fallback.name)

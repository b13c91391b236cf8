"""The policies of one call, as its flow asks for them: admit an attempt, judge it, wait or give up.

deadline( retry or hedge( budget → breaker.acquire → attempt timeout → wire ))
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from grpc_faultwire.errors import StatusError
from grpc_faultwire.fallback import Failed
from grpc_faultwire.observers import names
from grpc_faultwire.plan import UNANSWERED, Decisions, Noting
from grpc_faultwire.policies import (
    OK,
    Breaker,
    Budget,
    Deadline,
    Decision,
    HedgePolicy,
    HedgeState,
    HedgeStep,
    Reason,
    Refusal,
    RetryPolicy,
    RetryState,
    Verdict,
    had_fair_time,
)
from grpc_faultwire.presets import FAIR_TIME, Circumstances, circuit_open, classify, refreshable
from grpc_faultwire.records import CODE_NAMES, Attempt, Event

if TYPE_CHECKING:
    from grpc_faultwire.enforcement import MethodPolicies


_NO_DEADLINE = Deadline()
_REASONS = {id(reason): reason.value for reason in Reason}


class CallDecisions(Decisions):
    """What the policies decide about one call; the flow calls it under its lock."""

    __slots__ = (
        "_breaker",
        "_budget",
        "_hedge",
        "_idempotent",
        "_method",
        "_promised",
        "_refreshed",
        "_retry",
        "final",
        "flow",
        "refresh",
        "resume",
    )

    def __init__(
        self,
        method: MethodPolicies,
        flow: Noting,
        budget: Budget | None,
        breaker: Breaker | None,
        idempotent: bool,  # noqa: FBT001  # internal, and keywords take time
    ) -> None:
        self._method = method
        self.flow = flow
        self._idempotent = idempotent
        self._budget = budget
        self._breaker = breaker
        self._retry: RetryState | None = None
        self._hedge: HedgeState | None = None
        self._refreshed = 0
        self._promised = False
        self.final = False
        self.refresh = None
        self.resume = method.resume

    # As the flow asks.

    def admit(self, attempt: Attempt, now: float) -> None:
        """Let an attempt pass, with its timeout and the breaker's permit.

        Raises:
            StatusError: the circuit is open.
        """
        hedges = self._hedge is not None and not self._promised
        self.refresh, self._promised = None, False
        if self._breaker is not None:
            permit = self._breaker.acquire(now, attempt.timeout, self._method.watched)
            if isinstance(permit, Refusal):
                if self._hedge is not None:
                    self._note(names.HEDGE, attempt=attempt.number, result="circuit_open")
                    self._hedge.unsent()
                self._reject(permit, self._breaker)
            else:
                attempt.permit = permit
                if permit.shadowed:
                    name, word = self._method.refusing(self._breaker, self._breaker.state)
                    self._note(names.CIRCUIT_REJECTED, breaker=name, state=word, retry_after=None)
        if hedges:
            self._note(names.HEDGE, attempt=attempt.number, result="sent")
        limit = self._method.settings.attempt_timeout
        if limit is not None and (attempt.timeout is None or attempt.timeout > limit):
            attempt.timeout = limit
        if self._retry is not None:
            self._retry.sent()
        if self._method.hedge is not None:
            self._launched(self._method.hedge, now)

    def decide(self, attempt: Attempt, now: float) -> float | None:
        """Judge an attempt that has ended, and return the delay before the next one; None: there is none."""
        verdict = OK if attempt.error is None else self._verdict(attempt, now)
        if attempt.permit is not None and self._breaker is not None:
            attempt.permit.record(verdict.health, now)
            if self.flow.plan.audience.hears_ends:
                attempt.judged = self._method.judged(self._breaker, verdict.health)
        if self._hedge is not None:
            return self._settle_hedge(self._hedge, attempt, verdict, now)
        if attempt.error is None:
            if self._budget is not None:
                self._budget.credit(OK)
            return None
        if self._refreshes(attempt.error):
            return 0.0
        retry = self._method.settings.retry
        if retry is None:
            return None
        decision = self._decide_retry(retry, attempt, verdict, now)
        if self.flow.plan.audience.on_event:
            self._note_retry(attempt.error, attempt.number, decision)
        if not self._method.enforced:
            self._unsent()
            return None
        return decision.delay

    def release(self, attempt: Attempt, now: float) -> None:  # noqa: ARG002  # the flow's protocol
        """Give back the permit of an attempt whose end tells nothing."""
        if attempt.permit is not None:
            attempt.permit.release()

    def healthy(self, attempt: Attempt, now: float) -> None:
        """Credit an attempt's first message: a long stream must not keep a circuit half-open for hours."""
        if attempt.permit is not None:
            attempt.permit.healthy(now)

    def give_up(self) -> None:
        """Learn that the attempt that was decided cannot be made."""
        self.refresh, self._promised = None, False
        self.finish()

    def finish(self) -> None:
        """Learn that the call is over: what was taken for a retry that will not be sent goes back."""
        if self._retry is not None:
            self._retry.unsent()
        if self._hedge is not None:
            self._hedge.unsent()

    def hedge_in(self, now: float) -> float | None:
        """Return the seconds until another attempt is due beside those in flight; None: none will be."""
        return None if self._hedge is None or self._promised else self._hedge.due_in(now)

    def pending(self) -> bool:
        """Whether another attempt has been decided and not been sent, whatever becomes of those in flight."""
        return self._promised

    def expects(self) -> bool:
        """Whether an attempt may follow now."""
        return self._hedge is None or self._promised

    def take_hedge(self) -> bool:
        """Whether the budget lets the hedge go that is due."""
        # Its alarm may ring after a failure has made the next attempt due at once, or after the last one was sent.
        if self._hedge is None or self._promised or self._hedge.due_in(self.flow.plan.clock()) is None:
            return False
        taken = self._hedge.take()
        if not taken:
            self._note(names.HEDGE, attempt=len(self.flow.attempts) + 1, result="budget")
        return taken

    def covers(self, error: StatusError) -> bool:
        """Whether one of the fallbacks is for this error, and nothing has been delivered yet."""
        fallbacks = self._method.settings.fallbacks
        if not fallbacks or not self._method.enforced or self.flow.delivered:
            return False
        return any(fallback.covers(error) for fallback in fallbacks)

    def fall_back(self, error: StatusError, request: Any, now: float) -> Any:
        """Return what is answered in place of an error, or UNANSWERED. Runs users' functions: not under the lock."""
        failed = Failed(error, f"/{self._method.call.full_method}", request, now)
        for fallback in self._method.settings.fallbacks:
            if fallback.covers(error):
                try:
                    answer = fallback.answer(failed)
                except Exception:  # noqa: BLE001  # whatever a user's function raises, the call's own error stands
                    answer = UNANSWERED
                result = "failed" if answer is UNANSWERED else "answered"
                self._note(names.FALLBACK, **_of(error), fallback=fallback.name, result=result)
                if answer is not UNANSWERED:
                    return answer
        return UNANSWERED

    # Retries.

    def _verdict(self, attempt: Attempt, now: float) -> Verdict:
        limit = self._method.settings.attempt_timeout
        had = now - attempt.started if attempt.timeout is None else attempt.timeout
        circumstances = Circumstances(
            idempotent=self._idempotent,
            fair=had_fair_time(had, limit, FAIR_TIME),
            cut_short=limit is not None and attempt.timeout is not None and attempt.timeout >= limit,
        )
        return classify(attempt.error, circumstances)

    def _decide_retry(self, policy: RetryPolicy, attempt: Attempt, verdict: Verdict, now: float) -> Decision:
        if self._retry is None:
            self._retry = RetryState(policy, self._budget)
        if not verdict.allowed_by(policy.retryable_codes):  # the rest is of no interest then
            return self._retry.decide(verdict, attempt=attempt.number, now=now, u=0.5, deadline=_NO_DEADLINE)
        random = self.flow.plan.random
        return self._retry.decide(
            verdict,
            attempt=attempt.number,
            now=now,
            u=random() if random is not None else 0.5,
            deadline=self._deadline(),
            committed=self.flow.committed,
            blocked_for=self._breaker.blocked_for(now) if self._breaker is not None else 0.0,
        )

    def _deadline(self) -> Deadline:
        return Deadline.after(self.flow.timeout, self.flow.started)

    def _refreshes(self, error: StatusError) -> bool:
        """Whether the hook is to be asked for credentials: once for each call."""
        refresh = self._method.settings.refresh
        over = self._refreshed or self.flow.committed or not self._method.enforced
        if refresh is None or over or not refreshable(error):
            return False
        self._refreshed, self.refresh = len(self.flow.attempts), functools.partial(refresh, error)
        return True

    def _unsent(self) -> None:
        if self._retry is not None:
            self._retry.unsent()

    def _note_retry(self, error: StatusError, attempt: int, decision: Decision) -> None:
        reason = _REASONS[id(decision.reason)]
        if decision.reason is Reason.RETRIED:
            self._note(names.RETRY, **_of(error), attempt=attempt, decision=reason, delay=decision.delay)
        else:
            self._note(names.RETRY_STOPPED, **_of(error), attempt=attempt, decision=reason)
        self._note_budget()

    # Hedges.

    def _launched(self, policy: HedgePolicy, now: float) -> None:
        if self._hedge is None:
            delay = policy.delay_by(self._method.latencies)
            self._hedge = HedgeState(policy, delay=delay, budget=self._budget)
        self._hedge.launched(now)

    def _settle_hedge(self, hedge: HedgeState, attempt: Attempt, verdict: Verdict, now: float) -> float | None:
        if attempt.error is not None and self._refreshes(attempt.error):
            self._promised = True
            hedge.replaced(now)
            return 0.0
        if attempt.error is not None and attempt.number <= self._refreshed and refreshable(attempt.error):
            hedge.lost()  # it went out with the old credentials, and says nothing new
            return None
        step = hedge.settle(verdict, now)
        if attempt.error is None and self._method.latencies is not None:
            self._method.latencies.add(now - attempt.started)
        self._note_budget()
        if step is HedgeStep.FINISH:
            self.final = True
            return None
        if self.refresh is not None:
            return None  # whoever asks for credentials sends the next one
        due = hedge.due_in(now)
        if due is not None and not self._deadline().fits(due, now):
            self._note(names.HEDGE, attempt=len(self.flow.attempts) + 1, result="deadline")
            due = None
        if due is None:
            hedge.unsent()
        self._promised = due is not None and (self._promised or hedge.take())
        return due if self._promised else None

    # The breaker.

    def _reject(self, refusal: Refusal, breaker: Breaker) -> None:
        name, word = self._method.refusing(breaker, refusal.state)
        if self.flow.plan.audience.on_event:
            self._note(names.CIRCUIT_REJECTED, breaker=name, state=word, retry_after=refusal.retry_after)
        if self._method.enforced:
            raise circuit_open(name, word, refusal.retry_after)

    # Telling.

    def _note_budget(self) -> None:
        tokens = getattr(self._budget, "tokens", None)
        if tokens is not None:
            self._note(names.BUDGET, target=self._method.call.target, tokens=tokens)

    def _note(self, event: Any, **attributes: Any) -> None:
        self.flow.note(Event(event.name, attributes))


def _of(error: StatusError) -> dict[str, str]:
    return {"code": CODE_NAMES[id(error._code)], "category": error.category.word}


def name_of(key: Any) -> str:
    """Return what events call the breaker of a key."""
    return "/".join(map(str, key)) if isinstance(key, tuple) else str(key)

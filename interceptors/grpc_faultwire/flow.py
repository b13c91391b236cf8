"""One client call, without I/O: what is sent next, what an end means, and who ended it.

An adapter (`sync`, `aio`) drives it: ``send`` an attempt, put it on the wire, ``settle`` it; wait for the delay that
``settle`` returned and send again, until there is none. Every method may be called from any thread. Observers and
policies' events are told after the lock is released, so that a slow observer never holds another thread.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

from grpc_faultwire.audience import Tokens
from grpc_faultwire.errors import StatusError
from grpc_faultwire.local_errors import cancelled
from grpc_faultwire.plan import UNANSWERED, Begun, Decisions, Plan
from grpc_faultwire.records import OK, Attempt, Event, How, Outcome

ATTEMPTS_KEY = "faultwire-previous-attempts"
"""The metadata that tells a server how many attempts went before. gRPC's core strips its own key from a client's."""

_NOTHING_DECIDED = Decisions()


class Flow:
    """One call. Making it begins the call: from then on, ``close`` or ``settle`` must end it.

    Args:
        plan: its method's.
        timeout: seconds that the caller allows for all of it. None: no limit.
        begun: what `Plan.begin` returned for the call, if it has begun already; it may have ended with OK.

    Attributes:
        attempts: so far, the newest last.
        committed: the caller has seen part of the answer, or the requests cannot be sent again.
        credentials: metadata that were refreshed: they replace the caller's of the same keys.
        delivered: the caller has seen part of the answer.
        error: what the call ended with; None while it goes on, and after OK.
        falling: what the call has failed with, if a fallback may answer: `fall_back` and `fallen` end it then.
        how: how it ended; None while it goes on.
        started: a reading of the plan's clock.
        timeout: seconds that the caller allowed for all of it.
        tokens: what the observers know the call by.
        told: whether they know that it has ended.
    """

    __slots__ = (
        "_deadline",
        "_decisions",
        "_ended",
        "_events",
        "_lock",
        "_open",
        "_recovered",
        "_refused",
        "attempts",
        "committed",
        "credentials",
        "delivered",
        "error",
        "falling",
        "how",
        "plan",
        "started",
        "timeout",
        "tokens",
        "told",
    )

    def __init__(self, plan: Plan, timeout: float | None = None, begun: Begun | None = None) -> None:
        self.plan = plan
        self.started = plan.clock() if begun is None else begun[0].started
        timeout = plan.timeout if timeout is None else timeout
        self.timeout = timeout
        # A timeout that is no number fails here, as in grpc, and before anybody has heard of the call.
        self._deadline = None if timeout is None else self.started + timeout
        self._ended = self.started
        self.attempts: list[Attempt] = []
        self.committed = False
        self.delivered = False
        self.credentials: tuple[tuple[str, str | bytes], ...] = ()
        self.error: StatusError | None = None
        self.falling: StatusError | None = None
        self.how: How | None = None
        self.told = False
        self._open: list[Attempt] = []
        self._events: list[Event] = []
        self._recovered: StatusError | None = None
        self._refused = False
        self._lock = threading.Lock()
        self._decisions = None
        if begun is not None:
            self._take_over(*begun)
            return
        self.tokens = plan.audience.start(plan.call)
        if plan.policies is not None:
            self._decisions = plan.policies.begin(self)

    def _take_over(self, attempt: Attempt, tokens: Tokens) -> None:
        self.tokens = tokens
        self.attempts.append(attempt)
        if attempt.ended is not None:  # with OK: see `Plan.succeed`
            self._ended, self.how, self.told = attempt.ended, "done", True
            return
        self._open.append(attempt)
        if self.plan.brief is not None:
            self._decisions = self.plan.brief.following(self)

    def send(self) -> Attempt | None:
        """Begin an attempt, which the adapter then puts on the wire.

        Returns:
            The attempt, with its timeout; None if the call has ended (look at ``error``), perhaps because a policy
            refused another attempt or no time is left for one: then the call ends with the last real error.

        Raises:
            StatusError: a policy refused the first attempt.
        """
        if self.attempts or self.how is not None or self.falling is not None:
            return self._send(hedge=False)
        # Nobody else knows of the call yet, so nothing is to be locked.
        attempt = Attempt(1, self.started, self.timeout)
        if self._decisions is not None:
            try:
                self._decisions.admit(attempt, self.started)
            except StatusError as refusal:
                self._refuse(refusal)
                return None
            if self._events:
                self._tell(None)
        self.attempts.append(attempt)
        self._open.append(attempt)
        audience = self.plan.audience
        if audience.on_attempt_start:
            audience.tell(audience.on_attempt_start, self.tokens, attempt)
        return attempt

    def hedge(self) -> Attempt | None:
        """Begin the attempt that is due beside those in flight; None if there is to be none."""
        return self._send(hedge=True)

    def hedge_in(self) -> float | None:
        """Return the seconds until `hedge` is due; None: it will not be."""
        with self._lock:
            return (self._decisions or _NOTHING_DECIDED).hedge_in(self.plan.clock())

    def _send(self, *, hedge: bool) -> Attempt | None:
        attempt = ended = None
        with self._lock:
            if self.how is None and self.falling is None and self._may_send(hedge=hedge):
                attempt, ended = self._admitted(self._next(self.plan.clock()))
                if attempt is not None:
                    attempt.hedge = hedge
                    self.attempts.append(attempt)
                    self._open.append(attempt)
        self._tell(ended)
        audience = self.plan.audience
        if attempt is not None and audience.on_attempt_start:
            audience.tell(audience.on_attempt_start, self.tokens, attempt)
        return attempt

    def _refuse(self, refusal: StatusError) -> None:
        """End a call whose first attempt was refused, unless a fallback may answer."""
        with self._lock:
            self._refused = True
            ended = self._fail(refusal)
        self._tell(ended)
        if ended is not None:
            raise refusal

    def settle(self, attempt: Attempt, error: StatusError | None) -> float | None:
        """End an attempt, unless it has ended; the call ends too, unless there is to be another one.

        Args:
            attempt: which.
            error: what it ended with; None: OK.

        Returns:
            Seconds to wait before the next ``send``. None: there is to be none by this caller; look at ``how``.
        """
        ended = delay = None
        self._lock.acquire()  # by name, as every call comes here: with `with`, locking takes three times as long
        try:
            if attempt.ended is not None:
                return None
            attempt.ended = now = self.plan.clock()
            attempt.error = error
            self._open.remove(attempt)
            if self._decisions is not None:
                delay = self._decisions.decide(attempt, now)
            if error is None:
                delay, ended = None, self._end(None, "done", now)
            elif delay is not None:
                attempt.delay = delay
            elif self._decisions is None or self._decisions.final or not (self._open or self._decisions.pending()):
                ended = self._fail(error)
        finally:
            self._lock.release()
        audience = self.plan.audience
        if audience.on_attempt_end:
            audience.tell(audience.on_attempt_end, self.tokens, attempt)
        self._tell(ended)
        return delay

    def commit(self) -> bool:
        """Give up the chance of another attempt: part of the answer was delivered, or requests are not kept any more.

        Returns:
            False, and nothing changes, if another attempt has been decided and not been sent: it needs them all.
        """
        if self.committed:
            return True
        with self._lock:
            self.committed = not self._waiting()
            self._healthy()
        return self.committed

    def deliver(self) -> bool:
        """Say that part of the answer is about to be delivered, which commits a stream that cannot be resumed.

        Returns:
            False, and nothing changes, if another attempt or a fallback has been decided: its answer counts.
        """
        if self.delivered and self.committed:
            return True
        with self._lock:
            if self._waiting() or self.falling is not None:
                return False
            self.committed = self.committed or self.resume is None
            self.delivered = True
            self._healthy()
        return True

    def give_up(self) -> None:
        """Make no other attempt, though one was decided. If none is in flight, the error at hand ends the call."""
        ended = None
        with self._lock:
            if self.how is None and self.falling is None:
                (self._decisions or _NOTHING_DECIDED).give_up()
                ended = None if self._open else self._fail(self.attempts[-1].error)
        self._tell(ended)

    @property
    def resume(self) -> Callable[[Any, Any], Any] | None:
        """What makes the request that continues a response stream; None: a stream is not continued."""
        return (self._decisions or _NOTHING_DECIDED).resume

    @property
    def refresh(self) -> Callable[[], Any] | None:
        """What to call before the next attempt; what it returns belongs into ``credentials``. None: nothing."""
        return (self._decisions or _NOTHING_DECIDED).refresh

    def fall_back(self, request: Any) -> Any:
        """Return what is answered in place of ``falling``, or UNANSWERED; then say so to `fallen`.

        Args:
            request: of a unary request; None of a stream.
        """
        decisions, error = self._decisions, self.falling
        if decisions is None or error is None:
            return UNANSWERED
        return decisions.fall_back(error, request, self.plan.clock())

    def fallen(self, answer: Any) -> bool:
        """End a call that was falling; True if this ended it.

        Args:
            answer: what its caller gets in place of the error; UNANSWERED: the error stands.
        """
        with self._lock:
            if self.how is not None:
                return False
            error, self.falling = self.falling, None
            if answer is not UNANSWERED:
                self._recovered, error = error, None
            ended = self._end(error, "refused" if self._refused and error is not None else "done")
        self._tell(ended)
        return True

    def learn(self, request: Any, response: Any) -> None:
        """Let fallbacks learn a good answer of a unary call; it may have ended."""
        if self.plan.learn is not None:
            self.plan.learn(request, response, self.plan.clock())

    def close(self, error: StatusError | None, how: How) -> bool:
        """End the call from outside: it was cancelled or dropped, or it failed before there was a status.

        Returns:
            True if this ended it; False if it had ended before.
        """
        with self._lock:
            ended = self._end(error, how) if self.how is None else None
        self._tell(ended)
        return ended is not None

    def note(self, event: Event) -> None:
        """Keep an event of the policies, which call it under the lock; observers hear of it afterwards."""
        self._events.append(event)

    @property
    def retriable(self) -> bool:
        """Whether there may be another attempt."""
        return self._decisions is not None and not self.committed and self.how is None

    @property
    def recoverable(self) -> bool:
        """Whether there may be another attempt, or a fallback's answer."""
        return self._decisions is not None and self.how is None and not (self.committed and self.delivered)

    def time_remaining(self) -> float | None:
        """Return the seconds left of the caller's timeout, at least 0; None: no limit."""
        return None if self._deadline is None else max(self._deadline - self.plan.clock(), 0.0)

    def injected(self, attempt: Attempt) -> list[tuple[str, str | bytes]]:
        """Return the metadata to send with an attempt beside the caller's."""
        pairs = self.plan.audience.injected(self.tokens, attempt)
        if attempt.number > 1:
            pairs.append((ATTEMPTS_KEY, str(attempt.number - 1)))
        return pairs

    def message(self, direction: Literal["sent", "received"]) -> None:
        """Count a message."""
        self.plan.audience.message(self.tokens, direction)

    def activate(self) -> AbstractContextManager[Any]:
        """Return a context manager to enter around each step of the call; never held across a yield."""
        return self.plan.audience.activate(self.tokens)

    # Under the lock.

    def _next(self, now: float) -> Attempt:
        timeout = None if self._deadline is None else max(self._deadline - now, 0.0)
        return Attempt(len(self.attempts) + 1, now, timeout)

    def _waiting(self) -> bool:
        """Whether another attempt has been decided and not been sent."""
        return self.how is None and bool(self.attempts) and self.attempts[-1].delay is not None

    def _healthy(self) -> None:
        if self._decisions is not None and self._open:
            self._decisions.healthy(self._open[-1], self.plan.clock())

    def _may_send(self, *, hedge: bool) -> bool:
        decisions = self._decisions or _NOTHING_DECIDED
        return (bool(self._open) and decisions.take_hedge()) if hedge else decisions.expects()

    def _admitted(self, attempt: Attempt) -> tuple[Attempt | None, Sequence[Attempt] | None]:
        """Return the attempt if it may be sent, else what its refusal cut short."""
        if self._open or attempt.timeout != 0:
            try:
                if self._decisions is not None:
                    self._decisions.admit(attempt, attempt.started)
            except StatusError:
                pass
            else:
                return attempt, None
        return None, None if self._open else self._fail(self.attempts[-1].error)

    def _fail(self, error: StatusError | None) -> Sequence[Attempt] | None:
        """End the call with an error, unless a fallback may answer."""
        if error is not None and self._decisions is not None and self._decisions.covers(error):
            self.falling = error
            return None
        return self._end(error, "refused" if self._refused else "done")

    def _end(self, error: StatusError | None, how: How, now: float | None = None) -> Sequence[Attempt]:
        """Set the end once, and return the attempts that it cut short."""
        self._ended = self.plan.clock() if now is None else now
        cut: Sequence[Attempt] = self._cut(error) if self._open else ()
        self.error, self.how = error, how
        if self._decisions is not None:
            self._decisions.finish()
            # They know the flow: let go, or each call would live until the next garbage collection.
            self._decisions = None
        if error is not None and len(self.attempts) > 1:
            error.attempts = _history(self.attempts, error)
        return cut

    def _cut(self, error: StatusError | None) -> Sequence[Attempt]:
        """End the attempts in flight."""
        cut, self._open = self._open, []
        # A hedge that lost did not succeed, though its call did.
        lost = cancelled("Another attempt was faster.", ()) if error is None else error
        for attempt in cut:
            attempt.ended, attempt.error = self._ended, lost
            if self._decisions is not None:
                self._decisions.release(attempt, self._ended)
        return cut

    # After the lock.

    def _tell(self, cut: Sequence[Attempt] | None) -> None:
        """Tell of the policies' events, and of the end if ``cut`` is given."""
        audience = self.plan.audience
        if self._events:
            with self._lock:
                events, self._events = self._events, []
            if audience.on_event:
                for event in events:
                    audience.tell(audience.on_event, self.tokens, event)
        if cut is not None:
            for attempt in cut:
                audience.tell(audience.on_attempt_end, self.tokens, attempt)
            if audience.hears_ends:
                audience.ended(self.tokens, self._outcome())
            self.told = True

    def _outcome(self) -> Outcome:
        code = OK if self.error is None else self.error._code
        seconds, how = self._ended - self.started, self.how or "done"
        return Outcome(code, seconds, how, self.error, tuple(self.attempts), None, self._recovered)


def _history(attempts: Sequence[Attempt], error: StatusError) -> tuple[Attempt, ...]:
    # An error that is reached from its own history would be a cycle, and keep every failed call alive until the next
    # garbage collection.
    return tuple(dataclasses.replace(one, error=None) if one.error is error else one for one in attempts)

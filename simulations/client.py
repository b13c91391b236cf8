"""A caller in virtual time, built of the production policies: retry( budget → breaker → attempt timeout → server )."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from grpc_faultwire.category import Category
from grpc_faultwire.policies import (
    OK,
    TIMEOUT_COST,
    Breaker,
    BreakerPolicy,
    Budget,
    Deadline,
    Health,
    Permit,
    Refusal,
    RetryBudget,
    RetryPolicy,
    RetryState,
    Throttle,
    ThrottlePolicy,
    Verdict,
)

from .engine import Loop, Server

NO_DEADLINE = Deadline()
TAIL = 16  # seconds for which a run goes on after the last call began, so that every call ends
VERDICTS = {
    "OK": OK,
    "UNAVAILABLE": Verdict("UNAVAILABLE", Category.OVERLOAD, retryable=True, health=Health.FAILURE),
    "DEADLINE_EXCEEDED": Verdict(
        "DEADLINE_EXCEEDED", Category.TIMEOUT, retryable=True, health=Health.FAILURE, cost=TIMEOUT_COST
    ),
    # What a server of ours makes of a failure further on: not to be retried by its callers, and not its own fault.
    "INTERNAL": Verdict("INTERNAL", Category.DEPENDENCY, retryable=False, health=Health.NEUTRAL),
}


class BreakerLike(Protocol):
    """What a caller needs of a breaker, production's or a baseline's."""

    def acquire(self, now: float, *, timeout: float | None = None) -> Permit | Refusal:
        """Ask for leave to make a call."""
        ...

    def blocked_for(self, now: float) -> float:
        """For how long calls are refused."""
        ...


def faultwire_retry() -> RetryPolicy:
    """The suite's defaults."""
    return RetryPolicy()


def classic_retry() -> RetryPolicy:
    """Four attempts, 100 ms doubling to 1 s: what service configs usually say."""
    return RetryPolicy(max_attempts=4, initial_backoff=0.1, max_backoff=1.0)


@dataclass(frozen=True)
class Stack:
    """A named set of policies: how each client of a run behaves."""

    name: str
    retry: Callable[[], RetryPolicy] = faultwire_retry
    budget: Callable[[Loop], Budget] | None = None
    breaker: Callable[[Loop, str], BreakerLike] | None = None


def production_breaker(loop: Loop, key: str) -> Breaker:
    """The suite's breaker, as it comes."""
    return Breaker(BreakerPolicy(), rng=loop.random, key=key)


NO_RETRIES = Stack("no retries", lambda: RetryPolicy(max_attempts=1))
NAIVE = Stack("naive, 4 attempts", classic_retry)
A6_THROTTLE = Stack(
    "gRFC A6 throttle 10/0.1", classic_retry, lambda _: Throttle(ThrottlePolicy(max_tokens=10, token_ratio=0.1))
)
BUDGET = Stack("faultwire: budget", budget=lambda _: RetryBudget())
BREAKER = Stack("faultwire: breaker", lambda: RetryPolicy(max_attempts=1), breaker=production_breaker)
FAULTWIRE = Stack("faultwire: budget + breaker", budget=lambda _: RetryBudget(), breaker=production_breaker)


@dataclass
class Tally:
    """What happened, by the second in which calls began or attempts were sent."""

    seconds: int
    begun: list[int] = field(init=False)
    succeeded: list[int] = field(init=False)
    sent: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.begun, self.succeeded, self.sent = ([0] * (self.seconds + TAIL + 1) for _ in range(3))

    def success(self, start: int, end: int) -> float:
        """Share of the calls begun in these seconds that succeeded in the end."""
        return sum(self.succeeded[start:end]) / max(1, sum(self.begun[start:end]))

    def load(self, start: int, end: int) -> float:
        """Attempts sent in these seconds for each call begun in them."""
        return sum(self.sent[start:end]) / max(1, sum(self.begun[start:end]))

    def recovery(self, start: int, share: float = 0.95, steady: int = 5) -> float:
        """Seconds from ``start`` to the first of ``steady`` seconds that each have this success; infinite if none."""
        for second in range(start, self.seconds - steady + 1):
            if all(self.success(s, s + 1) >= share for s in range(second, second + steady)):
                return second - start
        return float("inf")


class Client:
    """One process that calls a service: its calls share a budget and one breaker for each key."""

    def __init__(self, loop: Loop, stack: Stack, tally: Tally | None = None, *, timeout: float = 1.0) -> None:
        self.loop = loop
        self.tally = tally
        self.timeout = timeout
        self.retry = stack.retry()
        self.budget = stack.budget(loop) if stack.budget else None
        # A budget by requests (Finagle's) wants to hear of each; the production ones live on outcomes.
        self.requested: Callable[[], None] | None = getattr(self.budget, "requested", None)
        self._make_breaker = stack.breaker
        self._breakers: dict[str, BreakerLike] = {}

    def breaker(self, key: str) -> BreakerLike | None:
        """The breaker for a key, made on first use."""
        if self._make_breaker is None:
            return None
        if key not in self._breakers:
            self._breakers[key] = self._make_breaker(self.loop, key)
        return self._breakers[key]

    def call(self, server: Server, key: str = "", on_end: Callable[[str], None] | None = None) -> None:
        """Make a call; ``on_end`` is told the code that its caller gets."""
        if self.tally is not None:
            self.tally.begun[int(self.loop.now)] += 1
        if self.requested is not None:
            self.requested()
        Call(self, server, self.breaker(key), on_end).send()


class Call:
    """One call and its attempts; an attempt of it is what a server answers."""

    __slots__ = ("_attempt", "_begun", "_breaker", "_client", "_on_end", "_permit", "_server", "_state", "_tally")

    def __init__(
        self, client: Client, server: Server, breaker: BreakerLike | None, on_end: Callable[[str], None] | None
    ) -> None:
        self._client = client
        self._tally = client.tally
        self._server = server
        self._breaker = breaker
        self._on_end = on_end
        self._attempt = 0
        self._begun = int(client.loop.now)
        self._permit: Permit | None = None
        self._state: RetryState | None = None

    def send(self, _: None = None) -> None:
        """Send an attempt, if the breaker lets it pass."""
        client = self._client
        now = client.loop.now
        if self._breaker is not None:
            permit = self._breaker.acquire(now, timeout=client.timeout)
            if isinstance(permit, Refusal):
                if self._state is not None:
                    self._state.unsent()
                self._end("UNAVAILABLE")
                return
            self._permit = permit
        if self._state is not None:
            self._state.sent()
        self._attempt += 1
        if self._tally is not None:
            self._tally.sent[int(now)] += 1
        self._server.serve(self, client.timeout)

    def answered(self, code: str) -> None:
        """Settle the attempt: tell breaker and budget, and retry if they allow it."""
        client = self._client
        verdict, now = VERDICTS[code], client.loop.now
        if self._permit is not None:
            self._permit.record(verdict.health, now)
        if code == "OK":
            if client.budget is not None:
                client.budget.credit(verdict)
            self._end(code)
            return
        if self._state is None:
            self._state = RetryState(client.retry, client.budget)
        decision = self._state.decide(
            verdict,
            attempt=self._attempt,
            now=now,
            u=client.loop.random(),
            deadline=NO_DEADLINE,
            blocked_for=0.0 if self._breaker is None else self._breaker.blocked_for(now),
        )
        if decision.delay is None:
            self._end(code)
        else:
            client.loop.at(now + decision.delay, self.send)

    def _end(self, code: str) -> None:
        if code == "OK" and self._tally is not None:
            self._tally.succeeded[self._begun] += 1
        if self._on_end is not None:
            self._on_end(code)

"""What a caller wants: `ClientPolicy`, per service and method as in a gRPC service config.

fallback( deadline( retry or hedge( budget → breaker.acquire → attempt timeout → wire )))
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from grpc_faultwire.fallback import Fallback
from grpc_faultwire.policies import BreakerPolicy, BudgetPolicy, HedgePolicy, RetryPolicy, ThrottlePolicy, checks
from grpc_faultwire.records import CallInfo

Mode = Literal["enforce", "observe"]


def by_service(call: CallInfo) -> Hashable:
    """Return what tells circuit breakers apart unless told otherwise: target and service."""
    return call.target, call.service


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientPolicy:
    """What a wrapped channel does about failures. Frozen, and right by default.

    Attributes:
        timeout: seconds for a whole call, where the caller gives none. None: no limit, as in grpc. Set it: a deadline
            is the strongest means of recovery, because servers drop work whose caller has gone.
        attempt_timeout: seconds for one attempt; the less of this and what is left of the call.
        retry: None: no retries. Default: 3 attempts of idempotent methods; see `RetryPolicy`.
        budget: what retries and hedges of one target may spend together. None: no limit. Default: 10 tokens at first,
            at most 100, one for each success, five for a retry; see `BudgetPolicy`.
        breaker: None: no circuit breaker. Default: see `BreakerPolicy`.
        breaker_key: what tells breakers apart. Default: target and service. A sharded service wants its shard here.
        hedge: None (the default): no hedges. Only methods without side effects are hedged.
        fallbacks: asked in this order once a call has failed for good.
        idempotent: whether the methods may be carried out twice. None: as their protos say (``idempotency_level``),
            else no. A single call can say it with `calling`.
        refresh: called once when an error says AFTER_REFRESH, before the call is tried again; what it returns replaces
            metadata of the same keys. In aio it may be a coroutine function.
        replay_bytes: bytes of a request stream that are kept to send it again. 262144, as gRPC's core.
        resume: makes the request that continues a response stream, from the first request and the last response; None:
            a stream is not retried once a message has been delivered.
        wait_for_ready: for calls that do not say; None leaves it to grpc.
        mode: "observe": decisions are recorded and not carried out.
        exempt: "shop.v1.Shop/GetBook" or "shop.v1.Shop": methods that no policy touches.
        overrides: see `override`.

    Raises:
        ValueError: a time that is not positive, or another mode.
    """

    timeout: float | None = None
    attempt_timeout: float | None = None
    retry: RetryPolicy | None = field(default_factory=RetryPolicy)
    budget: BudgetPolicy | ThrottlePolicy | None = field(default_factory=BudgetPolicy)
    breaker: BreakerPolicy | None = field(default_factory=BreakerPolicy)
    breaker_key: Callable[[CallInfo], Hashable] = by_service
    hedge: HedgePolicy | None = None
    fallbacks: tuple[Fallback, ...] = ()
    idempotent: bool | None = None
    refresh: Callable[[Any], Any] | None = None
    replay_bytes: int = 256 * 1024
    resume: Callable[[Any, Any], Any] | None = None
    wait_for_ready: bool | None = None
    mode: Mode = "enforce"
    exempt: frozenset[str] = frozenset()
    overrides: tuple[tuple[str, str, Mapping[str, Any]], ...] = ()

    def __post_init__(self) -> None:
        for name in ("timeout", "attempt_timeout"):
            seconds = getattr(self, name)
            if seconds is not None:
                checks.positive(name, seconds)
        checks.not_negative("replay_bytes", self.replay_bytes)
        if self.mode not in ("enforce", "observe"):
            raise ValueError(f"mode is {self.mode!r}; it must be 'enforce' or 'observe'.")
        if self.hedge is not None and self.retry is not None and self.retry != RetryPolicy():
            raise ValueError("retry and hedge are both set; gRFC A6 gives a method the one or the other.")
        object.__setattr__(self, "exempt", frozenset(self.exempt))

    def override(self, *names: Mapping[str, str], **changes: Any) -> ClientPolicy:
        """Return a policy with other settings for some methods.

        Args:
            names: as in a gRPC service config: ``{"service": "shop.v1.Shop", "method": "GetBook"}``, or a service
                alone, or ``{}`` for all that no other name fits.
            changes: attributes of ClientPolicy. Budget and key functions are shared by a target, not by method.

        Raises:
            ValueError: no name, a name without service, an unknown or unsuitable attribute, or a wrong value.
        """
        if not names:
            raise ValueError("name at least one method, such as {'service': 'shop.v1.Shop', 'method': 'GetBook'}.")
        unknown = set(changes) - ({one.name for one in dataclasses.fields(self)} - {"overrides", "exempt", "budget"})
        if unknown:
            raise ValueError(f"{', '.join(sorted(unknown))}: no setting of a single method.")
        dataclasses.replace(self, **_alone(changes))
        added = tuple((*_name(name), dict(changes)) for name in names)
        return dataclasses.replace(self, overrides=(*self.overrides, *added))

    def for_call(self, call: CallInfo) -> ClientPolicy | None:
        """Return the settings of one method: the most particular name wins. None: it is exempt."""
        if call.full_method in self.exempt or call.service in self.exempt:
            return None
        merged: dict[str, Any] = {}
        # From the general to the particular, and of equals the later one wins.
        for rank in ("", "service", "method"):
            for service, method, changes in self.overrides:
                if _rank(service, method) == rank and _fits(service, method, call):
                    merged |= _alone(changes)
        return dataclasses.replace(self, overrides=(), **merged) if merged else self


def _alone(changes: Mapping[str, Any]) -> dict[str, Any]:
    # What names the one of retry and hedge takes the place of the other; to name both is an error.
    if changes.get("hedge") is not None:
        return {"retry": None, **changes}
    return {"hedge": None, **changes} if changes.get("retry") is not None else dict(changes)


def _name(name: Mapping[str, str]) -> tuple[str, str]:
    service, method = name.get("service", ""), name.get("method", "")
    if set(name) - {"service", "method"} or (method and not service):
        raise ValueError(f"{dict(name)!r} is no name of a service or of its method.")
    return service, method


def _rank(service: str, method: str) -> str:
    return "method" if method else "service" if service else ""


def _fits(service: str, method: str, call: CallInfo) -> bool:
    return service in ("", call.service) and method in ("", call.method)


class CallOptions(NamedTuple):
    """What one call says for itself; see `calling`."""

    idempotent: bool | None = None
    policy: bool = True


NOTHING_SAID = CallOptions()
CALL_OPTIONS: contextvars.ContextVar[CallOptions] = contextvars.ContextVar(
    "faultwire_call_options", default=NOTHING_SAID
)
"""What the calls made here and now say for themselves."""


@contextlib.contextmanager
def calling(*, idempotent: bool | None = None, policy: bool = True) -> Iterator[None]:
    """Say something for the calls that are made inside a ``with`` block.

    Args:
        idempotent: whether they may be carried out twice; it wins over policy and proto.
        policy: False: no policy touches them, they are only decoded and observed.
    """
    token = CALL_OPTIONS.set(CallOptions(idempotent, policy))
    try:
        yield
    finally:
        CALL_OPTIONS.reset(token)

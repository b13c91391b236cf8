"""What the admin service answers, without I/O. Nothing here says more than an error does that leaves a server."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from faultwire.v1 import diagnostics_pb2 as pb
from grpc_faultwire.details import duration, seconds
from grpc_faultwire.diagnostics.groups import SIZE, ErrorGroup, ErrorGroups
from grpc_faultwire.errors import InvalidArgument, NotFound, Origin, PermissionDenied, ResourceExhausted
from grpc_faultwire.policies import BreakerMode, BreakerSnapshot
from grpc_faultwire.state import PolicyState

logger = logging.getLogger("grpc_faultwire.diagnostics")

DEFAULT_GROUPS = 50
"""Groups in a snapshot unless asked otherwise."""
INTERVALS = (0.1, 1.0, 60.0)
"""Least, usual and most seconds between two snapshots of a watcher."""
MAX_WATCHERS = 4
"""How many may watch at a time: on a sync server each of them keeps a thread."""
DOMAIN = "faultwire"

Authorise = Callable[[Any, str], Any]
"""From a call's context and "read" or "force" to whether its caller may. In aio it may be a coroutine function."""


class Desk:
    """What an admin service knows and may do.

    Args:
        groups: the observer of a server or channel. None: errors are not told.
        states: of wrapped channels, whose breakers and budgets are told, and whose breakers can be forced.
        authorise: None: everybody is refused.
        clock: that of the channels: returns seconds that never go back.
        wall_clock: returns seconds since the epoch.
    """

    def __init__(
        self,
        groups: ErrorGroups | None = None,
        states: Iterable[PolicyState] = (),
        *,
        authorise: Authorise | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._groups = groups
        self._states = tuple(states)
        self._authorise = authorise
        self._clock = clock
        self._wall_clock = wall_clock
        self._watchers = 0

    def ask(self, context: Any, action: str) -> Any:
        """Return the answer of the authorisation hook, or what can be awaited for it. A hook that raises says no."""
        if self._authorise is None:
            return False
        try:
            return self._authorise(context, action)
        except Exception:
            logger.exception("the authorisation hook raised; the caller was refused")
            return False

    @staticmethod
    def refusal() -> PermissionDenied:
        """Return what a caller hears who may not: the same whatever it asked for."""
        return PermissionDenied("Diagnostics are not for this caller.", reason="DIAGNOSTICS_REFUSED", domain=DOMAIN)

    def snapshot(self, max_groups: int = 0) -> pb.Snapshot:
        """Return what is known now.

        Args:
            max_groups: how many groups at the most. 0: 50.
        """
        groups = self._groups
        wanted = min(max_groups, SIZE) if max_groups > 0 else DEFAULT_GROUPS
        now = self._clock()
        return pb.Snapshot(
            time=_timestamp(self._wall_clock()),
            errors=groups.total if groups is not None else 0,
            groups=[_group(group) for group in groups.top(wanted)] if groups is not None else (),
            breakers=[_breaker(one) for state in self._states for one in state.snapshot(now)],
            budgets=[
                pb.Budget(target=target, tokens=tokens)
                for state in self._states
                for target, tokens in state.budgets().items()
            ],
            known_groups=len(groups) if groups is not None else 0,
        )

    def force(self, request: pb.ForceBreakerRequest) -> pb.Breaker:
        """Hold the breakers of a name open or closed, or let them decide again; return the first of them.

        Raises:
            InvalidArgument: nothing is to be done.
            NotFound: there is no such breaker.
        """
        if request.override not in _METHODS:
            raise InvalidArgument("An override must be OPEN, CLOSED or AUTO.", reason="OVERRIDE_INVALID", domain=DOMAIN)
        now = self._clock()
        found = [
            (state, one.key)
            for state in self._states
            for one in state.snapshot(now)
            if breaker_name(one.key) == request.breaker
        ]
        if not found:
            raise NotFound("There is no such breaker.", reason="BREAKER_NOT_FOUND", domain=DOMAIN)
        for state, key in found:
            getattr(state, _METHODS[request.override])(key, now)
        logger.warning("a caller of Diagnostics forced a breaker: %s", _METHODS[request.override])
        state, key = found[0]
        return next(_breaker(one) for one in state.snapshot(now) if one.key == key)

    def watch(self) -> None:
        """Let one more watch.

        Raises:
            ResourceExhausted: enough do.
        """
        if self._watchers >= MAX_WATCHERS:
            raise ResourceExhausted("Enough callers watch.", reason="TOO_MANY_WATCHERS", domain=DOMAIN)
        self._watchers += 1

    def unwatch(self) -> None:
        """Take note that a watcher has gone."""
        self._watchers -= 1

    @staticmethod
    def interval(request: pb.WatchSnapshotsRequest) -> float:
        """Return the seconds between two snapshots."""
        least, usual, most = INTERVALS
        wanted = seconds(request.interval) if request.HasField("interval") else usual
        return min(max(least, wanted), most)


_METHODS = {
    pb.BREAKER_OVERRIDE_OPEN: "force_open",
    pb.BREAKER_OVERRIDE_CLOSED: "force_closed",
    pb.BREAKER_OVERRIDE_AUTO: "auto",
}


def breaker_name(key: Hashable) -> str:
    """Return what a breaker is called: the parts of its key, such as "shop.example.com:443/shop.v1.Shop"."""
    return "/".join(map(str, key)) if isinstance(key, tuple) else str(key)


def _timestamp(wall: float) -> Timestamp:
    return Timestamp(seconds=int(wall), nanos=int(wall % 1 * 1e9))


def _group(group: ErrorGroup) -> pb.ErrorGroup:
    sample = group.sample
    # What another server said of itself is never passed on to our callers, and so it is here.
    own = sample.origin in (Origin.RAISED, Origin.LOCAL)
    return pb.ErrorGroup(
        fingerprint=group.fingerprint,
        count=group.count,
        overcount=group.overcount,
        first_seen=_timestamp(group.first_seen),
        last_seen=_timestamp(group.last_seen),
        code=sample.code.value[0],
        category=sample.category.value,  # pyright: ignore[reportArgumentType]  # the numbers are the proto's
        severity=sample.severity.value,  # type: ignore[arg-type]  # the numbers are the proto's
        reason=sample.reason if own else "",
        domain=sample.domain if own else "",
        service=group.call.service,
        method=group.call.method,
        side=group.call.side.value,
        sample=sample.message if own else "",
        error_id=group.error_id if own else "",
    )


def _breaker(snapshot: BreakerSnapshot) -> pb.Breaker:
    breaker = pb.Breaker(
        name=breaker_name(snapshot.key),
        state=pb.BreakerState.Value(f"BREAKER_STATE_{snapshot.state.name}"),
        observes=snapshot.mode is BreakerMode.OBSERVE,
        calls=snapshot.calls,
        failures=snapshot.failures,
        failure_ratio=snapshot.failure_ratio,
        refused=snapshot.refused,
    )
    if snapshot.retry_after:
        breaker.retry_after.CopyFrom(duration(snapshot.retry_after))
    return breaker

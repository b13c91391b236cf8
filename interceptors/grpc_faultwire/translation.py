"""From exceptions to `StatusError`: what a server says of a failure.

exception → handler of the closest class → category handlers → transformers → recovery, or the error that leaves
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple

import grpc

from grpc_faultwire.category import Category, RetryScope
from grpc_faultwire.errors import (
    Cancelled,
    DeadlineExceeded,
    Internal,
    Origin,
    StatusError,
    Unavailable,
    error_class,
)
from grpc_faultwire.handlers import Call, Handlers, Recovery
from grpc_faultwire.status import from_rpc_error

if TYPE_CHECKING:
    from grpc_faultwire.catalogue import Catalogue

MASKED = "Internal error."
"""What a caller reads in place of the text of an exception that nobody declared."""
DEPENDENCY_FAILED = "A dependency failed."
"""What a caller reads in place of an error that this server received from another."""
SEVERAL = "Several errors occurred."
"""What a caller reads of a group of errors; its causes say more."""
MAX_GROUP = 32
"""How many exceptions of a group are looked at."""


class Translation(NamedTuple):
    """What became of an exception.

    Attributes:
        error: what leaves; None: the exception is left to grpc.
        exception: what the error does not show; for the server's log alone. None: nothing.
        recoveries: what may be answered instead, in the order to try.
    """

    error: StatusError | None
    exception: BaseException | None
    recoveries: tuple[Recovery, ...] = ()


class Translator(Handlers):
    """Turns exceptions into errors. One may serve many interceptors; it is frozen at the first RPC.

    Args:
        domain: ErrorInfo's domain of errors that name none. "" (the default): the full name of the service called.
        on_unmapped: what becomes of exceptions that nobody mapped. "mask" (the default): INTERNAL with a constant
            message and an error id, under which the server's log has the rest. "pass_through": they are left to grpc,
            which sends their text to the caller.
        maps: names of ready-made maps: "stdlib", "pydantic", "sqlalchemy", "redis", "http", "google". None is on by
            default, as they can turn a server's bug into a caller's fault.
        catalogues: whose ``raised_by`` exceptions are mapped.
        forward: reasons, or (domain, reason) pairs, of received errors that may be passed on as they are.

    Raises:
        ValueError: a map or policy of that name does not exist.
        TypeError: ``maps`` or ``forward`` is one text.
    """

    def __init__(
        self,
        domain: str = "",
        *,
        on_unmapped: Literal["mask", "pass_through"] = "mask",
        maps: Iterable[str] = (),
        catalogues: Iterable[Catalogue] = (),
        forward: Iterable[str | tuple[str, str]] = (),
    ) -> None:
        if on_unmapped not in ("mask", "pass_through"):
            raise ValueError(f"on_unmapped is {on_unmapped!r}; it must be 'mask' or 'pass_through'")
        for name, names in (("maps", maps), ("forward", forward)):
            if isinstance(names, str):
                raise TypeError(f"{name} is the text {names!r}; it must be a collection")
        super().__init__()
        self.domain = domain
        self._mask = on_unmapped == "mask"
        self._forward = frozenset(forward)
        for name in maps:
            self._use(name)
        for catalogue in catalogues:
            self._map_catalogue(catalogue)

    def translate(self, exception: BaseException, call: Call) -> Translation:
        """Decide what leaves for an exception. Never raises: a handler that does is itself masked, and both are logged.

        Args:
            exception: what the handler raised.
            call: the call at hand.
        """
        if not self._frozen:
            self.freeze()
        try:
            error, hidden = self._find(exception, call)
            if error is None:
                return Translation(None, exception)
            error = self._refine(error, call)
        except BaseException as failure:  # noqa: BLE001  # whatever a user's handler raises: the RPC has to end
            _attach(failure, exception)
            return Translation(_masked(), failure)
        return Translation(error, exception if hidden else None, self._recoveries_for(exception, error))

    def _find(self, exception: BaseException, call: Call) -> tuple[StatusError | None, bool]:
        """Return the error for an exception, and whether the exception holds more than the error shows."""
        raised = isinstance(exception, StatusError) and exception.origin is Origin.RAISED
        for handle in self._handlers_for(type(exception), raised=raised):
            error = handle(exception, call)
            if error is not None:
                return self._own(error, call), error is not exception
        if isinstance(exception, StatusError) and raised:
            return exception, False
        if isinstance(exception, grpc.RpcError):
            return self._own(from_rpc_error(exception), call), True
        if isinstance(exception, BaseExceptionGroup):
            return self._merge(exception, call)
        if self._mask or not isinstance(exception, Exception):
            return _masked(), True
        return None, True

    def _refine(self, error: StatusError, call: Call) -> StatusError:
        if not self._category_handlers and not self._transformers:
            return error
        handle = self._category_handlers.get(error.category)
        for step in ([handle] if handle is not None else []) + self._transformers:
            changed = step(error, call)
            error = error if changed is None else self._own(changed, call)
        return error

    def _own(self, error: StatusError, call: Call) -> StatusError:
        """Never forward an error that was received or made by a client policy, unless its reason is on the list."""
        if not isinstance(error, StatusError):
            raise TypeError(f"a handler or transformer returned {error!r}, which is no StatusError")
        if error.origin is Origin.RAISED:
            return error
        if error.reason in self._forward or (error.domain, error.reason) in self._forward:
            return _forwarded(error)
        if call.cancelled:
            return Cancelled("The caller cancelled the call.")
        if call.expired:
            return DeadlineExceeded("The deadline expired.")
        own = _of_dependency(error)
        # Two tiers that both retry multiply each other's attempts: the one that has retried says so.
        own.already_retried = error.already_retried or len(error.attempts) > 1
        return own

    def _merge(self, group: BaseExceptionGroup[BaseException], call: Call) -> tuple[StatusError | None, bool]:
        leaves = list(itertools.islice(_leaves(group), MAX_GROUP + 1))
        found = [self._find(leaf, call) for leaf in leaves[:MAX_GROUP]]
        hidden = len(leaves) > MAX_GROUP or any(more for _, more in found)
        errors = [error for error, _ in found if error is not None]
        if len(errors) < len(found):
            return None, True
        return (errors[0] if len(leaves) == 1 else _several(errors)), hidden


def _several(errors: list[StatusError]) -> StatusError:
    worst = max(errors, key=lambda error: error.severity)
    same = {(error.domain, error.reason) for error in errors} == {(worst.domain, worst.reason)}
    # To try again helps only where it helps all of them.
    never = worst.retry_scope is not RetryScope.NEVER and any(one.retry_scope is RetryScope.NEVER for one in errors)
    return error_class(worst.code())(
        SEVERAL,
        reason=worst.reason if same else None,
        domain=worst.domain if same else None,
        category=worst.category,
        severity=worst.severity,
        retry_scope=RetryScope.NEVER if never else worst.declared_retry_scope,
        retry_delay=None
        if never
        else max((one.retry_delay for one in errors if one.retry_delay is not None), default=None),
        causes=errors,
    )


def _attach(failure: BaseException, exception: BaseException) -> None:
    """Hang an exception at the end of what a failure came from, so that a log of the failure shows both."""
    seen = {id(failure)}
    while id(exception) not in seen:
        following = failure.__cause__ if failure.__suppress_context__ else failure.__cause__ or failure.__context__
        if following is None:
            failure.__context__, failure.__suppress_context__ = exception, False
            return
        if id(following) in seen:
            return
        seen.add(id(following))
        failure = following


def _masked() -> StatusError:
    return Internal(MASKED)


def _of_dependency(error: StatusError) -> StatusError:
    if error.retry_scope is RetryScope.REQUEST and isinstance(error, Unavailable):
        return Unavailable(
            DEPENDENCY_FAILED,
            reason="DEPENDENCY_UNAVAILABLE",
            category=Category.DEPENDENCY,
            retry_delay=error.retry_delay,
        )
    return Internal(DEPENDENCY_FAILED, reason="DEPENDENCY_FAILED", category=Category.DEPENDENCY)


def _forwarded(error: StatusError) -> StatusError:
    # A new error of the same class: what was received stays behind, but for what the allow list lets pass.
    forwarded = type(error)._received(error.message, error._composed(), error.__dict__)
    forwarded.origin = Origin.RAISED
    forwarded._error_id = error.error_id
    forwarded._initial_metadata = forwarded._trailing_metadata = None
    forwarded.attempts = ()
    return forwarded


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterable[BaseException]:
    pending: list[BaseException] = [group]
    while pending:
        exception = pending.pop()
        if isinstance(exception, BaseExceptionGroup):
            pending.extend(reversed(exception.exceptions))
        else:
            yield exception

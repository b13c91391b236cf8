"""From exceptions to `StatusError`: what a server says of a failure.

exception → handler of the closest class → category handlers → transformers → recovery, or the error that leaves
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from grpc_faultwire import mappings
from grpc_faultwire.catalogue import Catalogue, declaration_of
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
from grpc_faultwire.status import from_rpc_error

MASKED = "Internal error."
"""What a caller reads in place of the text of an exception that nobody declared."""
DEPENDENCY_FAILED = "A dependency failed."
"""What a caller reads in place of an error that this server received from another."""
SEVERAL = "Several errors occurred."
"""What a caller reads of a group of errors; its causes say more."""
MAX_GROUP = 32
"""How many exceptions of a group are looked at."""


class Call(Protocol):
    """What handlers, transformers and recoveries may know of the call at hand."""

    context: Any
    """The servicer context of the handler's world."""
    exception: BaseException | None
    """The exception that is being translated."""

    @property
    def service(self) -> str:
        """The full name of the service."""
        ...

    @property
    def method(self) -> str:
        """The name of the method."""
        ...

    @property
    def expired(self) -> bool:
        """Whether the caller's deadline has passed."""
        ...

    @property
    def cancelled(self) -> bool:
        """Whether the caller has gone."""
        ...


Handler = Callable[[Any, Call], StatusError | None]
"""From an exception to an error; None passes to the next closest."""
CategoryHandler = Callable[[StatusError, Call], StatusError | None]
"""From an error of a category to another; None leaves it."""
Transformer = CategoryHandler
"""From any error to another before it leaves; None leaves it."""
Recovery = Callable[[StatusError, Call], Any]
"""From an error to what is answered in its place; None: nothing is. In aio it may be a coroutine function."""

F = TypeVar("F", bound=Callable[..., Any])

_EXCEPTIONS = (type, str)


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


class Translator:
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
        self.domain = domain
        self._mask = on_unmapped == "mask"
        self._forward = frozenset(forward)
        self._handlers: dict[Any, Handler] = {}
        self._category_handlers: dict[Category, CategoryHandler] = {}
        self._transformers: list[Transformer] = []
        self._recoveries: dict[Any, Recovery] = {}
        # For errors raised here, and for all else. A type that was made at run time is not kept alive.
        self._chosen: dict[bool, MutableMapping[type[BaseException], tuple[Handler, ...]]] = {
            raised: weakref.WeakKeyDictionary() for raised in (True, False)
        }
        self._frozen = False
        for name in maps:
            self._use(name)
        for catalogue in catalogues:
            self._map_catalogue(catalogue)

    # Registering.

    def map(
        self,
        exception: type[BaseException] | str | tuple[type[BaseException] | str, ...],
        error: type[StatusError],
        *,
        reason: str | None = None,
        message: str | None = None,
        metadata: Callable[[Any], Mapping[str, object]] | None = None,
        error_details: Callable[[Any], Iterable[Message]] | None = None,
        retry_delay: float | None = None,
        category: Category | None = None,
    ) -> None:
        """Map an exception, and its subclasses for which nothing closer is registered, to an error.

        Args:
            exception: one or several; a dotted name ("sqlalchemy.exc.IntegrityError") maps a type without importing it.
            error: the class of the error.
            reason: see StatusError.
            message: a constant; the exception's own text never leaves. None: what the class declares.
            metadata: makes ErrorInfo's metadata from the exception.
            error_details: makes details from the exception.
            retry_delay: see StatusError.
            category: see StatusError.

        Raises:
            ValueError: it is registered already.
            RuntimeError: the translator is frozen.
        """

        def handle(raised: Any, _call: Call) -> StatusError:
            values: Mapping[str, Any] = metadata(raised) if metadata is not None else {}
            arguments: dict[str, Any] = {
                "reason": reason,
                "error_details": error_details(raised) if error_details is not None else (),
                "retry_delay": retry_delay,
                "category": category,
            }
            if error.__init__ is StatusError.__init__:
                return error(message, **arguments, metadata=values)
            return error(message, **arguments, **values)  # a declared class takes its metadata by name

        for one in exception if isinstance(exception, tuple) else (exception,):
            self._add(self._handlers, one, handle)

    def handler(self, *exceptions: type[BaseException] | str) -> Callable[[F], F]:
        """Register a function ``(exception, call) -> StatusError | None`` for exceptions; None passes to the next.

        A type goes before its dotted name, so that a handler of one's own stands before a ready-made map's. A
        StatusError that is raised here is no unknown exception: a handler of a class above it, such as Exception, is
        not asked.

        Raises:
            ValueError: one is registered already.
            TypeError: one is neither an exception type nor a dotted name.
            RuntimeError: the translator is frozen.
        """
        return self._decorator(self._handlers, exceptions, _EXCEPTIONS)

    def category_handler(self, *categories: Category) -> Callable[[F], F]:
        """Register a function ``(error, call) -> StatusError | None`` for errors of categories; None leaves them.

        Raises:
            ValueError: one is registered already.
            TypeError: one is no category.
            RuntimeError: the translator is frozen.
        """
        return self._decorator(self._category_handlers, categories, Category)

    def transformer(self, function: F) -> F:
        """Register a function ``(error, call) -> StatusError | None`` for every error; they run in this order.

        Raises:
            RuntimeError: the translator is frozen.
        """
        self._check_open()
        self._transformers.append(function)
        return function

    def recovery(self, *conditions: type[BaseException] | Category) -> Callable[[F], F]:
        """Register a function ``(error, call) -> answer | None`` that answers in place of an error.

        Of a unary method the answer is its response, of a stream an iterable of the responses that follow. The closest
        exception type is asked first, then the category.

        Raises:
            ValueError: one is registered already.
            TypeError: one is neither an exception type nor a category.
            RuntimeError: the translator is frozen.
        """
        return self._decorator(self._recoveries, conditions, (type, Category))

    def freeze(self) -> None:
        """Refuse all registering from now on: dispatch is remembered for each exception type."""
        self._frozen = True

    def _decorator(self, table: dict[Any, Any], keys: tuple[Any, ...], kinds: Any) -> Callable[[F], F]:
        if not keys:
            raise ValueError("name at least one exception type or category")

        def register(function: F) -> F:
            for key in keys:
                self._add(table, key, function, kinds)
            return function

        return register

    def _add(self, table: dict[Any, Any], key: Any, function: Any, kinds: Any = _EXCEPTIONS) -> None:
        self._check_open()
        if not isinstance(key, kinds) or (isinstance(key, type) and not issubclass(key, BaseException)):
            raise TypeError(f"{key!r} is nothing that can be registered here")
        if key in table:
            raise ValueError(f"{getattr(key, '__name__', key)} is registered already")
        table[key] = function

    def _check_open(self) -> None:
        if self._frozen:
            raise RuntimeError("a Translator is frozen at its first RPC: register before serving")

    def _use(self, name: str) -> None:
        if name not in mappings.MAPS:
            raise ValueError(f"there is no map {name!r}; there are {', '.join(sorted(mappings.MAPS))}")
        for exception, handle in mappings.MAPS[name].items():
            self._add(self._handlers, exception, lambda raised, _call, handle=handle: handle(raised))

    def _map_catalogue(self, catalogue: Catalogue) -> None:
        for error in catalogue:
            names = {key.argument: key.key.replace("-", "_") for key in declaration_of(error).metadata}
            for exception in declaration_of(error).raised_by:
                self.map(exception, error, metadata=_attributes(names))

    # Translating.

    def translate(self, exception: BaseException, call: Call) -> Translation:
        """Decide what leaves for an exception. Never raises: a handler that does is itself masked, and both are logged.

        Args:
            exception: what the handler raised.
            call: the call at hand.
        """
        self._frozen = True
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

    def _handlers_for(self, kind: type[BaseException], *, raised: bool) -> tuple[Handler, ...]:
        chosen = self._chosen[raised].get(kind)
        if chosen is None:
            classes = [cls for cls in kind.__mro__ if not raised or issubclass(cls, StatusError)]
            names = itertools.chain.from_iterable((cls, f"{cls.__module__}.{cls.__qualname__}") for cls in classes)
            found = (self._handlers.get(name) for name in names)
            chosen = self._chosen[raised][kind] = tuple(handle for handle in found if handle is not None)
        return chosen

    def _refine(self, error: StatusError, call: Call) -> StatusError:
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

    def _recoveries_for(self, exception: BaseException, error: StatusError) -> tuple[Recovery, ...]:
        if not self._recoveries:
            return ()
        keys = (*type(exception).__mro__, *type(error).__mro__, error.category)
        found = (self._recoveries.get(key) for key in keys)
        return tuple(dict.fromkeys(recover for recover in found if recover is not None))


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


def _attributes(names: Mapping[str, str]) -> Callable[[Any], Mapping[str, object]]:
    return lambda raised: {argument: getattr(raised, name, "") for argument, name in names.items()}


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterable[BaseException]:
    pending: list[BaseException] = [group]
    while pending:
        exception = pending.pop()
        if isinstance(exception, BaseExceptionGroup):
            pending.extend(reversed(exception.exceptions))
        else:
            yield exception

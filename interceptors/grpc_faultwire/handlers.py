"""What a server's author registered for exceptions, and which of it is closest to one."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from google.protobuf.message import Message

from grpc_faultwire import mappings
from grpc_faultwire.category import Category
from grpc_faultwire.errors import StatusError

if TYPE_CHECKING:
    from grpc_faultwire.catalogue import Catalogue


class Call(Protocol):
    """What handlers, transformers and recoveries may know of the call at hand."""

    context: Any
    """The servicer context of the handler's world."""
    exception: BaseException | None
    """The exception that is being translated; None once the call has ended."""

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


class Handlers:
    """Maps, handlers, transformers and recoveries; frozen once the first exception is dispatched."""

    def __init__(self) -> None:
        self._handlers: dict[Any, Handler] = {}
        self._category_handlers: dict[Category, CategoryHandler] = {}
        self._transformers: list[Transformer] = []
        self._recoveries: dict[Any, Recovery] = {}
        # For errors raised here, and for all else. A type that was made at run time is not kept alive.
        self._chosen: dict[bool, MutableMapping[type[BaseException], tuple[Handler, ...]]] = {
            raised: weakref.WeakKeyDictionary() for raised in (True, False)
        }
        self._frozen = False
        self.empty = False
        """Whether it is frozen, and nothing is registered: then errors that are raised here leave as they are."""

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
        self.empty = not (self._handlers or self._category_handlers or self._transformers or self._recoveries)

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
        from grpc_faultwire.catalogue import declaration_of  # noqa: PLC0415  # who has a catalogue has imported it

        for error in catalogue:
            names = {key.argument: key.key.replace("-", "_") for key in declaration_of(error).metadata}
            for exception in declaration_of(error).raised_by:
                self.map(exception, error, metadata=_attributes(names))

    # Choosing.

    def _handlers_for(self, kind: type[BaseException], *, raised: bool) -> tuple[Handler, ...]:
        chosen = self._chosen[raised].get(kind)
        if chosen is None:
            classes = [cls for cls in kind.__mro__ if not raised or issubclass(cls, StatusError)]
            names = itertools.chain.from_iterable((cls, f"{cls.__module__}.{cls.__qualname__}") for cls in classes)
            found = (self._handlers.get(name) for name in names)
            chosen = self._chosen[raised][kind] = tuple(handle for handle in found if handle is not None)
        return chosen

    def _recoveries_for(self, exception: BaseException, error: StatusError) -> tuple[Recovery, ...]:
        if not self._recoveries:
            return ()
        keys = (*type(exception).__mro__, *type(error).__mro__, error.category)
        found = (self._recoveries.get(key) for key in keys)
        return tuple(dict.fromkeys(recover for recover in found if recover is not None))


def _attributes(names: Mapping[str, str]) -> Callable[[Any], Mapping[str, object]]:
    return lambda raised: {argument: getattr(raised, name, "") for argument, name in names.items()}

"""Error catalogues: a service declares its errors on a proto enum, and this makes them exception classes.

`Catalogue.of` makes the classes at run time, from what `reader` reads; protoc-gen-faultwire writes the same classes as
a module that type checkers see.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterable, Iterator
from typing import Any, TypedDict

import grpc
from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.message import Message

from grpc_faultwire.category import Category, RetryScope, Severity
from grpc_faultwire.declaration import Declaration, class_name
from grpc_faultwire.errors import StatusError, error_class
from grpc_faultwire.reader import read

MetadataValue = str | int | float | bool
"""What a declared class takes for its metadata; it travels as ``str()`` writes it."""


class ErrorArguments(TypedDict, total=False):
    """What every declared class takes beside its message and its metadata; see `StatusError`."""

    error_details: Iterable[Message]
    retry_delay: float | None
    retry_scope: RetryScope | None
    category: Category | None
    severity: Severity | None
    causes: Iterable[StatusError]


class Catalogue:
    """The errors that one service declares, as exception classes.

    A class is an attribute by its name (``catalogue.BookNotFound``) and an item by its reason
    (``catalogue["BOOK_NOT_FOUND"]``). Its metadata are keyword-only arguments:
    ``raise catalogue.BookNotFound(isbn=…)``.

    Args:
        domain: of all its reasons.
        classes: each with a declaration.
    """

    def __init__(self, domain: str, classes: Iterable[type[StatusError]]) -> None:
        self.domain = domain
        self._by_reason = {declaration_of(cls).reason: cls for cls in classes}
        self._by_name = {cls.__name__: cls for cls in self._by_reason.values()}

    @classmethod
    def of(cls, enum: Any) -> Catalogue:
        """Read the catalogue of an enum and make its classes; the same enum gives the same classes.

        Args:
            enum: a generated enum, such as ``bookshop_pb2.BookshopError``, or its EnumDescriptor.

        Raises:
            TypeError: this is no enum.
            ValueError: the enum has no catalogue option, or an error is declared wrongly.
        """
        descriptor = getattr(enum, "DESCRIPTOR", enum)
        if not hasattr(descriptor, "values_by_number"):
            raise TypeError(f"{enum!r} is no protobuf enum")
        domain, declarations = read(descriptor)
        return cls(domain, [_class_for(declaration, descriptor) for declaration in declarations])

    def __getattr__(self, name: str) -> type[StatusError]:
        try:
            return self.__dict__["_by_name"][name]  # type: ignore[no-any-return]  # a dict of classes
        except KeyError:
            raise AttributeError(f"no error of this catalogue is called {name!r}") from None

    def __getitem__(self, reason: str) -> type[StatusError]:
        return self._by_reason[reason]

    def __iter__(self) -> Iterator[type[StatusError]]:
        return iter(self._by_reason.values())

    def __len__(self) -> int:
        return len(self._by_reason)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._by_name]


def declaration_of(cls: type[StatusError]) -> Declaration:
    """Return what a class declares.

    Raises:
        TypeError: it declares nothing.
    """
    if cls.declaration is None:
        raise TypeError(f"{cls.__name__} declares no reason")
    return cls.declaration


def _class_for(declaration: Declaration, enum: EnumDescriptor) -> type[StatusError]:
    code = grpc.StatusCode[declaration.code]
    known = error_class(code, declaration.domain, declaration.reason)
    if known.declaration == declaration:
        return known
    return _make_class(declaration, error_class(code), enum)


def _make_class(declaration: Declaration, base: type[StatusError], enum: EnumDescriptor) -> type[StatusError]:
    names = {key.argument: key.key for key in declaration.metadata}

    def init(self: StatusError, message: str | None = None, **arguments: Any) -> None:
        missing = [name for name in names if name not in arguments]
        if missing:
            raise TypeError(f"{type(self).__name__} needs its metadata: {', '.join(missing)}")
        metadata = {key: arguments.pop(name) for name, key in names.items()}
        StatusError.__init__(self, message, metadata=metadata, **arguments)

    parameters = [
        inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD),
        inspect.Parameter("message", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None),
        *(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names),
        inspect.Parameter("arguments", inspect.Parameter.VAR_KEYWORD),
    ]
    init.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # for help() and editors
    body = {
        "__init__": init,
        "__doc__": declaration.message or declaration.reason,
        "__module__": __name__,
        "__qualname__": f"{enum.name}.{class_name(declaration.reason)}",
        "__reduce__": _reduce,
        "declaration": declaration,
    }
    return types.new_class(class_name(declaration.reason), (base,), exec_body=lambda namespace: namespace.update(body))


def _reduce(self: StatusError) -> tuple[Any, ...]:
    cls = type(self)
    if "declaration" not in cls.__dict__:
        return StatusError.__reduce__(self)  # somebody's subclass, which pickle can find
    # A class made at run time is found again by what it declares; elsewhere the class of its code stands for it.
    declaration = declaration_of(cls)
    return _blank, (declaration.code, declaration.domain, declaration.reason), self._state()


def _blank(code: str, domain: str, reason: str) -> StatusError:
    cls = error_class(grpc.StatusCode[code], domain, reason)
    return cls.__new__(cls)

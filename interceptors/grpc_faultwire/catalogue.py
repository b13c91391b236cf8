"""Error catalogues: a service declares its errors on a proto enum, and this makes them exception classes.

The reader turns an enum's options (faultwire/v1/options.proto) into declarations; `Catalogue.of` makes the classes at
run time. Enums of any descriptor pool can be read.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterable, Iterator
from typing import Any

import grpc
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import EnumDescriptor, EnumValueDescriptor

from faultwire.v1 import options_pb2
from grpc_faultwire.category import Category, RetryScope, Sensitivity, Severity
from grpc_faultwire.declaration import Declaration, MetadataKey
from grpc_faultwire.details import seconds
from grpc_faultwire.errors import StatusError, error_class


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


def read(enum: EnumDescriptor) -> tuple[str, list[Declaration]]:
    """Read an enum's options: the domain, and a declaration for each value that has one.

    Raises:
        ValueError: the enum has no catalogue option, or an error is declared wrongly; the sentence names the value.
    """
    # Read anew from bytes: in a pool of its own a descriptor's options do not know our extensions.
    options = descriptor_pb2.EnumOptions.FromString(enum.GetOptions().SerializeToString())
    if not options.HasExtension(options_pb2.catalogue):
        raise ValueError(f"enum {enum.full_name} has no option (faultwire.v1.catalogue)")
    catalogue = options.Extensions[options_pb2.catalogue]
    declarations = []
    for value in enum.values:
        error = descriptor_pb2.EnumValueOptions.FromString(value.GetOptions().SerializeToString())
        if error.HasExtension(options_pb2.error):
            declarations.append(_declare(value, error.Extensions[options_pb2.error], catalogue))
    return catalogue.domain, declarations


def _declare(
    value: EnumValueDescriptor, error: options_pb2.ErrorOptions, catalogue: options_pb2.CatalogueOptions
) -> Declaration:
    reason = error.reason or _without_prefix(value)
    code = error.code or catalogue.default_code
    if code not in grpc.StatusCode.__members__ or code == "OK":
        raise ValueError(f"{value.name} declares the status code {code!r}, which is none of an error")
    try:
        return Declaration(
            reason=reason,
            domain=catalogue.domain,
            code=code,
            category=Category(error.category) if error.category else None,
            severity=Severity(error.severity) if error.severity else None,
            retry_scope=RetryScope(error.retry_scope) if error.retry_scope else None,
            retry_delay=seconds(error.retry_delay) if error.HasField("retry_delay") else None,
            message=error.message,
            metadata=tuple(_metadata_key(key) for key in error.metadata),
            docs_url=(error.docs_url or catalogue.docs_url).replace("{reason}", reason),
            raised_by=tuple(error.raised_by),
        )
    except ValueError as wrong:
        raise ValueError(f"{value.name}: {wrong}") from wrong


def _metadata_key(key: options_pb2.MetadataKey) -> MetadataKey:
    sensitivity = Sensitivity(key.sensitivity) if key.sensitivity else None
    return MetadataKey(key=key.key, sensitivity=sensitivity, description=key.description)


def _without_prefix(value: EnumValueDescriptor) -> str:
    words = "".join(f"_{char}" if char.isupper() else char for char in value.type.name).strip("_").upper()
    return value.name.removeprefix(f"{words}_")


def class_name(reason: str) -> str:
    """Return the name of the class for a reason: "BOOK_NOT_FOUND" gives "BookNotFound"."""
    return "".join(word.capitalize() for word in reason.split("_"))


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
    keys = [key.key for key in declaration.metadata]

    def init(self: StatusError, message: str | None = None, **arguments: Any) -> None:
        missing = [key for key in keys if key not in arguments]
        if missing:
            raise TypeError(f"{type(self).__name__} needs its metadata: {', '.join(missing)}")
        metadata = {key: arguments.pop(key) for key in keys}
        StatusError.__init__(self, message, metadata=metadata, **arguments)

    parameters = [
        inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD),
        inspect.Parameter("message", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None),
        *(inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY) for key in keys if key.isidentifier()),
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
    # A class made at run time is found again by what it declares; elsewhere the class of its code stands for it.
    _, (cls, state) = StatusError.__reduce__(self)
    declaration = declaration_of(cls)
    return _restore, (declaration.code, declaration.domain, declaration.reason, state)


def _restore(code: str, domain: str, reason: str, state: dict[str, Any]) -> StatusError:
    cls = error_class(grpc.StatusCode[code], domain, reason)
    error = cls.__new__(cls)
    error.__dict__.update(state)
    return error

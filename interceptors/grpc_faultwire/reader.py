"""Reads what a .proto says of its errors: the options of faultwire/v1/options.proto, as declarations.

The one reader: `Catalogue.of` makes classes of what it returns at run time, protoc-gen-faultwire writes them as a
module, and the `faultwire` command checks and shows it. Descriptors of any pool can be read, and gRPC is not needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import EnumDescriptor, EnumValueDescriptor, MethodDescriptor
from google.rpc import code_pb2

from faultwire.v1 import options_pb2
from grpc_faultwire.category import Category, RetryScope, Sensitivity, Severity
from grpc_faultwire.declaration import Declaration, MetadataKey, class_name


def read(enum: EnumDescriptor) -> tuple[str, list[Declaration]]:
    """Read an enum's options: the domain, and a declaration for each value that has one.

    Raises:
        ValueError: the enum has no catalogue option, or an error is declared wrongly; the sentence names the value.
    """
    domain = read_domain(enum)
    if domain is None:
        raise ValueError(f"enum {enum.full_name} has no option (faultwire.v1.catalogue)")
    declarations: list[Declaration] = []
    names: dict[str, str] = {}
    for value, declared in read_values(enum):
        if isinstance(declared, ValueError):
            raise declared
        name = class_name(declared.reason)
        if names.setdefault(name, value.name) != value.name:
            raise ValueError(f"{value.name} and {names[name]} would both be the class {name}")
        declarations.append(declared)
    return domain, declarations


def read_domain(enum: EnumDescriptor) -> str | None:
    """Return the domain of an enum's catalogue, or None if it is no catalogue."""
    options = _enum_options(enum)
    return options.Extensions[options_pb2.catalogue].domain if options.HasExtension(options_pb2.catalogue) else None


def read_values(enum: EnumDescriptor) -> Iterator[tuple[EnumValueDescriptor, Declaration | ValueError]]:
    """Read the values of a catalogue that declare errors, each with its declaration or what is wrong with it."""
    catalogue = _enum_options(enum).Extensions[options_pb2.catalogue]
    for value in enum.values:
        options = descriptor_pb2.EnumValueOptions.FromString(value.GetOptions().SerializeToString())
        if options.HasExtension(options_pb2.error):
            try:
                yield value, _declare(value, options.Extensions[options_pb2.error], catalogue)
            except ValueError as wrong:
                yield value, ValueError(f"{value.name}: {wrong}")


def read_method(method: MethodDescriptor) -> tuple[str, ...]:
    """Return the reasons that a method declares."""
    options = descriptor_pb2.MethodOptions.FromString(method.GetOptions().SerializeToString())
    return tuple(options.Extensions[options_pb2.errors].reasons)


def _enum_options(enum: EnumDescriptor) -> descriptor_pb2.EnumOptions:
    # Read anew from bytes: in a pool of its own a descriptor's options do not know our extensions.
    return descriptor_pb2.EnumOptions.FromString(enum.GetOptions().SerializeToString())


def _declare(
    value: EnumValueDescriptor, error: options_pb2.ErrorOptions, catalogue: options_pb2.CatalogueOptions
) -> Declaration:
    reason = error.reason or _without_prefix(value)
    code = error.code or catalogue.default_code
    if code not in code_pb2.Code.keys() or code == "OK":  # noqa: SIM118  # an enum wrapper holds its names in keys()
        raise ValueError(f"the status code {code!r} is none of an error")
    return Declaration(
        reason=reason,
        domain=catalogue.domain,
        code=code,
        category=Category(error.category) if error.category else None,
        severity=Severity(error.severity) if error.severity else None,
        retry_scope=RetryScope(error.retry_scope) if error.retry_scope else None,
        # Not made fit, as a received one would be: a wrong declaration has to be mended.
        retry_delay=error.retry_delay.ToNanoseconds() / 1e9 if error.HasField("retry_delay") else None,
        message=error.message,
        metadata=tuple(_metadata_key(key) for key in error.metadata),
        docs_url=(error.docs_url or catalogue.docs_url).replace("{reason}", reason),
        raised_by=tuple(error.raised_by),
    )


def _metadata_key(key: options_pb2.MetadataKey) -> MetadataKey:
    sensitivity = Sensitivity(key.sensitivity) if key.sensitivity else None
    return MetadataKey(key=key.key, sensitivity=sensitivity, description=key.description)


def _without_prefix(value: EnumValueDescriptor) -> str:
    return value.name.removeprefix(f"{upper_snake(value.type.name)}_")


def upper_snake(name: str) -> str:
    """Return a CamelCase name in UPPER_SNAKE_CASE, as protobuf's style guide forms the prefixes of enum values."""
    return _WORD_STARTS.sub("_", name).upper()


_WORD_STARTS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # HTTPError has two words

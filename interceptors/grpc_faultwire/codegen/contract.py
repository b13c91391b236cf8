"""What a set of .proto files declares: error catalogues, their reasons, and the errors of methods.

The generator, the linter and the pages all look at this. It adds to what `reader` reads the comments and lines of the
source, where a descriptor set has them.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor, EnumDescriptor, EnumValueDescriptor, FileDescriptor

from grpc_faultwire.declaration import Declaration
from grpc_faultwire.reader import read_domain, read_method, read_values

_FILE = descriptor_pb2.FileDescriptorProto
_ENUMS, _MESSAGES, _SERVICES = _FILE.ENUM_TYPE_FIELD_NUMBER, _FILE.MESSAGE_TYPE_FIELD_NUMBER, _FILE.SERVICE_FIELD_NUMBER
_NESTED_ENUMS = descriptor_pb2.DescriptorProto.ENUM_TYPE_FIELD_NUMBER
_NESTED_MESSAGES = descriptor_pb2.DescriptorProto.NESTED_TYPE_FIELD_NUMBER
_VALUES = descriptor_pb2.EnumDescriptorProto.VALUE_FIELD_NUMBER
_METHODS = descriptor_pb2.ServiceDescriptorProto.METHOD_FIELD_NUMBER


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where something stands in a source.

    Attributes:
        file: the .proto, as others import it.
        name: the full name of the enum value, enum or method.
        line: counts from 1; None: the descriptors do not say.
    """

    file: str
    name: str
    line: int | None = None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.name}" if self.line else f"{self.file}: {self.name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One value of a catalogue's enum.

    Attributes:
        place: where it stands.
        number: of the value.
        declaration: None: it declares nothing, or nothing that can be used.
        problem: what is wrong with its declaration; "": nothing.
    """

    place: Place
    number: int
    declaration: Declaration | None = None
    problem: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class EnumCatalogue:
    """One enum that is a catalogue.

    Attributes:
        place: where it stands.
        name: of the enum in its file: "BookshopError", or "Shop.Error" inside a message.
        domain: of its reasons.
        description: the comment.
        entries: one for each value.
    """

    place: Place
    name: str
    domain: str
    description: str
    entries: tuple[Entry, ...]

    @property
    def declarations(self) -> list[Declaration]:
        """What it declares, in order."""
        return [entry.declaration for entry in self.entries if entry.declaration is not None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """One method that names its errors.

    Attributes:
        place: where it stands.
        service: name of the service in its file.
        name: of the method.
        path: "/bookshop.v1.Bookshop/GetBook", as gRPC calls it.
        reasons: as it names them.
    """

    place: Place
    service: str
    name: str
    path: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ProtoFile:
    """One .proto file.

    Attributes:
        name: as others import it.
        catalogues: its own.
        methods: those that name their errors.
        imports: the files whose reasons its methods may name, beside itself.
    """

    name: str
    catalogues: tuple[EnumCatalogue, ...]
    methods: tuple[Method, ...]
    imports: tuple[str, ...]


Contract = Mapping[str, ProtoFile]
"""Files by name."""


class Resolved(NamedTuple):
    """The reasons that a method names, each with the file and declaration that it means; and what is wrong."""

    found: tuple[tuple[str, Declaration], ...]
    problems: tuple[str, ...]


def resolve(method: Method, contract: Contract) -> Resolved:
    """Find what a method means by its reasons: its own file's come first, then those that the file imports."""
    file = contract[method.place.file]
    known = [
        (name, one) for name in (file.name, *file.imports) if name in contract for one in _declared(contract[name])
    ]
    found, problems = [], []
    for reason in dict.fromkeys(method.reasons):
        candidates = [(name, one) for name, one in known if one.reason == reason]
        own = [candidate for candidate in candidates if candidate[0] == file.name]
        chosen = own or candidates
        if not chosen:
            problems.append(f"{reason} is declared neither in {file.name} nor in a file that it imports")
        elif len(chosen) > 1:
            problems.append(f"{reason} is declared by several domains: {', '.join(one.domain for _, one in chosen)}")
        else:
            found.append(chosen[0])
    return Resolved(tuple(found), tuple(problems))


def _declared(file: ProtoFile) -> Iterator[Declaration]:
    return (declaration for catalogue in file.catalogues for declaration in catalogue.declarations)


def read_contract(protos: Iterable[descriptor_pb2.FileDescriptorProto]) -> Contract:
    """Read what these files declare.

    Args:
        protos: in any order. Imports that are missing are taken from what this process has imported.

    Raises:
        ValueError: an import is missing, or the files contradict each other.
    """
    known = {proto.name: proto for proto in protos}
    pool = pool_of(known.values())
    return {name: _read_file(pool.FindFileByName(name), proto) for name, proto in sorted(known.items())}


def read_loaded(files: Iterable[FileDescriptor]) -> Contract:
    """Read what files declare that this process has imported; they have no comments and no lines."""
    protos = ((file, descriptor_pb2.FileDescriptorProto.FromString(file.serialized_pb)) for file in files)
    return {file.name: _read_file(file, proto) for file, proto in protos}


def pool_of(protos: Iterable[descriptor_pb2.FileDescriptorProto]) -> descriptor_pool.DescriptorPool:
    """Make a descriptor pool of files in any order.

    Raises:
        ValueError: an import is missing, or the files contradict each other.
    """
    known = {proto.name: proto for proto in protos}
    pool = descriptor_pool.DescriptorPool()
    added: set[str] = set()
    for name in known:
        _add(name, known, pool, added)
    return pool


def _add(
    name: str,
    known: Mapping[str, descriptor_pb2.FileDescriptorProto],
    pool: descriptor_pool.DescriptorPool,
    added: set[str],
) -> None:
    if name in added:
        return
    added.add(name)
    proto = known.get(name) or _imported(name)
    for dependency in proto.dependency:
        _add(dependency, known, pool, added)
    try:
        pool.AddSerializedFile(proto.SerializeToString())
    except (TypeError, ValueError, KeyError) as wrong:
        raise ValueError(f"{name} does not fit the files that it imports: {wrong}") from wrong


def _imported(name: str) -> descriptor_pb2.FileDescriptorProto:
    try:
        found = descriptor_pool.Default().FindFileByName(name)
    except KeyError:
        raise ValueError(
            f"{name} is imported and not there: make the descriptor set with protoc --include_imports"
        ) from None
    return descriptor_pb2.FileDescriptorProto.FromString(found.serialized_pb)


def _read_file(file: FileDescriptor, proto: descriptor_pb2.FileDescriptorProto) -> ProtoFile:
    source = _Source(file.name, proto)
    catalogues = [
        _read_enum(enum, domain, path, source)
        for enum, path in _enums(file, proto)
        if (domain := read_domain(enum)) is not None
    ]
    return ProtoFile(
        name=file.name,
        catalogues=tuple(catalogues),
        methods=tuple(_methods(file, proto, source)),
        imports=tuple(dict.fromkeys(_visible(file))),
    )


def _enums(
    file: FileDescriptor, proto: descriptor_pb2.FileDescriptorProto
) -> Iterator[tuple[EnumDescriptor, tuple[int, ...]]]:
    # The paths of comments count positions, which the descriptors do not tell.
    for index, enum in enumerate(proto.enum_type):
        yield file.enum_types_by_name[enum.name], (_ENUMS, index)
    for index, message in enumerate(proto.message_type):
        yield from _nested_enums(file.message_types_by_name[message.name], (_MESSAGES, index))


def _nested_enums(message: Descriptor, path: tuple[int, ...]) -> Iterator[tuple[EnumDescriptor, tuple[int, ...]]]:
    for index, enum in enumerate(message.enum_types):
        yield enum, (*path, _NESTED_ENUMS, index)
    for index, nested in enumerate(message.nested_types):
        yield from _nested_enums(nested, (*path, _NESTED_MESSAGES, index))


def _read_enum(enum: EnumDescriptor, domain: str, path: tuple[int, ...], source: _Source) -> EnumCatalogue:
    declared = {value.name: found for value, found in read_values(enum)}
    return EnumCatalogue(
        place=source.place(enum.full_name, path),
        name=enum.full_name.removeprefix(f"{enum.file.package}.") if enum.file.package else enum.full_name,
        domain=domain,
        description=source.comment(path),
        entries=tuple(
            _entry(value, declared.get(value.name), (*path, _VALUES, index), source)
            for index, value in enumerate(enum.values)
        ),
    )


def _entry(
    value: EnumValueDescriptor, found: Declaration | ValueError | None, path: tuple[int, ...], source: _Source
) -> Entry:
    place = source.place(f"{value.type.full_name}.{value.name}", path)
    if isinstance(found, ValueError):
        return Entry(place=place, number=value.number, problem=str(found))
    if found is not None:
        found = replace(found, description=source.comment(path))
    return Entry(place=place, number=value.number, declaration=found)


def _methods(file: FileDescriptor, proto: descriptor_pb2.FileDescriptorProto, source: _Source) -> Iterator[Method]:
    for number, declared in enumerate(proto.service):
        service = file.services_by_name[declared.name]
        for index, method in enumerate(service.methods):
            reasons = read_method(method)
            if reasons:
                yield Method(
                    place=source.place(method.full_name, (_SERVICES, number, _METHODS, index)),
                    service=service.name,
                    name=method.name,
                    path=f"/{service.full_name}/{method.name}",
                    reasons=reasons,
                )


def _visible(file: FileDescriptor) -> Iterator[str]:
    for imported in file.dependencies:
        yield imported.name
        yield from _public(imported)


def _public(file: FileDescriptor) -> Iterator[str]:
    for imported in file.public_dependencies:
        yield imported.name
        yield from _public(imported)


class _Source:
    """The comments and lines of one file."""

    def __init__(self, file: str, proto: descriptor_pb2.FileDescriptorProto) -> None:
        self._file = file
        self._locations: dict[tuple[int, ...], Any] = {
            tuple(location.path): location for location in proto.source_code_info.location
        }

    def place(self, name: str, path: tuple[int, ...]) -> Place:
        location = self._locations.get(path)
        return Place(file=self._file, name=name, line=location.span[0] + 1 if location is not None else None)

    def comment(self, path: tuple[int, ...]) -> str:
        location = self._locations.get(path)
        if location is None:
            return ""
        # A comment's lines start with the blank behind its slashes, which the first line must not lose alone.
        text: str = location.leading_comments or location.trailing_comments
        return inspect.cleandoc("\n" + text)

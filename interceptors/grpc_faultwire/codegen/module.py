"""The Python module for the errors of one .proto file."""

from __future__ import annotations

import enum
import inspect
import keyword
from collections import Counter
from collections.abc import Iterable, Iterator

from grpc_faultwire.codegen.contract import Contract, EnumCatalogue, Method, ProtoFile, resolve
from grpc_faultwire.codegen.expression import WIDTH, Brackets, Expression, call, lay_out, mapping, quoted, sequence
from grpc_faultwire.declaration import Declaration, MetadataKey, class_name
from grpc_faultwire.reader import upper_snake
from grpc_faultwire.redaction import escaped

SUFFIX = "_faultwire"
"""What a generated module's name ends in, as protoc's own end in _pb2."""

_FAULTWIRE = "grpc_faultwire"
_METHOD_ERRORS = "METHOD_ERRORS"


def module_path(proto: str) -> str:
    """Return the path of the module for a .proto: "bookshop/v1/bookshop.proto" gives "…/bookshop_faultwire.py"."""
    return f"{proto.removesuffix('.proto').replace('-', '_')}{SUFFIX}.py"


def module_name(proto: str) -> str:
    """Return the name by which the module for a .proto is imported."""
    return module_path(proto).removesuffix(".py").replace("/", ".")


def has_module(file: ProtoFile) -> bool:
    """Tell whether a file declares anything to make a module of."""
    return bool(file.catalogues or file.methods)


def write_module(file: ProtoFile, contract: Contract) -> str:
    """Return the text of a file's module; the same declarations give the same bytes.

    Raises:
        ValueError: something is declared wrongly, or two names would be the same. There is a line for each.
    """
    problems = [f"{entry.place}: {entry.problem}" for one in file.catalogues for entry in one.entries if entry.problem]
    for method in file.methods:
        problems += [f"{method.place}: {problem}" for problem in resolve(method, contract).problems]
    problems += clashes(file)
    if problems:
        raise ValueError("\n".join(problems))
    blocks = [_header(file, contract)]
    for catalogue in file.catalogues:
        blocks += [_class(declaration) for declaration in catalogue.declarations]
    constants = [_catalogue(catalogue) for catalogue in file.catalogues]
    constants += [_method(method, contract) for method in file.methods]
    if file.methods:
        constants.append(_method_errors(file))
    blocks.append("\n\n".join(constants))
    return "\n\n\n".join(blocks) + "\n"


def catalogue_name(catalogue: EnumCatalogue) -> str:
    """Return the name of a catalogue's constant: "BookshopError" gives "BOOKSHOP_ERROR"."""
    return "_".join(upper_snake(part) for part in catalogue.name.split("."))


def method_name(method: Method) -> str:
    """Return the name of the constant with a method's errors: "BOOKSHOP_GET_BOOK_ERRORS"."""
    return f"{upper_snake(method.service)}_{upper_snake(method.name)}_ERRORS"


def _names(file: ProtoFile) -> list[str]:
    classes = [class_name(one.reason) for catalogue in file.catalogues for one in catalogue.declarations]
    constants = [catalogue_name(one) for one in file.catalogues] + [method_name(one) for one in file.methods]
    return [*classes, *constants, *([_METHOD_ERRORS] if file.methods else [])]


def clashes(file: ProtoFile) -> Iterator[str]:
    """Say which declarations of a file would have one name in Python."""
    for name, count in Counter(_names(file)).items():
        if count > 1:
            yield f"{file.name}: {count} declarations would be called {name} in Python; rename one, or move it"


def _header(file: ProtoFile, contract: Contract) -> str:
    lines = [
        f'"""The errors that {file.name} declares.',
        "",
        f"Made by protoc-gen-faultwire from {file.name}. Do not edit.",
        '"""',
        "",
        "from __future__ import annotations",
        "",
        "import typing",
    ]
    if file.methods:
        lines.append("from collections import abc")
    lines += ["", f"import {_FAULTWIRE}", *(f"import {name}" for name in _foreign_modules(file, contract)), ""]
    # Constants first, as isort and ruff sort them.
    names = sorted(_names(file), key=lambda name: (not name.isupper(), name))
    exported = [("", quoted(name)) for name in names]
    return "\n".join(lines + lay_out(Brackets("[", exported, "]"), before="__all__ = "))


def _foreign_modules(file: ProtoFile, contract: Contract) -> list[str]:
    names = {name for method in file.methods for name, _ in resolve(method, contract).found if name != file.name}
    modules = sorted(module_name(name) for name in names)
    for module in modules:
        if not all(part.isidentifier() and not keyword.iskeyword(part) for part in module.split(".")):
            raise ValueError(f"{file.name}: the errors of its methods would be imported from {module}, no Python name")
    return modules


def _class(declaration: Declaration) -> str:
    name, base = class_name(declaration.reason), f"{_FAULTWIRE}.{class_name(declaration.code)}"
    header = [f"class {name}({base}):"]
    if len(header[0]) > WIDTH:
        header = [f"class {name}(", f"    {base}", "):"]
    parameters = [f"        {key.argument}: {_FAULTWIRE}.MetadataValue," for key in declaration.metadata]
    metadata = mapping([(key.key, key.argument) for key in declaration.metadata])
    lines = [
        *header,
        *_docstring(_about(declaration), "    "),
        "",
        *lay_out(_declaration(declaration), before="declaration = ", indent="    "),
        "",
        "    def __init__(",
        "        self,",
        "        message: str | None = None,",
        *(["        *,", *parameters] if parameters else []),
        f"        **arguments: typing.Unpack[{_FAULTWIRE}.ErrorArguments],",
        "    ) -> None:",
        *lay_out(
            Brackets("super().__init__(", [("", "message"), ("metadata=", metadata), ("", "**arguments")], ")"),
            indent="        ",
        ),
    ]
    return "\n".join(lines)


def _about(declaration: Declaration) -> list[str]:
    comment = [escaped(line.expandtabs()).rstrip() for line in declaration.description.split("\n")]
    lines = comment if any(comment) else [f"{declaration.reason} of {declaration.domain}."]
    facts = []
    if declaration.message:
        facts.append(f"Message: {escaped(declaration.message)}".rstrip())
    if declaration.docs_url:
        facts.append(f"See {escaped(declaration.docs_url)}".rstrip())
    if facts:
        lines = [*lines, "", *facts]
    return [*lines, "", "Args:", *(f"    {line}" for line in _arguments(declaration))]


def _arguments(declaration: Declaration) -> Iterator[str]:
    yield "message: what is said in place of the declared message."
    for key in declaration.metadata:
        yield f"{key.argument}: {_about_key(key)}"
    yield "arguments: what every error takes; see StatusError."


def _about_key(key: MetadataKey) -> str:
    about = escaped(" ".join(key.description.split())) or f"the metadata {key.key}."
    return about if key.public else f"{about} It does not leave the server."


def _docstring(lines: list[str], indent: str) -> list[str]:
    text = inspect.cleandoc("\n".join(lines)).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    first, *rest = text.split("\n")
    # A quote at the start would end what opens it.
    first = f"\\{first}" if first.startswith('"') else first
    return [f'{indent}"""{first}', *(f"{indent}{line}".rstrip() for line in rest), f'{indent}"""']


def _declaration(declaration: Declaration) -> Expression:
    delay = declaration.retry_delay
    return call(
        f"{_FAULTWIRE}.Declaration",
        reason=quoted(declaration.reason),
        domain=quoted(declaration.domain),
        code=quoted(declaration.code),
        category=_member(declaration.category),
        severity=_member(declaration.severity),
        retry_scope=_member(declaration.retry_scope),
        retry_delay=None if delay is None else repr(delay),
        message=_text(declaration.message),
        metadata=sequence([_metadata_key(key) for key in declaration.metadata]) if declaration.metadata else None,
        docs_url=_text(declaration.docs_url),
        raised_by=sequence([quoted(name) for name in declaration.raised_by]) if declaration.raised_by else None,
        description=_text(declaration.description),
    )


def _metadata_key(key: MetadataKey) -> Expression:
    return call(
        f"{_FAULTWIRE}.MetadataKey",
        key=quoted(key.key),
        sensitivity=_member(key.sensitivity),
        description=_text(key.description),
    )


def _member(member: enum.Enum | None) -> str | None:
    return None if member is None else f"{_FAULTWIRE}.{type(member).__name__}.{member.name}"


def _text(text: str) -> str | None:
    return quoted(text) if text else None


def _catalogue(catalogue: EnumCatalogue) -> str:
    classes = sequence([class_name(one.reason) for one in catalogue.declarations])
    value = call(f"{_FAULTWIRE}.Catalogue", quoted(catalogue.domain), classes)
    return _constant(catalogue_name(catalogue), value, f"The catalogue {catalogue.place.name}.")


def _method(method: Method, contract: Contract) -> str:
    classes = [
        class_name(one.reason) if name == method.place.file else f"{module_name(name)}.{class_name(one.reason)}"
        for name, one in resolve(method, contract).found
    ]
    return _constant(method_name(method), sequence(classes), f"What {method.path.removeprefix('/')} declares.")


def _constant(name: str, value: Expression, about: str) -> str:
    return "\n".join([*lay_out(value, before=f"{name}: typing.Final = "), f'"""{about}"""'])


def _method_errors(file: ProtoFile) -> str:
    items: Iterable[tuple[str, str]] = [(method.path, method_name(method)) for method in file.methods]
    annotation = f"abc.Mapping[str, tuple[type[{_FAULTWIRE}.StatusError], ...]]"
    lines = lay_out(mapping(list(items)), before=f"{_METHOD_ERRORS}: {annotation} = ")
    return "\n".join([*lines, '"""What each method declares, by the path that gRPC calls it by."""'])

"""Reading what .proto files declare, with comments, lines and what methods mean."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2

from bookshop.v1 import bookshop_pb2
from faultwire.v1 import options_pb2
from grpc_faultwire.codegen.contract import pool_of, read_contract, read_loaded, resolve

from . import shop


def test_comments_become_descriptions() -> None:
    """A value's comment keeps its lines and loses the blank behind its slashes."""
    first = shop.contract()[shop.SHOP].catalogues[0].entries[1]
    assert first.declaration is not None
    assert first.declaration.description.startswith('"Sold out" is said of a """thing""" with a \\backslash\\.\n\nMore')
    assert "\n  * or not: café ☕" in first.declaration.description


def test_lines_are_those_of_the_source() -> None:
    """A place names the line on which a value stands."""
    entry = shop.contract()[shop.SHOP].catalogues[0].entries[1]
    source = (shop.HERE / "protos" / shop.SHOP).read_text().splitlines()
    assert entry.place.line is not None
    assert "SHOP_ERROR_SOLD_OUT = 1" in source[entry.place.line - 1]


def test_enums_in_messages_are_found() -> None:
    """A catalogue may be an enum inside a message, with its comments."""
    nested = shop.contract()[shop.SHOP].catalogues[1]
    assert (nested.name, nested.domain, nested.description) == (
        "Item.Error",
        "items.codegen.example",
        "Errors of one item.",
    )


def test_a_method_means_its_own_file_first_and_then_its_imports() -> None:
    """Reasons are looked up in the method's file and in the files that it imports."""
    known = shop.contract()
    method = known[shop.SHOP].methods[0]
    found = resolve(method, known)
    assert [(file, one.reason) for file, one in found.found] == [
        (shop.SHOP, "SOLD_OUT"),
        (shop.COMMON, "NOT_ALLOWED"),
        (shop.SHOP, "NONE"),
    ]
    assert found.problems == ()


def declaring(name: str, domain: str, *imports: str, public: bool = False) -> descriptor_pb2.FileDescriptorProto:
    """Make a file that declares LOST in a domain."""
    package = name.removesuffix(".proto")
    file = descriptor_pb2.FileDescriptorProto(name=name, package=package, syntax="proto3", dependency=imports)
    file.public_dependency.extend(range(len(imports)) if public else ())
    if domain:
        enum = file.enum_type.add(name="Error")
        enum.options.Extensions[options_pb2.catalogue].domain = domain
        enum.value.add(name="ERROR_UNSPECIFIED")
        enum.value.add(name="ERROR_LOST", number=1).options.Extensions[options_pb2.error].code = "NOT_FOUND"
    return file


def calling(file: descriptor_pb2.FileDescriptorProto) -> descriptor_pb2.FileDescriptorProto:
    """Add a method that names LOST."""
    file.message_type.add(name="M")
    method = file.service.add(name="S").method.add(
        name="Get", input_type=f".{file.package}.M", output_type=f".{file.package}.M"
    )
    method.options.Extensions[options_pb2.errors].reasons.append("LOST")
    return file


@pytest.mark.parametrize(
    ("files", "domains"),
    [
        pytest.param(
            [calling(declaring("a.proto", "a", "b.proto")), declaring("b.proto", "b")], ["a"], id="its-own-first"
        ),
        pytest.param(
            [
                calling(declaring("a.proto", "", "b.proto")),
                declaring("b.proto", "", "c.proto", public=True),
                declaring("c.proto", "c"),
            ],
            ["c"],
            id="through-public-imports",
        ),
        pytest.param(
            [
                calling(declaring("a.proto", "", "b.proto")),
                declaring("b.proto", "", "c.proto"),
                declaring("c.proto", "c"),
            ],
            [],
            id="not-through-others",
        ),
        pytest.param(
            [
                calling(declaring("a.proto", "", "b.proto", "c.proto")),
                declaring("b.proto", "b"),
                declaring("c.proto", "c"),
            ],
            [],
            id="not-if-two-have-it",
        ),
    ],
)
def test_where_a_method_finds_its_reasons(files: list[descriptor_pb2.FileDescriptorProto], domains: list[str]) -> None:
    """A file's own declaration wins; imports count as in protobuf, and of two neither is taken."""
    known = read_contract(files)
    found = resolve(known["a.proto"].methods[0], known)
    assert [one.domain for _, one in found.found] == domains
    assert bool(found.problems) is not bool(domains)


def test_a_reason_that_nobody_declares_is_a_problem() -> None:
    """A method that names an unknown reason is told so, with the file's name."""
    known = shop.contract()
    del known[shop.COMMON]  # type: ignore[attr-defined]  # a dict underneath
    problems = resolve(known[shop.SHOP].methods[0], known).problems
    assert problems == ("NOT_ALLOWED is declared neither in shop/v1/shop.proto nor in a file that it imports",)


def test_loaded_modules_are_read_without_comments() -> None:
    """What a process has imported gives the same declarations; comments and lines are not there."""
    catalogue = read_loaded([bookshop_pb2.DESCRIPTOR])["bookshop/v1/bookshop.proto"].catalogues[0]
    assert "BOOK_NOT_FOUND" in [one.reason for one in catalogue.declarations]
    assert catalogue.place.line is None
    assert catalogue.description == ""


def test_an_import_that_is_missing_is_named() -> None:
    """A descriptor set without its imports is refused, and how to make a whole one is said."""
    file = descriptor_pb2.FileDescriptorProto(name="a.proto", dependency=["nowhere/b.proto"])
    with pytest.raises(ValueError, match=r"nowhere/b.proto is imported and not there: .*--include_imports"):
        read_contract([file])


def test_files_that_contradict_each_other_are_refused() -> None:
    """Two files that define one type give a sentence, not protobuf's own traceback."""
    files = [descriptor_pb2.FileDescriptorProto(name=name) for name in ("a.proto", "b.proto")]
    for file in files:
        file.message_type.add(name="Same")
    with pytest.raises(ValueError, match=r"b.proto does not fit"):
        pool_of(files)

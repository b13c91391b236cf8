"""The generated modules: the same classes as Catalogue.of, formatted, typed and stable."""

from __future__ import annotations

import inspect
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bookshop.v1 import bookshop_faultwire, bookshop_pb2
from faultwire.v1 import options_pb2
from grpc_faultwire import Catalogue, FailedPrecondition
from grpc_faultwire.catalogue import declaration_of
from grpc_faultwire.codegen.contract import read_contract
from grpc_faultwire.codegen.module import module_path, write_module

from . import shop


def agree(generated: Catalogue, enum: Any) -> None:
    """Check that a generated catalogue is what Catalogue.of makes of an enum."""
    at_run_time = Catalogue.of(enum)
    assert [declaration_of(cls) for cls in at_run_time] == [declaration_of(cls) for cls in generated]
    assert list(at_run_time) == list(generated), "the registered classes are the generated ones"
    assert at_run_time.domain == generated.domain


def test_the_bookshop_agrees_with_the_catalogue_made_at_run_time() -> None:
    """The committed module of the bookshop declares what its enum declares."""
    agree(bookshop_faultwire.BOOKSHOP_ERROR, bookshop_pb2.BookshopError)


@pytest.mark.parametrize(
    ("constant", "name"), [("SHOP_ERROR", "shop.v1.ShopError"), ("ITEM_ERROR", "shop.v1.Item.Error")]
)
def test_hard_catalogues_agree_too(constant: str, name: str) -> None:
    """Quotes, keywords and enums inside messages, read from a pool of its own, give the same declarations."""
    module, _ = shop.modules()
    agree(getattr(module, constant), shop.enum(name))


RUN_TIME = """
import sys
from google.protobuf import descriptor_pb2
from tests.unit.codegen import shop
from grpc_faultwire import Catalogue
import inspect
for name in ("shop.v1.ShopError", "shop.v1.Item.Error"):
    for cls in Catalogue.of(shop.enum(name)):
        keys = [one for one in inspect.signature(cls).parameters.values() if one.kind is one.KEYWORD_ONLY]
        print(cls.__name__, cls.__mro__[1].__name__, *(one.name for one in keys))
"""


def test_classes_have_the_names_bases_and_arguments_of_those_made_at_run_time() -> None:
    """A process without generated code gives the same names, code classes and keyword-only arguments."""
    done = subprocess.run(
        [sys.executable, "-c", RUN_TIME], check=True, capture_output=True, text=True, cwd=shop.HERE.parents[2]
    )
    module, _ = shop.modules()
    expected = []
    for cls in (*module.SHOP_ERROR, *module.ITEM_ERROR):
        keys = [one for one in inspect.signature(cls).parameters.values() if one.kind is one.KEYWORD_ONLY]
        expected.append(" ".join([cls.__name__, cls.__mro__[1].__name__, *(one.name for one in keys)]))
    assert done.stdout.splitlines() == expected


def test_metadata_are_given_by_names_that_python_can_say() -> None:
    """Keys that are keywords, have hyphens, or are arguments already, get names of their own and travel as they are."""
    module, _ = shop.modules()
    error = module.SoldOut(book_id=7, class_="b", reason_=True, self_=1.5, api_token="t0p")
    assert error.metadata == {"book-id": "7", "class": "b", "reason": "True", "self": "1.5", "api_token": "t0p"}
    assert (error.reason, error.domain) == ("SOLD_OUT", "shop.codegen.example")
    assert error.message == '"7" isn\'t here: b, True, 1.5\n\\'


def test_a_class_takes_what_every_error_takes() -> None:
    """The other arguments of an error are passed on."""
    module, _ = shop.modules()
    cause = module.None_()
    error = module.WrongName("Another message.", name="x", retry_delay=2, causes=[cause])
    assert (error.message, error.retry_delay, error.causes) == ("Another message.", 2, (cause,))


def test_a_missing_metadata_argument_is_a_type_error() -> None:
    """Metadata are required, by keyword."""
    module, _ = shop.modules()
    with pytest.raises(TypeError, match="name"):
        module.WrongName()


def test_instances_pickle() -> None:
    """A pickled error comes back as the same class with the same content."""
    error = bookshop_faultwire.OutOfStock(isbn="978-1", left=2)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is bookshop_faultwire.OutOfStock
    assert (copy.message, copy.metadata, copy.error_id) == (error.message, error.metadata, error.error_id)


def test_a_method_is_caught_by_what_it_declares() -> None:
    """The tuple of a method's errors stands in an except clause."""
    module, common = shop.modules()
    with pytest.raises(module.SHOP_BUY_ERRORS):
        raise common.NotAllowed
    assert module.METHOD_ERRORS["/shop.v1.Shop/Buy"] == (module.SoldOut, common.NotAllowed, module.None_)
    assert issubclass(module.SoldOut, FailedPrecondition)


def test_docstrings_say_what_the_proto_says() -> None:
    """A class's docstring has the comment, the message template, the page and the metadata."""
    module, _ = shop.modules()
    doc = inspect.getdoc(module.SoldOut)
    assert doc is not None
    assert doc.startswith('"Sold out" is said of a """thing""" with a \\backslash\\.')
    for fact in ("See https://docs.example.com/'sold'", "book_id: Which book it was.", "It does not leave the server."):
        assert fact in doc


def test_the_text_is_the_same_whatever_the_order_of_the_files() -> None:
    """Two runs, and files in any order, give the same bytes."""
    files = list(shop.FILES)
    for seed in range(5):
        random.Random(seed).shuffle(files)
        known = read_contract(files)
        assert write_module(known[shop.SHOP], known) == shop.text()


def formatted(text: str, *arguments: str) -> bool:
    """Tell whether ruff leaves a text as it is."""
    pytest.importorskip("ruff", reason="ruff is in the lint group")
    command = [sys.executable, "-m", "ruff", "format", "--isolated", "--check", *arguments, "-"]
    return subprocess.run(command, input=text.encode(), capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("width", ["88", "120"])
def test_formatters_leave_it_alone(width: str) -> None:
    """At the usual widths a formatter changes nothing."""
    assert formatted(Path(bookshop_faultwire.__file__).read_text(), "--line-length", width)
    if width == "88":
        assert formatted(shop.text())


def enum_file(name: str = "x.proto", enum: str = "Error") -> descriptor_pb2.FileDescriptorProto:
    """Make a file with an empty catalogue."""
    file = descriptor_pb2.FileDescriptorProto(name=name, syntax="proto3", dependency=["faultwire/v1/options.proto"])
    made = file.enum_type.add(name=enum)
    made.options.Extensions[options_pb2.catalogue].domain = f"{enum.lower()}.made.example"
    made.value.add(name=f"{enum.upper()}_UNSPECIFIED", number=0)
    return file


def add_error(file: descriptor_pb2.FileDescriptorProto, reason: str, **declared: Any) -> options_pb2.ErrorOptions:
    """Declare an error."""
    values = file.enum_type[0].value
    value = values.add(name=f"V{len(values)}", number=len(values))
    error = value.options.Extensions[options_pb2.error]
    error.CopyFrom(options_pb2.ErrorOptions(**{"code": "INTERNAL", "reason": reason, **declared}))
    return error


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=60).map(lambda text: text.replace("{", "("))


@given(st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_text_gives_a_module_that_says_it(entries: list[tuple[str, str, str]]) -> None:
    """Messages, URLs and descriptions of any characters come out of the module as they went in."""
    file = enum_file()
    for number, (message, url, about) in enumerate(entries):
        error = add_error(file, f"REASON_{chr(65 + number)}", message=message, docs_url=url)
        error.metadata.add(key=f"k{number}", description=about)
    known = read_contract([file])
    source = write_module(known["x.proto"], known)
    tree = compile(source, "x", "exec", flags=0x400)  # ast.PyCF_ONLY_AST
    literals = {node.value for node in _constants(tree)}
    for message, url, about in entries:
        assert {message, url.replace("{reason}", ""), about} - {""} <= literals


def _constants(tree: Any) -> Any:
    import ast

    return [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


@pytest.mark.slow
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_any_text_is_formatted(entries: list[tuple[str, str]]) -> None:
    """A formatter leaves modules alone whatever characters they hold."""
    file = enum_file()
    for number, (message, about) in enumerate(entries):
        add_error(file, f"REASON_{chr(65 + number)}", message=message, docs_url=about)
    known = read_contract([file])
    assert formatted(write_module(known["x.proto"], known))


def test_names_that_clash_are_refused() -> None:
    """A class and a constant of one name, or two constants, give a sentence."""
    file = enum_file(enum="ABC")
    add_error(file, "A_B_C")
    known = read_contract([file])
    with pytest.raises(ValueError, match=r"x.proto: 2 declarations would be called ABC in Python"):
        write_module(known["x.proto"], known)


def test_what_is_declared_wrongly_is_told_line_by_line() -> None:
    """Every wrong declaration of a file is named at once."""
    file = enum_file()
    add_error(file, "lower")
    add_error(file, "FINE", code="OK")
    known = read_contract([file])
    with pytest.raises(ValueError, match=r"(?s)Error.V1: V1: reason 'lower'.*\n.*Error.V2: V2: the status code 'OK'"):
        write_module(known["x.proto"], known)


def test_paths_are_those_of_protoc() -> None:
    """The module lies beside _pb2.py, under a name that can be imported."""
    assert module_path("a-b/c-d.proto") == "a_b/c_d_faultwire.py"

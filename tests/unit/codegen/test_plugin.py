"""protoc-gen-faultwire as protoc runs it: a request on standard input, a response on standard output."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.compiler import plugin_pb2

from bookshop.v1 import bookshop_faultwire
from faultwire.v1 import options_pb2
from grpc_faultwire.codegen.plugin import generate

from . import shop

PROGRAM = Path(sys.executable).with_name("protoc-gen-faultwire")


def run(data: bytes) -> subprocess.CompletedProcess[bytes]:
    """Run the plugin as a program."""
    command = [sys.executable, "-m", "grpc_faultwire.codegen.plugin"]
    return subprocess.run(
        command, input=data, capture_output=True, check=False, env=os.environ | {"PYTHONWARNINGS": "error"}
    )


def request(**fields: object) -> plugin_pb2.CodeGeneratorRequest:
    """Make a request for shop.proto."""
    return plugin_pb2.CodeGeneratorRequest(
        proto_file=[imported(options_pb2), *shop.FILES], **{"file_to_generate": [shop.SHOP, shop.COMMON], **fields}
    )


def imported(module: object) -> descriptor_pb2.FileDescriptorProto:
    """Return the descriptor of a generated module."""
    return descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)  # type: ignore[attr-defined]


def test_a_request_is_answered_with_modules() -> None:
    """Options survive the way through protoc, which the plugin must not parse before it knows them."""
    done = run(request().SerializeToString())
    response = plugin_pb2.CodeGeneratorResponse.FromString(done.stdout)
    assert (done.returncode, done.stderr, response.error) == (0, b"", "")
    assert [file.name for file in response.file] == ["shop/v1/common_faultwire.py", "shop/v1/shop_faultwire.py"]
    assert response.file[1].content == shop.text()


def test_the_entry_point_is_installed() -> None:
    """protoc finds the plugin by its name on the PATH."""
    if not PROGRAM.exists():
        pytest.skip("the package is not installed here")
    done = subprocess.run([PROGRAM], input=request().SerializeToString(), capture_output=True, check=True)
    assert plugin_pb2.CodeGeneratorResponse.FromString(done.stdout).file


def test_files_without_errors_give_nothing() -> None:
    """A file that declares no errors has no module."""
    asked = plugin_pb2.CodeGeneratorRequest(
        file_to_generate=["faultwire/v1/options.proto"], proto_file=[imported(options_pb2)]
    )
    response = generate(asked)
    assert not response.file
    assert response.error == ""


def test_features_that_protoc_asks_for_are_named() -> None:
    """Optional fields of proto3 and editions are no reason to refuse a file."""
    response = generate(request())
    assert response.supported_features == 3
    assert response.maximum_edition >= response.minimum_edition > 0


def test_options_are_refused() -> None:
    """An option that would be ignored is an error."""
    response = generate(request(parameter="paths=source"))
    assert response.error == "protoc-gen-faultwire takes no options, so not 'paths=source'"
    assert not response.file


def test_wrong_declarations_are_protocs_to_show() -> None:
    """What is wrong comes back as the response's error, with the place, and nothing is written."""
    asked = request()
    asked.proto_file[-1].enum_type[0].value[1].options.Extensions[options_pb2.error].code = "GONE"
    response = generate(asked)
    assert "shop/v1/shop.proto:" in response.error
    assert "the status code 'GONE' is none of an error" in response.error
    assert not response.file


def test_files_that_cannot_be_read_are_protocs_to_show() -> None:
    """A request without a file that another imports has a response with an error."""
    response = generate(plugin_pb2.CodeGeneratorRequest(file_to_generate=[shop.SHOP], proto_file=[shop.FILES[-1]]))
    assert response.error.startswith("shop/v1/common.proto is imported and not there")


def test_it_is_no_program_for_people() -> None:
    """Run by hand, with anything on standard input, it says what it is for."""
    done = run(b"\xff\xff\xff")
    assert done.returncode == 2
    assert done.stderr == b"protoc-gen-faultwire is run by protoc, with --faultwire_out=FOLDER\n"


def test_the_bookshop_is_fresh() -> None:
    """The committed module of the bookshop declares what its .proto has now, comments aside."""
    from bookshop.v1 import bookshop_pb2

    asked = plugin_pb2.CodeGeneratorRequest(
        file_to_generate=["bookshop/v1/bookshop.proto"], proto_file=[imported(options_pb2), imported(bookshop_pb2)]
    )
    made = generate(asked).file[0].content.splitlines()
    committed = set(Path(bookshop_faultwire.__file__).read_text().splitlines())
    assert [line for line in made if line not in committed and " of bookshop.example.com." not in line] == []

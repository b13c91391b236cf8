"""Catalogues that differ between a server and its caller: unknown reasons, older and newer callers, shared domains."""

from __future__ import annotations

import itertools
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2

from faultwire.v1 import options_pb2
from grpc_faultwire import Catalogue, FailedPrecondition, NotFound, Redactor, StatusError
from grpc_faultwire.codegen.contract import pool_of, read_contract
from grpc_faultwire.codegen.module import write_module
from grpc_faultwire.status import decode, encode

_serial = itertools.count()


def proto(enum: str, domain: str, *errors: dict[str, Any]) -> descriptor_pb2.FileDescriptorProto:
    """Make a file with a catalogue."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{enum.lower()}{next(_serial)}.proto", syntax="proto3", dependency=["faultwire/v1/options.proto"]
    )
    made = file.enum_type.add(name=enum)
    made.options.Extensions[options_pb2.catalogue].domain = domain
    made.value.add(name="UNSPECIFIED", number=0)
    for number, error in enumerate(errors, 1):
        value = made.value.add(name=f"{enum.upper()}_{number}", number=number)
        value.options.Extensions[options_pb2.error].CopyFrom(options_pb2.ErrorOptions(**error))
    return file


def generated(file: descriptor_pb2.FileDescriptorProto) -> dict[str, Any]:
    """Run the module for a file."""
    known = read_contract([file])
    namespace: dict[str, Any] = {"__name__": file.name}
    exec(compile(write_module(known[file.name], known), file.name, "exec"), namespace)
    return namespace


def received(error: StatusError) -> StatusError:
    """Send an error through a server's encoder and a caller's decoder."""
    reply = encode(error, service="s.S", method="M", redactor=Redactor(metadata_keys=("key", "gone", "added")), now=0.0)
    return decode(reply.code, reply.message, trailing_metadata=reply.trailers)


def test_a_reason_of_the_catalogue_is_caught_by_its_class() -> None:
    """What a server raises from a catalogue, a caller with the same catalogue catches by type."""
    module = generated(proto("Same", "same.made.example", {"code": "NOT_FOUND", "reason": "LOST", "message": "Lost."}))
    error = received(module["Lost"]())
    assert type(error) is module["Lost"]
    assert isinstance(error, NotFound)


def test_an_older_caller_gets_the_class_of_the_code() -> None:
    """A reason that the caller's catalogue does not have is an error of its code, with reason and metadata."""
    generated(proto("Older", "older.made.example", {"code": "NOT_FOUND", "reason": "LOST"}))
    newer = NotFound("New.", reason="VANISHED", domain="older.made.example", metadata={"key": "1"})
    error = received(newer)
    assert type(error) is NotFound
    assert (error.reason, error.domain, error.metadata) == ("VANISHED", "older.made.example", {"key": "1"})


def test_a_newer_caller_decodes_an_older_servers_error() -> None:
    """Metadata that the server does not know yet are missing, and those that it still sends are kept."""
    module = generated(
        proto("Newer", "newer.made.example", {"code": "NOT_FOUND", "reason": "LOST", "metadata": [{"key": "added"}]})
    )
    older = NotFound("Old.", reason="LOST", domain="newer.made.example", metadata={"gone": "1"})
    error = received(older)
    assert type(error) is module["Lost"]
    assert error.metadata == {"gone": "1"}
    assert error.message == "Old."


def test_a_code_that_changed_is_the_rpcs_own() -> None:
    """A server that has given a reason another code is believed: the class would tell of the old one."""
    module = generated(proto("Moved", "moved.made.example", {"code": "NOT_FOUND", "reason": "LOST"}))
    error = received(FailedPrecondition(reason="LOST", domain="moved.made.example"))
    assert type(error) is FailedPrecondition
    assert not isinstance(error, module["Lost"])
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_two_catalogues_share_a_domain() -> None:
    """Enums of several files may declare reasons of one domain, as long as each is declared once."""
    first = generated(proto("First", "shared.made.example", {"code": "NOT_FOUND", "reason": "LOST"}))
    second = generated(proto("Second", "shared.made.example", {"code": "ABORTED", "reason": "RACED"}))
    assert type(received(first["Lost"]())) is first["Lost"]
    assert type(received(second["Raced"]())) is second["Raced"]


def test_two_catalogues_that_disagree_about_a_reason_cannot_be_imported() -> None:
    """One reason of one domain has one declaration in a process; the second import says so."""
    generated(proto("Left", "torn.made.example", {"code": "NOT_FOUND", "reason": "LOST"}))
    with pytest.raises(ValueError, match=r"torn.made.example/LOST is declared twice, and not alike"):
        generated(proto("Right", "torn.made.example", {"code": "ABORTED", "reason": "LOST"}))


def test_a_catalogue_in_a_dynamic_pool_gives_the_generated_classes() -> None:
    """An enum that came by reflection or in a descriptor set is read like an imported one."""
    file = proto(
        "Dynamic", "dynamic.made.example", {"code": "NOT_FOUND", "reason": "LOST", "metadata": [{"key": "key"}]}
    )
    module = generated(file)
    enum = pool_of([file]).FindEnumTypeByName("Dynamic")
    assert list(Catalogue.of(enum)) == [module["Lost"]]


def test_a_dynamic_pool_alone_gives_classes_to_catch_by() -> None:
    """Without any generated code, a catalogue from a dynamic pool types what is received."""
    file = proto("Alone", "alone.made.example", {"code": "NOT_FOUND", "reason": "LOST", "metadata": [{"key": "key"}]})
    catalogue = Catalogue.of(pool_of([file]).FindEnumTypeByName("Alone"))
    error = received(catalogue.Lost(key=1))
    assert type(error) is catalogue["LOST"]
    assert error.metadata == {"key": "1"}

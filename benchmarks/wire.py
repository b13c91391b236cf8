"""Encoding and decoding: a usual error, and the worst trailers that the transport lets through."""

from __future__ import annotations

from collections.abc import Callable

import grpc
from google.protobuf import any_pb2, struct_pb2
from google.rpc import error_details_pb2, status_pb2

from benchmarks.harness import in_process
from grpc_faultwire import InvalidArgument, StatusError
from grpc_faultwire.status import DETAILS_KEY, decode

LIMIT = 16_384
"""The hard limit of gRPC's core for all trailers, in bytes."""


def usual() -> StatusError:
    return InvalidArgument(
        "Two fields are wrong.",
        reason="FIELDS_WRONG",
        domain="shop.example.com",
        retry_delay=2,
        metadata={"count": 2},
        error_details=[
            error_details_pb2.BadRequest(
                field_violations=[{"field": "isbn", "description": "It has 9 digits."}, {"field": "quantity"}]
            )
        ],
    )


def worst() -> dict[str, bytes]:
    """Details trailers as large as fit, each costly in its own way."""
    nested = struct_pb2.Value(string_value="x")
    for _ in range(30):
        nested = struct_pb2.Value(list_value=struct_pb2.ListValue(values=[nested]))
    deep = status_pb2.Status(code=3)
    while deep.ByteSize() < LIMIT - 600:
        deep.details.add().Pack(nested)
    matryoshka = status_pb2.Status(code=3)
    while matryoshka.ByteSize() < LIMIT - 200:
        outer = status_pb2.Status(code=3)
        outer.details.add().Pack(matryoshka)
        matryoshka = outer
    info = error_details_pb2.ErrorInfo(reason="R", domain="d")
    while info.ByteSize() < LIMIT - 400:
        info.metadata[f"k{len(info.metadata)}"] = ""
    entries = status_pb2.Status(code=3)
    entries.details.add().Pack(info)
    same = error_details_pb2.ErrorInfo(reason="R", domain="d")
    many = status_pb2.Status(code=3)
    while many.ByteSize() < LIMIT - 200:
        many.details.add().Pack(same)
    broken = status_pb2.Status(code=3)
    while broken.ByteSize() < LIMIT - 200:
        broken.details.append(any_pb2.Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff"))
    statuses = {"deep": deep, "nested": matryoshka, "map entries": entries, "repeated": many, "undecodable": broken}
    return {
        **{name: status.SerializeToString() for name, status in statuses.items()},
        "empty details": b"\x08\x03" + b"\x1a\x00" * ((LIMIT - 100) // 2),
        "garbage": b"\xff" * (LIMIT - 100),
    }


def read_all(trailer: bytes) -> Callable[[], object]:
    def read() -> object:
        error = decode(grpc.StatusCode.INVALID_ARGUMENT, "", trailing_metadata=((DETAILS_KEY, trailer),))
        return error.error_details, error.report, error.batch, str(error)

    return read


def worst_cases() -> dict[str, Callable[[int], float]]:
    """Return cases that read every detail of the worst trailers that fit the transport."""
    return {f"{name}, {len(trailer)} B": in_process(read_all(trailer)) for name, trailer in worst().items()}

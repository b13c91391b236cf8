"""Whether callers would get an error of this size. Numbers are bytes as they travel, measured against real peers."""

from __future__ import annotations

from typing import NamedTuple

from google.rpc import status_pb2

SOFT = 8192
"""What grpc-java accepts, and what gRPC's C-core (Python, C++, Ruby, PHP, C#) accepts without fail."""
HARD = 16384
"""What C-core accepts with luck: in between, it rejects at random, the more the larger. hyper (Rust) closes the
connection, and with it every other call."""
FIXED = 320
"""The other entries of such an answer: :status, content-type, grpc-status, the names of those that carry the error."""

_PLAIN = bytes(char for char in range(0x20, 0x7F) if char != ord("%"))


class Audit(NamedTuple):
    """The size of an error.

    Attributes:
        status: bytes of the google.rpc.Status.
        binary: bytes of all trailers between two C-cores, which send binary values as they are.
        encoded: bytes of all trailers to any other peer, which gets base64.
        sentence: what follows.
        rejected: whether some callers would not get it.
    """

    status: int
    binary: int
    encoded: int
    sentence: str
    rejected: bool


def audit(status: status_pb2.Status, size: int) -> Audit:
    """Judge the size of an error.

    Args:
        status: its message travels a second time, percent-encoded, in grpc-message.
        size: bytes of its details trailer.
    """
    message = status.message.encode()
    beside = FIXED + len(message) + 2 * len(message.translate(None, _PLAIN))
    binary, encoded = beside + size, beside + (size * 4 + 2) // 3
    return Audit(size, binary, encoded, _sentence(binary, encoded), encoded > SOFT)


def _sentence(binary: int, encoded: int) -> str:
    if encoded <= SOFT:
        return f"{_kib(encoded)} of trailers: every caller gets this (grpc-java and C-core take {_kib(SOFT)})"
    if binary > HARD:
        return (
            f"{_kib(encoded)} of trailers: grpc-java and C-core clients would reject this, and hyper would disconnect"
        )
    if binary > SOFT:
        chance = round(100 * (binary - SOFT) / (HARD - SOFT))
        return (
            f"{_kib(encoded)} of trailers: grpc-java and C-core clients would reject this"
            f" (C-core at random, {chance} of 100 times)"
        )
    return f"{_kib(encoded)} of trailers in base64: grpc-java clients would reject this, and C-core behind a proxy"


def _kib(size: int) -> str:
    return f"{size / 1024:.1f} KiB"

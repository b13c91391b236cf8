"""Makes an error fit the transport, dropping the least useful first and saying so.

gRPC's core rejects trailers between 8 and 16 KiB at random and replaces the code, so an error that is too large is
worse than one cut short. What counts is the size as it travels: base64 grows details by 4/3, percent-encoding grows a
message up to three times.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message
from google.rpc import error_details_pb2 as rpc
from google.rpc import status_pb2

from faultwire.v1 import errors_pb2
from grpc_faultwire.details import URL_PREFIX, pack

BUDGET = 6144
"""Bytes that message and details may take as they travel: what the strictest common peers let through, with room for
trailers that proxies add."""
TRANSPORT = 8192
"""Bytes of trailers that every peer accepts: the soft limit of gRPC's core and grpc-java's limit."""
FIXED = 320
"""Bytes of the entries that are always there: :status 42, content-type 60, grpc-status 45, the names of grpc-message 44
and grpc-status-details-bin 55, and grpc-retry-pushback-ms 64, each with HTTP/2's 32 for an entry; and ten to spare."""
ENTRY = 32
"""Bytes that HTTP/2 counts for a header entry besides its name and value."""

Trailer = tuple[str, "str | bytes"]

_PLAIN = bytes(char for char in range(0x20, 0x7F) if char != ord("%"))
_VIOLATIONS = {
    rpc.BadRequest: "field_violations",
    rpc.QuotaFailure: "violations",
    rpc.PreconditionFailure: "violations",
}
_STANDARD = "google.rpc."


@dataclass(slots=True, kw_only=True, eq=False, repr=False)  # nobody compares or prints one
class Draft:
    """An error about to travel, in the parts that can be made smaller.

    Attributes:
        code: the number of the status code.
        message: travels twice: in grpc-message and in the google.rpc.Status.
        info: never dropped; its metadata may be.
        retry: never dropped.
        report: never dropped; its causes may be.
        details: all other details.
        trailers: the user's own.
    """

    code: int
    message: str
    info: rpc.ErrorInfo
    retry: rpc.RetryInfo | None
    report: errors_pb2.ErrorReport
    details: list[Message]
    trailers: list[Trailer] = field(default_factory=list)

    def status(self) -> status_pb2.Status:
        """Return the google.rpc.Status that would travel."""
        own = (self.info,) if self.retry is None else (self.info, self.retry)
        packed: list[Any] = []
        for message in (*own, *self.details, self.report):
            # As `pack` does, but a repeated field makes its own of dicts, and copies of messages.
            value = message.SerializePartialToString(deterministic=True)
            packed.append({"type_url": URL_PREFIX + message.DESCRIPTOR.full_name, "value": value})
        return status_pb2.Status(code=self.code, message=self.message, details=packed)

    def size(self, status: status_pb2.Status | None = None) -> int:
        """Return the bytes that message and details take as they travel; the status is made unless it is given."""
        status = self.status() if status is None else status
        return base64_size(status.ByteSize()) + message_size(self.message)

    def excess(self, budget: int, status: status_pb2.Status | None = None) -> int:
        """Return by how many bytes it is too large; 0 or less if it fits."""
        room = TRANSPORT - FIXED - sum(map(trailer_size, self.trailers))
        return self.size(status) - min(budget, room)


def base64_size(size: int) -> int:
    """Return the bytes that so many bytes take in base64."""
    return (size * 4 + 2) // 3


def message_size(message: str) -> int:
    """Return the bytes that a message takes percent-encoded, as gRPC does."""
    data = message.encode()
    return len(data) + 2 * len(data.translate(None, _PLAIN))


def trailer_size(trailer: Trailer) -> int:
    """Return the bytes that a trailer takes as it travels to a peer without gRPC's core."""
    key, value = trailer
    return ENTRY + len(key) + (base64_size(len(value)) if isinstance(value, bytes) else len(value))


def fit(draft: Draft, budget: int = BUDGET) -> status_pb2.Status:
    """Make a draft fit, step by step in a fixed order; its report's truncation says what was dropped.

    Returns:
        The google.rpc.Status that travels.

    Args:
        draft: changed in place.
        budget: bytes for message and details as they travel.
    """
    status = draft.status()
    if _fits_easily(draft, status, budget) or draft.excess(budget, status) <= 0:
        return status
    marker = draft.report.truncation
    marker.original_bytes = draft.size()
    for name, step in _STEPS:
        # The name is there while the step decides, as it takes room too. Steps estimate, so they are asked again.
        marker.dropped.append(name)
        changed = False
        while (excess := draft.excess(budget)) > 0 and step(draft, excess):
            changed = True
        if not changed:
            del marker.dropped[-1]
        if excess <= 0:
            break
    return draft.status()


def _fits_easily(draft: Draft, status: status_pb2.Status, budget: int) -> bool:
    # Base64 makes 4/3 of the whole, and percent-encoding up to three times as much of the message, which is part of it.
    return not draft.trailers and 5 * status.ByteSize() < min(budget, TRANSPORT - FIXED)


def _drop_kind(kind: type[Message]) -> Callable[[Draft, int], bool]:
    def step(draft: Draft, _excess: int) -> bool:
        kept = [detail for detail in draft.details if not isinstance(detail, kind)]
        changed = len(kept) < len(draft.details)
        draft.details[:] = kept
        return changed

    return step


def _trim_causes(draft: Draft, excess: int) -> bool:
    # Parents stand before their children, so the tail is the deepest.
    return _trim_tail(draft.report.causes, excess) > 0


def _trim_batch(draft: Draft, excess: int) -> bool:
    report = next((detail for detail in draft.details if isinstance(detail, errors_pb2.BatchReport)), None)
    if report is None:
        return False
    saved = _trim_tail(report.failures, excess)
    if saved < excess:
        saved += _trim_indexes(report, excess - saved)
    if saved < excess:
        saved += _trim_tail(report.groups, excess - saved)
    return saved > 0


def _trim_indexes(report: errors_pb2.BatchReport, excess: int) -> int:
    saved = 0
    for group in sorted(report.groups, key=lambda group: -len(group.indexes)):
        keep, cut = len(group.indexes), 0
        while keep > 1 and base64_size(cut) < excess - saved:
            keep -= 1
            cut += _varint_size(group.indexes[keep])
        if cut:
            group.count = max(group.count, len(group.indexes))
            del group.indexes[keep:]
            saved += base64_size(cut)
    return saved


def _varint_size(number: int) -> int:
    return (max(1, number.bit_length()) + 6) // 7 if number >= 0 else 10


def _trim_violations(draft: Draft, excess: int) -> bool:
    saved = 0
    for detail in draft.details:
        name = _VIOLATIONS.get(type(detail))
        if name is not None and saved < excess:
            saved += _trim_tail(getattr(detail, name), excess - saved)
    return saved > 0


def _drop_details(draft: Draft, excess: int) -> bool:
    def order(detail: Message) -> tuple[bool, int]:
        return detail.DESCRIPTOR.full_name.startswith(_STANDARD), -detail.ByteSize()

    saved = 0
    for detail in sorted(draft.details, key=order):
        if saved < excess and not isinstance(detail, rpc.LocalizedMessage):
            draft.details.remove(detail)
            saved += base64_size(pack(detail).ByteSize())
    for name in ("service", "method"):
        if saved < excess:
            saved += len(getattr(draft.report, name))
            draft.report.ClearField(name)
    return saved > 0


def _empty_metadata(draft: Draft, excess: int) -> bool:
    # The keys stay, as AIP-193 demands.
    metadata = draft.info.metadata
    saved = 0
    for key in sorted(metadata, key=lambda key: -len(metadata[key])):
        if saved < excess and metadata[key]:
            saved += base64_size(len(metadata[key].encode()))
            metadata[key] = ""
    return saved > 0


def _drop_metadata(draft: Draft, excess: int) -> bool:
    metadata = draft.info.metadata
    saved = 0
    for key in sorted(metadata, key=lambda key: -len(key)):
        if saved < excess:
            saved += base64_size(len(key) + 6)
            del metadata[key]
    return saved > 0


def _cut_message(draft: Draft, excess: int) -> bool:
    message = draft.message
    target = _message_cost(message) - excess
    # Costs grow with length, so the longest prefix that fits is found by bisection; a str is cut between characters.
    keep = bisect.bisect_right(range(len(message) + 1), target, key=lambda length: _message_cost(message[:length])) - 1
    draft.message = message[: max(0, keep)]
    return len(draft.message) < len(message)


def _message_cost(message: str) -> int:
    return message_size(message) + base64_size(len(message.encode()) + 4)


def _drop_trailers(draft: Draft, _excess: int) -> bool:
    before = len(draft.trailers)
    while draft.trailers and _too_large_for_core(draft):
        draft.trailers.pop()
    return len(draft.trailers) < before


def _too_large_for_core(draft: Draft) -> bool:
    # Between two of gRPC's cores binary values travel as they are: the user's are dropped only where that is too much.
    trailers = sum(ENTRY + len(key) + len(value) for key, value in draft.trailers)
    return draft.status().ByteSize() + message_size(draft.message) > TRANSPORT - FIXED - trailers


def _trim_tail(items: Any, excess: int) -> int:
    """Delete from the end of a repeated field until so many bytes are saved; return how many were."""
    sizes: Sequence[int] = [item.ByteSize() + 2 for item in items]
    saved, keep = 0, len(sizes)
    while keep > 0 and saved < excess:
        keep -= 1
        saved += base64_size(sizes[keep])
    del items[keep:]
    return saved


_STEPS: Iterable[tuple[str, Callable[[Draft, int], bool]]] = (
    ("debug_info", _drop_kind(rpc.DebugInfo)),
    ("help", _drop_kind(rpc.Help)),
    ("causes", _trim_causes),
    ("batch", _trim_batch),
    ("violations", _trim_violations),
    ("details", _drop_details),
    ("localized_message", _drop_kind(rpc.LocalizedMessage)),
    ("metadata", _empty_metadata),
    ("message", _cut_message),
    ("metadata_keys", _drop_metadata),
    ("trailers", _drop_trailers),
)

"""Where a message keeps the outcome of a batch: found by type, or named.

Three shapes are known: ``map<int32, google.rpc.Status>`` (AIP-233), `faultwire.v1.BatchReport`, and, in the responses
of a stream, a ``google.rpc.Status`` beside an ``index`` or ``indexes`` (as Spanner's BatchWriteResponse).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.rpc import status_pb2

from faultwire.v1 import errors_pb2

STATUS = status_pb2.Status.DESCRIPTOR.full_name
REPORT = errors_pb2.BatchReport.DESCRIPTOR.full_name
_INTEGERS = frozenset(
    getattr(FieldDescriptor, f"TYPE_{name}")
    for name in ("INT32", "INT64", "UINT32", "UINT64", "SINT32", "SINT64", "FIXED32", "FIXED64")
)


def is_map(field: FieldDescriptor) -> bool:
    """Tell whether a field is a map from integers to google.rpc.Status."""
    entry = field.message_type
    if entry is None or not entry.GetOptions().map_entry:
        return False
    value = entry.fields_by_name["value"].message_type
    return entry.fields_by_name["key"].type in _INTEGERS and value is not None and value.full_name == STATUS


def is_report(field: FieldDescriptor) -> bool:
    """Tell whether a field holds one BatchReport."""
    return _is_single(field, REPORT)


def is_status(field: FieldDescriptor) -> bool:
    """Tell whether a field holds one google.rpc.Status."""
    return _is_single(field, STATUS)


def _is_single(field: FieldDescriptor, name: str) -> bool:
    return field.message_type is not None and field.message_type.full_name == name and not field.is_repeated


def is_outcome(field: FieldDescriptor) -> bool:
    """Tell whether a field holds the outcome of a whole batch."""
    return is_map(field) or is_report(field)


def is_index(field: FieldDescriptor) -> bool:
    """Tell whether a field holds the index or indexes of items."""
    return field.type in _INTEGERS and field.name in {"index", "indexes", "indices"}


def find(message: Message, name: str | None, fits: Callable[[FieldDescriptor], bool]) -> FieldDescriptor:
    """Return the one field of a message that fits, or the one that is named.

    Raises:
        TypeError: none fits, or several do and none is named.
    """
    return _find(message.DESCRIPTOR, name, fits)


@lru_cache(maxsize=256)
def _find(descriptor: Descriptor, name: str | None, fits: Callable[[FieldDescriptor], bool]) -> FieldDescriptor:
    found = [field for field in descriptor.fields if fits(field) and name in (None, field.name)]
    if len(found) != 1:
        wanted = fits.__name__.removeprefix("is_")
        named = f" named {name!r}" if name is not None else ""
        there = ", ".join(field.name for field in found) or "none"
        raise TypeError(f"{descriptor.full_name} must have one {wanted} field{named}; it has {there}")
    return found[0]


def has(message: Message, fits: Callable[[FieldDescriptor], bool]) -> bool:
    """Tell whether a message has a field that fits."""
    return _has(message.DESCRIPTOR, fits)


@lru_cache(maxsize=256)
def _has(descriptor: Descriptor, fits: Callable[[FieldDescriptor], bool]) -> bool:
    return any(fits(field) for field in descriptor.fields)

"""What is told of an error: facts by name, from which trees and JSON are made."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from google.protobuf import any_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2, error_details_pb2, status_pb2

from faultwire.v1 import errors_pb2
from grpc_faultwire.category import REDACTED, Category, RetryScope, Severity, meaning
from grpc_faultwire.cli.audit import audit
from grpc_faultwire.cli.trailers import Found
from grpc_faultwire.details import MAX_DETAILS, Details, known_type, seconds, type_name
from grpc_faultwire.redaction import Redactor

if TYPE_CHECKING:
    from grpc_faultwire.declaration import Declaration

MAX_DEPTH = 16
"""How deep messages in messages are shown."""
MAX_ITEMS = 256
"""How many items of a repeated field are shown."""
TYPE = "@type"
"""The name of a detail, as protobuf's JSON has it."""


class Lookup:
    """Where catalogues and types are looked up: this one knows the types that are imported, and no catalogue."""

    def declaration(self, domain: str, reason: str) -> Declaration | None:  # noqa: ARG002  # for those that know more
        """Return what is declared for this reason, if anything is."""
        return None

    def message_class(self, name: str) -> type[Message] | None:
        """Return the class for messages of this full name, if it is known."""
        return known_type(name)


class Report:
    """Tells of one error.

    Args:
        lookup: where catalogues and types are looked up.
        reveal: do not redact.
    """

    def __init__(self, lookup: Lookup, *, reveal: bool = False) -> None:
        self._lookup = lookup
        self._redactor = None if reveal else Redactor()

    def facts(self, found: Found) -> dict[str, Any]:
        """Return what is to say of an error; what is not known is left out."""
        status = found.status
        details = Details(status.details)
        info = details.find(error_details_pb2.ErrorInfo) or error_details_pb2.ErrorInfo()
        report = details.find(errors_pb2.ErrorReport) or errors_pb2.ErrorReport()
        known = self._lookup.declaration(info.domain, info.reason)
        private = {key.key for key in known.metadata if not key.public} if known is not None else set()
        facts: dict[str, Any] = {
            "code": _code_name(status.code),
            "number": status.code,
            "message": self._text(status.message),
            "reason": info.reason,
            "domain": info.domain,
            "metadata": {key: self._metadata(key, info.metadata[key], private) for key in sorted(info.metadata)},
            "declared": _declared(known),
            **_meaning(status.code, report),
            "retry": _retry(status.code, details, report),
            "error_id": report.error_id or _request_id(details),
            "causes": self._causes(report.causes),
            "details": [self._detail(packed, private) for packed in details.packed],
        }
        if found.data is not None:
            size = audit(status, len(found.data))
            facts["size"] = {
                "status": size.status,
                "trailers": size.binary,
                "trailers_base64": size.encoded,
                "verdict": size.sentence,
            }
            facts["rejected"] = size.rejected
        facts["anomalies"] = [*_contradictions(found, known, info), *self._undecodable(details)]
        return {name: value for name, value in facts.items() if value not in ("", None, {}, [])}

    # Redaction.

    def _text(self, text: str) -> str:
        return text if self._redactor is None else self._redactor.text(text)

    def _metadata(self, key: str, value: str, private: set[str]) -> str:
        if self._redactor is None:
            return value
        return REDACTED if key in private else self._redactor.value(key, value)

    # Details.

    def _detail(self, packed: any_pb2.Any, private: set[str]) -> dict[str, Any]:
        message = self._unpack(packed)
        if message is None:
            return {TYPE: type_name(packed) or packed.type_url or "(no type)", "bytes": len(packed.value)} | self._raw(
                packed
            )
        if self._redactor is not None:
            if isinstance(message, error_details_pb2.ErrorInfo):
                for key in private & set(message.metadata):
                    message.metadata[key] = REDACTED
            message = self._redactor.detail(message) or message
        return {TYPE: message.DESCRIPTOR.full_name, **self._fields(message, 1)}

    def _raw(self, packed: any_pb2.Any) -> dict[str, str]:
        return {} if self._redactor is not None else {"value": base64.b64encode(packed.value).decode()}

    def _unpack(self, packed: any_pb2.Any) -> Message | None:
        kind = self._lookup.message_class(type_name(packed))
        if kind is None:
            return None
        try:
            return kind.FromString(packed.value)
        except DecodeError:
            return None

    def _undecodable(self, details: Details) -> list[str]:
        anomalies = []
        for packed in details.packed:
            name = type_name(packed)
            if self._lookup.message_class(name) is not None and self._unpack(packed) is None:
                anomalies.append(f"the {name} detail of {len(packed.value)} bytes cannot be decoded")
        return [*anomalies, *(one for one in details.anomalies if str(MAX_DETAILS) in one)]

    def _fields(self, message: Message, depth: int) -> dict[str, Any]:
        return {field.name: self._field(field, value, depth) for field, value in message.ListFields()}

    def _field(self, field: FieldDescriptor, value: Any, depth: int) -> Any:
        if isinstance(value, Mapping):
            return {str(key): self._value(field, value[key], depth) for key in sorted(value)[:MAX_ITEMS]}
        if field.is_repeated:
            items = [self._value(field, item, depth) for item in value[:MAX_ITEMS]]
            return [*items, f"… {len(value) - MAX_ITEMS} more"] if len(value) > MAX_ITEMS else items
        return self._value(field, value, depth)

    def _value(self, field: FieldDescriptor, value: Any, depth: int) -> Any:
        if isinstance(value, Message):
            return self._message(value, depth)
        if field.enum_type is not None:
            member = field.enum_type.values_by_number.get(value)
            return member.name if member is not None else value
        return base64.b64encode(value).decode() if isinstance(value, bytes) else value

    def _message(self, message: Message, depth: int) -> Any:
        if isinstance(message, Duration):
            return f"{message.seconds + message.nanos / 1e9:g}s"
        if isinstance(message, Timestamp):
            return _moment(message)
        if depth >= MAX_DEPTH:
            return f"({message.ByteSize()} bytes)"
        if isinstance(message, any_pb2.Any):
            unpacked = self._unpack(message)
            if unpacked is None:
                return {TYPE: type_name(message), "bytes": len(message.value)} | self._raw(message)
            return {TYPE: unpacked.DESCRIPTOR.full_name, **self._fields(unpacked, depth + 1)}
        return self._fields(message, depth + 1)

    def _causes(self, causes: Sequence[errors_pb2.Cause]) -> list[Any]:
        roots: list[Any] = []
        shown: dict[int, tuple[dict[str, Any], int]] = {}
        for index, cause in enumerate(causes[:MAX_DETAILS]):
            node = {"error": self._cause(cause)}
            parent, depth = shown.get(cause.parent, (None, 0))
            if parent is None or depth >= MAX_DEPTH:
                roots.append(node)
            else:
                parent.setdefault("causes", []).append(node)
            shown[index] = (node, depth + 1)
        return roots

    def _cause(self, cause: errors_pb2.Cause) -> str:
        name = f" [{cause.domain}/{cause.reason}]" if cause.reason else ""
        return f"{_code_name(cause.code)}: {self._text(cause.message)}{name}"


def _code_name(number: int) -> str:
    return code_pb2.Code.Name(number) if 0 <= number <= 16 else f"code {number}"


def _declared(known: Declaration | None) -> dict[str, str]:
    return {"description": known.description, "docs": known.docs_url} if known is not None else {}


def _meaning(code: int, report: errors_pb2.ErrorReport) -> dict[str, str]:
    category = Category._value2member_map_.get(report.category)
    known = category if isinstance(category, Category) else meaning(code).category
    severity = Severity._value2member_map_.get(report.severity)
    shown = severity if isinstance(severity, Severity) else known.severity
    return {"category": known.name, "fault": known.fault.name, "severity": shown.name}


def _retry(code: int, details: Details, report: errors_pb2.ErrorReport) -> str:
    declared = RetryScope._value2member_map_.get(report.retry.scope)
    scope = declared if isinstance(declared, RetryScope) else meaning(code).retry_scope
    said = scope.name if declared is not None else f"{scope.name} (what its code means)"
    info = details.find(error_details_pb2.RetryInfo)
    delay = seconds(info.retry_delay) if info is not None else None
    return said if delay is None else f"{said}, after {delay:g} s"


def _request_id(details: Details) -> str:
    request = details.find(error_details_pb2.RequestInfo)
    return request.request_id if request is not None else ""


def _moment(timestamp: Timestamp) -> str:
    try:
        return timestamp.ToJsonString()
    except (ValueError, OverflowError):
        return f"{timestamp.seconds} s after 1970, which is no date"


def _contradictions(found: Found, known: Declaration | None, info: error_details_pb2.ErrorInfo) -> list[str]:
    status: status_pb2.Status = found.status
    anomalies = []
    if not 1 <= status.code <= 16:
        anomalies.append(f"{status.code} is the code of no error")
    if found.code not in (None, status.code):
        anomalies.append(f"the details say code {status.code}, grpc-status says {found.code}")
    if found.message is not None and found.message != status.message:
        anomalies.append("the details have another message than grpc-message")
    if known is not None:
        if known.code != _code_name(status.code):
            anomalies.append(f"{info.reason} is declared with {known.code}")
        keys = {key.key for key in known.metadata}
        anomalies += [f"metadata {key} is not declared" for key in sorted(set(info.metadata) - keys)]
        missing = {key.key for key in known.metadata if key.public} - set(info.metadata)
        anomalies += [f"metadata {key} is declared, and missing" for key in sorted(missing)]
    return anomalies

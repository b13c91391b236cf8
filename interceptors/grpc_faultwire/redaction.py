"""What may leave the server: metadata keys, message fields and text, each through the same door.

Only declared metadata keys leave; then field options (`sensitivity`, `debug_redact`), then names that speak of a
secret, then values that look like one (`detectors`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from google.protobuf import any_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from grpc_faultwire import details
from grpc_faultwire.category import REDACTED

if TYPE_CHECKING:
    from grpc_faultwire.detectors import Detector

SECRET_NAMES = (
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "authorization",
    "credential",
    "sessionid",
    "cookie",
    "cardnumber",
    "cvv",
)
"""A key or field whose name has one of these, letter case and separators aside, holds a secret."""

MAX_DEPTH = 32
"""How deep messages in messages are looked into; what lies deeper is dropped."""


def escaped(text: str) -> str:
    """Return text as one printable line: control, bidirectional and unpaired surrogate characters are escaped."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text
    )


def encodable(text: str) -> str:
    """Return text that UTF-8 can carry: unpaired surrogates become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def speaks_of_secret(name: str) -> bool:
    """Tell whether a key's or field's name says that it holds a secret."""
    plain = _plain(name)
    return any(secret in plain for secret in SECRET_NAMES)


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "").replace(".", "")


class DeclaredKey(Protocol):
    """What is declared of a key of ErrorInfo's metadata: see `declaration.MetadataKey`."""

    @property
    def sensitivity(self) -> Any:
        """Who may see its value; None: not said."""

    @property
    def public(self) -> bool:
        """Whether a value of this key may leave."""
        ...


DeclaredKeys = Callable[[str, str], "Mapping[str, DeclaredKey] | None"]
"""From an error's domain and reason to the keys of metadata that it declares; None: nobody declared this error."""


class _Field(NamedTuple):
    descriptor: FieldDescriptor
    act: str  # "clear", "text", "message", "map", "metadata"


class Redactor:
    """Decides what may leave. One serves a whole server; it compiles each message type once.

    Args:
        metadata_keys: keys of ErrorInfo's metadata that errors outside any catalogue may carry. None by default: a key
            must be declared somewhere before it leaves.
        detectors: what values that look like secrets are; replaces the default ones (None).

    Raises:
        TypeError: ``metadata_keys`` is one text.
    """

    def __init__(self, *, metadata_keys: Iterable[str] = (), detectors: Iterable[Detector] | None = None) -> None:
        from grpc_faultwire.detectors import DETECTORS, NEEDED, NOTHING_NEEDED, hint  # noqa: PLC0415  # callers need none

        if isinstance(metadata_keys, str):
            raise TypeError(f"metadata_keys is the text {metadata_keys!r}; it must be a collection of keys")
        self.metadata_keys = frozenset(metadata_keys)
        detectors = tuple(DETECTORS if detectors is None else detectors)
        self._detectors = tuple((pattern, by, *NEEDED.get(pattern, NOTHING_NEEDED)) for pattern, by in detectors)
        self._hint = re.compile(hint(detectors))
        self._hint_in_bytes = re.compile(hint(detectors).encode())
        self._plans: dict[Descriptor, tuple[_Field, ...]] = {}
        self._heights: dict[Descriptor, int] = {}
        self._flat: dict[str, type[Message]] = {}

    def text(self, text: str) -> str:
        """Return text without what looks like a secret."""
        return text if self._hint.search(text) is None else self._searched(text)

    def _searched(self, text: str) -> str:
        for pattern, replacement, needed, or_needed in self._detectors:
            if needed in text or or_needed in text:
                text = pattern.sub(replacement, text)
        return text

    def value(self, name: str, text: str) -> str:
        """Return the value of a key or field without secrets."""
        return REDACTED if speaks_of_secret(name) else self.text(text)

    def metadata(self, values: Mapping[str, str], declared: Mapping[str, DeclaredKey] | None) -> dict[str, str]:
        """Return what may leave of ErrorInfo's metadata.

        Args:
            values: by key.
            declared: the keys that the error declares. None: nobody declared it.
        """
        kept = {}
        for name, value in values.items():
            key = None if declared is None else declared.get(name)
            if key is None:
                if declared is None and name in self.metadata_keys:
                    kept[name] = self.value(name, value)
            elif key.sensitivity is None:
                kept[name] = self.value(name, value)
            elif key.public:
                # Its owner has said that this name holds no secret; what looks like one is still taken out.
                kept[name] = self.text(value)
        return kept

    def detail(self, message: Message, declared: DeclaredKeys | None = None) -> Message | None:
        """Return a copy of an error detail that may leave, or None if nothing may.

        An Any leaves only if its type is known here. Unknown fields and extensions never do.

        Args:
            message: the detail.
            declared: finds what an ErrorInfo in it may carry, as in an item's status of a batch. None (the default):
                its metadata are looked at as any other map.
        """
        if _is_any(message):
            copy = self._unpacked(message)
            if copy is None:
                return None
        else:
            copy = type(message)()
            copy.CopyFrom(message)
        copy.DiscardUnknownFields()
        if not self._is_clean(copy):
            self._clean(copy, 0, declared)
        return copy

    def packed(self, packed: any_pb2.Any, declared: DeclaredKeys | None = None) -> Message | None:
        """As `detail`, of a message in an Any; what is known of its type is remembered.

        Args:
            packed: the detail.
            declared: see `detail`.
        """
        kind = self._flat.get(packed.type_url)
        if kind is None:
            copy = self.detail(packed, declared)
            # Its own URL alone: whoever wrote this one may write others without end.
            own = copy is not None and packed.type_url == details.URL_PREFIX + copy.DESCRIPTOR.full_name
            if copy is not None and own and self._height(cast("Descriptor", copy.DESCRIPTOR)) <= MAX_DEPTH:
                self._flat[packed.type_url] = type(copy)
            return copy
        try:
            copy = kind.FromString(packed.value)
        except DecodeError:
            return None
        copy.DiscardUnknownFields()
        if self._hint_in_bytes.search(copy.SerializePartialToString()) is not None:
            self._clean(copy, 0, declared)
        return copy

    def _is_clean(self, message: Message) -> bool:
        """Tell whether a message without unknown fields may leave as it is, by one look at all its texts at once."""
        if self._height(cast("Descriptor", message.DESCRIPTOR)) > MAX_DEPTH:
            return False
        return self._hint_in_bytes.search(message.SerializePartialToString()) is None

    def _height(self, descriptor: Descriptor, above: tuple[Descriptor, ...] = ()) -> int:
        """Return how deep messages of a type go, if only their texts decide what may leave; else more than allowed."""
        height = self._heights.get(descriptor)
        if height is None:
            below = [0]
            for field, act in self._plan(descriptor):
                inner = field.message_type
                if act == "message" and inner is not None and inner not in above and inner is not descriptor:
                    below.append(self._height(inner, (*above, descriptor)))
                elif act != "text":
                    below.append(MAX_DEPTH)
            if descriptor.is_extendable or descriptor.full_name == _ANY:
                below.append(MAX_DEPTH)
            height = self._heights[descriptor] = 1 + max(below)
        return height

    @staticmethod
    def _unpacked(packed: Any) -> Message | None:
        for _ in range(MAX_DEPTH):
            kind = details.known_type(details.type_name(packed))
            try:
                unpacked = kind.FromString(packed.value) if kind else None
            except DecodeError:
                return None
            if unpacked is None or not _is_any(unpacked):
                return unpacked
            packed = unpacked
        return None

    def _clean(self, message: Message, depth: int, declared: DeclaredKeys | None) -> None:
        descriptor = cast("Descriptor", message.DESCRIPTOR)
        if descriptor.is_extendable:
            for field, _ in message.ListFields():
                if field.is_extension:
                    message.ClearExtension(field)  # type: ignore[arg-type]  # at run time it takes the descriptor
        for field, act in self._plan(descriptor):
            if act == "clear" or depth >= MAX_DEPTH:
                message.ClearField(field.name)
            elif act == "text":
                self._clean_text(message, field)
            elif act == "metadata" and declared is not None:
                self._clean_metadata(message, declared)
            elif act in ("map", "metadata"):
                self._clean_map(message, field, depth, declared)
            else:
                self._clean_messages(message, field, depth, declared)

    def _clean_text(self, message: Message, field: FieldDescriptor) -> None:
        value = getattr(message, field.name)
        if field.is_repeated:
            value[:] = [self._scalar(item) for item in value]
        elif value and (not field.has_presence or message.HasField(field.name)):
            setattr(message, field.name, self._scalar(value))

    def _scalar(self, value: str | bytes) -> str | bytes:
        if isinstance(value, str):
            return self.text(value)
        # Latin-1 takes every byte, and gives it back.
        return self.text(value.decode("latin-1")).encode("latin-1")

    def _clean_metadata(self, info: Any, declared: DeclaredKeys) -> None:
        kept = self.metadata(info.metadata, declared(info.domain, info.reason))
        info.ClearField("metadata")
        info.metadata.update(kept)

    def _clean_map(self, message: Message, field: FieldDescriptor, depth: int, declared: DeclaredKeys | None) -> None:
        values = getattr(message, field.name)
        kind = cast("Descriptor", field.message_type).fields_by_name["value"]
        for key in list(values):
            name = str(key)
            if self.text(name) != name:
                del values[key]
            elif kind.type == FieldDescriptor.TYPE_STRING:
                values[key] = self.value(name, values[key])
            elif speaks_of_secret(name):
                del values[key]
            elif kind.type == FieldDescriptor.TYPE_BYTES:
                values[key] = self._scalar(values[key])
            elif kind.message_type is not None and not self._may_leave(values[key], depth, declared):
                del values[key]

    def _clean_messages(
        self, message: Message, field: FieldDescriptor, depth: int, declared: DeclaredKeys | None
    ) -> None:
        if field.is_repeated:
            items = getattr(message, field.name)
            kept = [item for item in items if self._may_leave(item, depth, declared)]
            if len(kept) < len(items):
                message.ClearField(field.name)
                getattr(message, field.name).extend(kept)
        elif message.HasField(field.name) and not self._may_leave(getattr(message, field.name), depth, declared):
            message.ClearField(field.name)

    def _may_leave(self, message: Any, depth: int, declared: DeclaredKeys | None) -> bool:
        """Clean a message in a message; tell whether anything of it may leave."""
        if not _is_any(message):
            self._clean(message, depth + 1, declared)
            return True
        unpacked = self._unpacked(message)
        if unpacked is None or depth >= MAX_DEPTH or unpacked.DESCRIPTOR.full_name in _PRIVATE_TYPES:
            return False
        self._clean(unpacked, depth + 1, declared)
        unpacked.DiscardUnknownFields()
        packed = details.pack(unpacked)
        message.type_url, message.value = packed.type_url, packed.value
        return True

    def _plan(self, descriptor: Descriptor) -> tuple[_Field, ...]:
        plan = self._plans.get(descriptor)
        if plan is None:
            acts = ((field, _act(field)) for field in descriptor.fields)
            plan = self._plans[descriptor] = tuple(_Field(field, act) for field, act in acts if act)
        return plan


_PRIVATE_TYPES = ("google.rpc.DebugInfo",)
"""Never inside another message: it would be a way round the exposure of stacks."""
_NUMBERS = ("cardnumber", "cvv")
"""Names of secrets that may be numbers; a number of tokens is none."""
_ANY = "google.protobuf.Any"
_TEXT = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)


def _is_any(message: Message) -> bool:
    # By name: a descriptor pool of its own has an Any of its own.
    return message.DESCRIPTOR.full_name == _ANY


def _act(field: FieldDescriptor) -> str:
    from google.protobuf import descriptor_pb2  # noqa: PLC0415  # once for each type of message that is redacted

    from faultwire.v1 import options_pb2  # noqa: PLC0415  # as above

    # Read anew from bytes: in a pool of its own a descriptor's options do not know our extension.
    options = descriptor_pb2.FieldOptions.FromString(field.GetOptions().SerializeToString())
    sensitivity = options.Extensions[options_pb2.sensitivity]
    if options.debug_redact or sensitivity in (options_pb2.SENSITIVITY_PERSONAL, options_pb2.SENSITIVITY_SECRET):
        return "clear"
    # The owner of a public field has said that its name holds no secret; what looks like one is still taken out.
    if sensitivity != options_pb2.SENSITIVITY_PUBLIC and _is_named_secret(field):
        return "clear"
    if field.message_type is None:
        return "text" if field.type in _TEXT else ""
    if field.message_type.full_name in _PRIVATE_TYPES:
        return "clear"
    if field.full_name == "google.rpc.ErrorInfo.metadata":
        return "metadata"
    return "map" if field.message_type.GetOptions().map_entry else "message"


def _is_named_secret(field: FieldDescriptor) -> bool:
    if field.message_type is not None or field.type in _TEXT:
        return speaks_of_secret(field.name)
    plain = _plain(field.name)
    return any(name in plain for name in _NUMBERS)

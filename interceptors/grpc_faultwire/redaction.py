"""What may leave the server: metadata keys, message fields and text, each through the same door.

Only declared metadata keys leave; then field options (`sensitivity`, `debug_redact`), then names that speak of a
secret, then values that look like one. All detectors run in linear time: a hostile text cannot slow an error down.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple, cast

from google.protobuf import any_pb2, descriptor_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from faultwire.v1 import options_pb2
from grpc_faultwire import details

REDACTED = "[redacted]"
"""What stands where a value was."""

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


def _is_card(found: re.Match[str]) -> str:
    digits = [int(char) for char in found[0] if char.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    luhn = (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
    return REDACTED if luhn else found[0]


Detector = tuple[re.Pattern[str], "str | Callable[[re.Match[str]], str]"]
"""A pattern that takes linear time, and what stands where it matched."""

DETECTORS: tuple[Detector, ...] = (
    # A private key in PEM, to its end line or the end of the text.
    (re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[^-]*+(?:-----END [A-Z ]{0,40}PRIVATE KEY-----)?"), REDACTED),
    # The user and password of a URL, to the last @ of its authority.
    (re.compile(r"(?<=://)[^\s\"'<>]{1,512}(?=@)"), REDACTED),
    # JSON Web Tokens.
    (re.compile(r"\beyJ[\w-]{8,}+(?:\.[\w-]*+){1,4}"), REDACTED),
    # Keys that their makers gave a prefix: AWS, GitHub, GitLab, Slack, Google, Stripe and alike, npm, PyPI.
    (
        re.compile(
            r"\b(?:(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_\w{20,}+|github_pat_\w{20,}+|glpat-[\w-]{16,}+|xox[abeoprs]-[\w-]{10,}+"
            r"|AIza[\w-]{30,}+|ya29\.[\w.-]{16,}+|[rsp]k_(?:live|test)_\w{8,}+|sk-[\w-]{16,}+|npm_\w{20,}+|pypi-[\w-]{16,}+)"
        ),
        REDACTED,
    ),
    (re.compile(r"(?i)\b(bearer|basic)\s{1,4}[\w.~+/-]{8,}+=*+"), rf"\1 {REDACTED}"),
    # name=value and "name": "value", where the name speaks of a secret.
    (
        re.compile(
            r"(?i)((?:password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?|pwd|authorization)"
            r"[\"']?\s{0,4}[:=]\s{0,4})(?!\s)(?:\"[^\"]*+\"?|'[^']*+'?|[^\s,;&\"']++)"
        ),
        rf"\1{REDACTED}",
    ),
    # Card numbers of 14 to 19 digits by the prefixes of their makers, and the Luhn check.
    (re.compile(r"(?<![\d.-])(?:3[0468]|4\d|5[1-5]|2[2-7]|6[0-9])(?:[ -]?\d){12,17}(?![\d])"), _is_card),
    (re.compile(r"(?<![\w.%+-])[\w.%+-]{1,128}+@(?:[\w-]{1,63}+\.)+[A-Za-z]{2,}"), REDACTED),
)
"""What values that look like secrets are, in the order in which they are looked for."""


def speaks_of_secret(name: str) -> bool:
    """Tell whether a key's or field's name says that it holds a secret."""
    plain = name.lower().replace("_", "").replace("-", "")
    return any(secret in plain for secret in SECRET_NAMES)


class _Field(NamedTuple):
    descriptor: FieldDescriptor
    act: str  # "clear", "text", "message", "any", "map"


class Redactor:
    """Decides what may leave. One serves a whole server; it compiles each message type once.

    Args:
        metadata_keys: keys of ErrorInfo's metadata that errors outside any catalogue may carry. None by default: a key
            must be declared somewhere before it leaves.
        detectors: what values that look like secrets are; replaces the default ones.
    """

    def __init__(self, *, metadata_keys: Iterable[str] = (), detectors: Iterable[Detector] = DETECTORS) -> None:
        self.metadata_keys = frozenset(metadata_keys)
        self._detectors = tuple(detectors)
        self._plans: dict[Descriptor, tuple[_Field, ...]] = {}

    def text(self, text: str) -> str:
        """Return text without what looks like a secret."""
        for pattern, replacement in self._detectors:
            text = pattern.sub(replacement, text)
        return text

    def value(self, name: str, text: str) -> str:
        """Return the value of a key or field without secrets."""
        return REDACTED if speaks_of_secret(name) else self.text(text)

    def detail(self, message: Message) -> Message | None:
        """Return a copy of an error detail that may leave, or None if nothing may.

        An Any leaves only if its type is known here. Unknown fields never do.
        """
        if isinstance(message, any_pb2.Any):
            unpacked = self._unpacked(message)
            return None if unpacked is None else self.detail(unpacked)
        copy = type(message)()
        copy.CopyFrom(message)
        self._clean(copy, 0)
        copy.DiscardUnknownFields()
        return copy

    @staticmethod
    def _unpacked(packed: any_pb2.Any) -> Message | None:
        kind = details.known_type(details.type_name(packed))
        try:
            return kind.FromString(packed.value) if kind else None
        except DecodeError:
            return None

    def _clean(self, message: Message, depth: int) -> None:
        for field, act in self._plan(cast("Descriptor", message.DESCRIPTOR)):
            if act == "clear" or depth >= MAX_DEPTH:
                message.ClearField(field.name)
            elif act == "text":
                self._clean_text(message, field)
            elif act == "map":
                self._clean_map(message, field, depth)
            else:
                self._clean_messages(message, field, depth)

    def _clean_text(self, message: Message, field: FieldDescriptor) -> None:
        value = getattr(message, field.name)
        if not value:
            return
        if field.is_repeated:
            value[:] = [self.text(item) for item in value]
        else:
            setattr(message, field.name, self.text(value))

    def _clean_map(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        values = getattr(message, field.name)
        of_messages = cast("Descriptor", field.message_type).fields_by_name["value"].message_type is not None
        for key in list(values):
            if of_messages:
                self._clean(values[key], depth + 1)
            elif isinstance(values[key], str):
                values[key] = self.value(str(key), values[key])

    def _clean_messages(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        if field.is_repeated:
            items = getattr(message, field.name)
        elif message.HasField(field.name):
            items = [getattr(message, field.name)]
        else:
            return
        for item in items:
            if isinstance(item, any_pb2.Any):
                self._clean_any(item, depth)
            else:
                self._clean(item, depth + 1)

    def _clean_any(self, packed: any_pb2.Any, depth: int) -> None:
        unpacked = self._unpacked(packed)
        packed.Clear()
        if unpacked is not None and depth < MAX_DEPTH:
            self._clean(unpacked, depth + 1)
            unpacked.DiscardUnknownFields()
            packed.CopyFrom(details.pack(unpacked))

    def _plan(self, descriptor: Descriptor) -> tuple[_Field, ...]:
        plan = self._plans.get(descriptor)
        if plan is None:
            acts = ((field, _act(field)) for field in descriptor.fields)
            plan = self._plans[descriptor] = tuple(_Field(field, act) for field, act in acts if act)
        return plan


def _act(field: FieldDescriptor) -> str:
    if _is_private(field) or (speaks_of_secret(field.name) and _is_text(field)):
        return "clear"
    if field.message_type is None:
        return "text" if field.type == FieldDescriptor.TYPE_STRING else ""
    return "map" if field.message_type.GetOptions().map_entry else "message"


def _is_text(field: FieldDescriptor) -> bool:
    return field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)


def _is_private(field: FieldDescriptor) -> bool:
    # Read anew from bytes: in a pool of its own a descriptor's options do not know our extension.
    options = descriptor_pb2.FieldOptions.FromString(field.GetOptions().SerializeToString())
    sensitivity = options.Extensions[options_pb2.sensitivity]
    return options.debug_redact or sensitivity in (options_pb2.SENSITIVITY_PERSONAL, options_pb2.SENSITIVITY_SECRET)

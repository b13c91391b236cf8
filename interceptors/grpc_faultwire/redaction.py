"""What may leave the server: metadata keys, message fields and text, each through the same door.

Only declared metadata keys leave; then field options (`sensitivity`, `debug_redact`), then names that speak of a
secret, then values that look like one. All detectors run in linear time: a hostile text cannot slow an error down.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, cast

from google.protobuf import descriptor_pb2
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


def _card(found: re.Match[str]) -> str:
    # What follows after a space may be the card's date or code: any group may be its last.
    text = found[0]
    ends = [at for at in range(14, len(text) + 1) if not text[at : at + 1].isdigit()]
    return REDACTED if any(_luhn([int(char) for char in text[:end] if char.isdigit()]) for end in ends) else text


def _luhn(digits: list[int]) -> bool:
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return len(digits) >= 14 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _url(found: re.Match[str]) -> str:
    rest = found[1]
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    # A password may hold a slash; but an @ in the path after a host's name or port is none of a password's.
    if "@" in authority or ("@" in rest and _USER_AND_PASSWORD.match(rest)):
        return f"://{REDACTED}@{rest.rpartition('@')[2]}"
    return found[0]


def _scheme(found: re.Match[str]) -> str:
    word = found[3].rstrip(".")
    is_a_word = word.isalpha() and word[1:].islower() and len(word) <= 16  # "basic authentication"
    return found[0] if is_a_word else f"{found[1]}{found[2]}{REDACTED}"


Detector = tuple[re.Pattern[str], "str | Callable[[re.Match[str]], str]"]
"""A pattern that takes linear time, and what stands where it matched."""

_USER_AND_PASSWORD = re.compile(r"[^/?#@:]*:(?!\d{1,5}(?:[/?#]|$))")
_QUOTED = r"\\{1,3}\"[^\"]*+\"?|\"(?:[^\"\\]|\\(?s:.))*+\"?|'(?:[^'\\]|\\(?s:.))*+'?"
_IS = r"\\{0,3}[\"']?\s{0,4}[:=]\s{0,4}"

_EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]{1,128}+@(?:[\w-]{1,63}+\.)+[A-Za-z]{2,}")

# Each begins with a literal or a class of characters, which re looks for much faster than for anything else; so what
# has to stand before the match is looked for behind its first character, and only what follows ignores letter case.
DETECTORS: tuple[Detector, ...] = (
    # A private key in PEM, to its end line or the end of the text.
    (
        re.compile(
            r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?:(?!-----END)(?s:.))*+"
            r"(?:-----END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----)?"
        ),
        REDACTED,
    ),
    # The user and password of a URL.
    (re.compile(r"://((?:(?!://)[^\s\"'<>])++)"), _url),
    # JSON Web Tokens. Looked for only where a word starts: a run of them is read once.
    (re.compile(r"eyJ(?<![\w-]eyJ)[\w-]{8,}+(?:\.[\w-]*+){1,4}"), REDACTED),
    # Keys that their makers gave a prefix: AWS, GitHub, GitLab, Slack, Google, Stripe and alike, npm, PyPI.
    (
        re.compile(
            r"[Agnprsxy](?<=\b.)(?:(?:(?<=A)KIA|(?<=A)SIA)[0-9A-Z]{16}|(?<=g)h[pousr]_\w{20,}+|(?<=g)ithub_pat_\w{20,}+"
            r"|(?<=g)lpat-[\w-]{16,}+|(?<=x)ox[abeoprs]-[\w-]{10,}+|(?<=A)Iza[\w-]{30,}+|(?<=y)a29\.[\w.-]{16,}+"
            r"|(?<=[rsp])k_(?:live|test)_\w{8,}+|(?<=s)k-[\w-]{16,}+|(?<=n)pm_\w{20,}+|(?<=p)ypi-[\w-]{16,}+)"
        ),
        REDACTED,
    ),
    (re.compile(r"([bB](?<=\b.)(?i:earer|asic))(\s{1,4})([\w.~+/-]{8,}+=*+)"), _scheme),
    # Headers whose whole value is a secret, to the end of the line.
    (
        re.compile(
            rf"([aAcC](?i:(?<=a)uthorization|(?<=c)ookie){_IS})(?!\s)(?:{_QUOTED}|[^\r\n]++)",
        ),
        rf"\1{REDACTED}",
    ),
    # name=value and "name": "value", where the name speaks of a secret. Ignoring case, U+017F is an s too.
    (
        re.compile(
            r"([aAcCpPsS\u017ftT](?i:(?<=p)(?:assword|asswd|assphrase|rivate[ _-]?key|wd)|(?<=s)(?:ecret|ession[_-]?id)"
            r"|(?<=t)oken|(?<=a)(?:pi|ccess)[ _-]?key|(?<=c)(?:redentials?|ard[ _-]?number|vv))"
            rf"{_IS})(?!\s)(?:{_QUOTED}|[^\s,;&\"']++)"
        ),
        rf"\1{REDACTED}",
    ),
    # Card numbers of 14 to 19 digits by the prefixes of their makers, and the Luhn check; never the head of a UUID.
    (
        re.compile(
            r"[2-6](?<![\w.-].)(?:(?<=3)[04678]|(?<=4)\d|(?<=5)[1-5]|(?<=2)[2-7]|(?<=6)\d)(?:[ -]?\d){12,17}"
            r"(?!\w|\.\d|-[\da-fA-F]{4}-[\da-fA-F]{12}\b)"
        ),
        _card,
    ),
    (_EMAIL, REDACTED),
)
"""What values that look like secrets are, in the order in which they are looked for."""
_NEEDED = {_EMAIL: "@"}
"""What is in every text where a pattern matches, and is found much faster."""


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
        detectors: what values that look like secrets are; replaces the default ones.

    Raises:
        TypeError: ``metadata_keys`` is one text.
    """

    def __init__(self, *, metadata_keys: Iterable[str] = (), detectors: Iterable[Detector] = DETECTORS) -> None:
        if isinstance(metadata_keys, str):
            raise TypeError(f"metadata_keys is the text {metadata_keys!r}; it must be a collection of keys")
        self.metadata_keys = frozenset(metadata_keys)
        self._detectors = tuple((pattern, by, _NEEDED.get(pattern, "")) for pattern, by in detectors)
        self._plans: dict[Descriptor, tuple[_Field, ...]] = {}

    def text(self, text: str) -> str:
        """Return text without what looks like a secret."""
        for pattern, replacement, needed in self._detectors:
            if needed in text:
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
        self._clean(copy, 0, declared)
        copy.DiscardUnknownFields()
        return copy

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
        elif not field.has_presence or message.HasField(field.name):
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
_TEXT = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)


def _is_any(message: Message) -> bool:
    # By name: a descriptor pool of its own has an Any of its own.
    return message.DESCRIPTOR.full_name == "google.protobuf.Any"


def _act(field: FieldDescriptor) -> str:
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

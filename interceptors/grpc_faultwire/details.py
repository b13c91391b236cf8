"""The error details of one error: kept as Any, decoded when asked.

One bad detail does not lose the others, and nothing here raises over what a peer sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from google.protobuf import any_pb2, descriptor_pool, message_factory
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message

M = TypeVar("M", bound=Message)

MAX_DURATION = 315_576_000_000.0
"""The longest google.protobuf.Duration, in seconds."""
MAX_DETAILS = 64
"""How many details of an error are looked at. AIP-193 allows each type once; ten are defined."""

URL_PREFIX = "type.googleapis.com/"
"""What stands before the full name of a type in the Any of a message."""


class Details:
    """The details of one error, in order.

    Args:
        packed: the details as they travel. Those past `MAX_DETAILS` are left unread, which is an anomaly.
    """

    __slots__ = ("_found", "_names", "_unpacked", "anomalies", "packed")

    def __init__(self, packed: Sequence[any_pb2.Any]) -> None:
        self.packed: tuple[any_pb2.Any, ...] = tuple(packed[:MAX_DETAILS])
        self.anomalies: list[str] = []
        self._found: dict[type[Message], Message | None] = {}
        self._names: tuple[str, ...] | None = None
        self._unpacked: tuple[Message, ...] | None = None
        if len(packed) > MAX_DETAILS:
            self.anomalies.append(f"{len(packed)} details: the first {MAX_DETAILS} are read")

    @classmethod
    def of(cls, messages: Iterable[Message]) -> Details:
        """Pack messages (an Any is taken as it is).

        Raises:
            TypeError: one is no message.
        """
        packed: list[any_pb2.Any] = []
        names: list[str] = []
        for message in messages:
            one = pack(message)
            packed.append(one)
            names.append(type_name(one) if one is message else message.DESCRIPTOR.full_name)
        details = cls(packed)
        details._names = tuple(names[:MAX_DETAILS])
        return details

    def __reduce__(self) -> tuple[Any, ...]:
        # Only what travels: the classes of decoded messages may be made at run time, where pickle cannot find them.
        return _restore, (self.packed, tuple(self.anomalies))

    @property
    def names(self) -> tuple[str, ...]:
        """The full names of their types, in order; "" where there is none."""
        if self._names is None:
            names = []
            for packed in self.packed:
                url = packed.type_url
                names.append(url[url.rfind("/") + 1 :] if "/" in url else "")  # as `type_name`, without the call
            self._names = tuple(names)
        return self._names

    def find(self, kind: type[M]) -> M | None:
        """Return the first detail of a type, or None. A detail that cannot be decoded does not count."""
        if kind not in self._found:
            names = self._names or self.names
            self._found[kind] = self._decode_first(kind, names) if kind.DESCRIPTOR.full_name in names else None
        return self._found[kind]  # type: ignore[return-value]  # what is found under a kind is of it

    def unique(self) -> tuple[str, ...]:
        """Return `names`.

        Raises:
            ValueError: two have the same type (AIP-193).
        """
        names = self._names or self.names
        if len(names) > 1 and len(set(names)) < len(names):
            twice = {name for name in names if names.count(name) > 1}
            raise ValueError(f"error_details has a type more than once (AIP-193 allows one): {sorted(twice)}")
        return names

    def _decode_first(self, kind: type[M], names: tuple[str, ...]) -> M | None:
        wanted = kind.DESCRIPTOR.full_name
        for name, packed in zip(names, self.packed, strict=True):
            if name == wanted:
                message = self._decode(packed, kind)
                if message is not None:
                    return message
        return None

    def _decode(self, packed: any_pb2.Any, kind: type[M]) -> M | None:
        try:
            return kind.FromString(packed.value)
        except DecodeError:
            anomaly = f"a {kind.DESCRIPTOR.full_name} detail cannot be decoded"
            if anomaly not in self.anomalies:
                self.anomalies.append(anomaly)
            return None

    def __iter__(self) -> Iterator[Message]:
        if self._unpacked is None:
            self._unpacked = tuple(self._unpack(packed) for packed in self.packed)
        return iter(self._unpacked)

    def __len__(self) -> int:
        return len(self.packed)

    def _unpack(self, packed: any_pb2.Any) -> Message:
        kind = known_type(type_name(packed))
        message = self._decode(packed, kind) if kind else None
        return packed if message is None else message


def _restore(packed: tuple[any_pb2.Any, ...], anomalies: tuple[str, ...]) -> Details:
    details = Details(packed)
    details.anomalies.extend(anomalies)
    return details


def pack(message: Message) -> any_pb2.Any:
    """Return a message as an Any; an Any as it is.

    Raises:
        TypeError: this is no message.
    """
    if isinstance(message, any_pb2.Any):
        return message
    if not isinstance(message, Message):
        raise TypeError(f"error detail {message!r} is no protobuf message")
    # Partial: a message of proto2 that lacks a required field is no reason to lose the error.
    value = message.SerializePartialToString(deterministic=True)
    return any_pb2.Any(type_url=URL_PREFIX + message.DESCRIPTOR.full_name, value=value)


def type_name(packed: any_pb2.Any) -> str:
    """Return the full name of the type in an Any, whatever its host; "" if there is none."""
    _, slash, name = packed.type_url.rpartition("/")
    return name if slash else ""


def known_type(name: str) -> type[Message] | None:
    """Return the message class of this full name if this process has imported it."""
    try:
        return message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))
    except KeyError:
        return None


def duration(delay: float) -> Duration:
    """Return seconds as a protobuf Duration, the longest at the most."""
    delay = min(delay, MAX_DURATION)
    whole = int(delay)
    return Duration(seconds=whole, nanos=min(round((delay - whole) * 1e9), 999_999_999))


def seconds(delay: Duration) -> float:
    """Return a protobuf Duration, however odd, as seconds from 0 to the longest."""
    return min(max(0.0, delay.seconds + delay.nanos / 1e9), MAX_DURATION)

"""The error details of one error: kept as Any, decoded when asked.

One bad detail does not lose the others, and nothing here raises over what a peer sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from google.protobuf import any_pb2, descriptor_pool, message_factory
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message

M = TypeVar("M", bound=Message)

MAX_DETAILS = 64
"""How many details of an error are looked at. AIP-193 allows each type once; ten are defined."""

_URL_PREFIX = "type.googleapis.com/"


class Details:
    """The details of one error, in order.

    Args:
        packed: the details as they travel. Those past `MAX_DETAILS` are left unread, which is an anomaly.
    """

    __slots__ = ("_found", "_unpacked", "anomalies", "packed")

    def __init__(self, packed: Sequence[any_pb2.Any]) -> None:
        self.packed: tuple[any_pb2.Any, ...] = tuple(packed[:MAX_DETAILS])
        self.anomalies: list[str] = []
        self._found: dict[str, Message | None] = {}
        self._unpacked: tuple[Message, ...] | None = None
        if len(packed) > MAX_DETAILS:
            self.anomalies.append(f"{len(packed)} details: the first {MAX_DETAILS} are read")

    @classmethod
    def of(cls, messages: Iterable[Message]) -> Details:
        """Pack messages (an Any is taken as it is)."""
        return cls([pack(message) for message in messages])

    def find(self, kind: type[M]) -> M | None:
        """Return the first detail of a type, or None. A detail that cannot be decoded does not count."""
        name = kind.DESCRIPTOR.full_name
        if name not in self._found:
            self._found[name] = self._decode_first(kind, name)
        found = self._found[name]
        return found if isinstance(found, kind) else None

    def _decode_first(self, kind: type[M], name: str) -> M | None:
        for packed in self.packed:
            if type_name(packed) == name:
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


def pack(message: Message) -> any_pb2.Any:
    """Return a message as an Any; an Any as it is."""
    if isinstance(message, any_pb2.Any):
        return message
    return any_pb2.Any(
        type_url=_URL_PREFIX + message.DESCRIPTOR.full_name, value=message.SerializeToString(deterministic=True)
    )


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
    """Return seconds as a protobuf Duration."""
    whole = int(delay)
    return Duration(seconds=whole, nanos=min(round((delay - whole) * 1e9), 999_999_999))


def seconds(delay: Duration) -> float:
    """Return a protobuf Duration, however odd, as seconds from 0 up."""
    return max(0.0, delay.seconds + delay.nanos / 1e9)

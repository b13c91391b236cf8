"""Finds the google.rpc.Status in any text: a bare value, log lines, what curl shows.

Every part takes time that grows with the text, and not with its square: a log is no trusted input.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from google.protobuf.message import DecodeError
from google.rpc import status_pb2

MAX_TEXT = 1 << 24
"""Bytes of text that are looked at."""

# With what closes a quoted name: a literal must not seem to start there.
_KEY = re.compile(r"grpc-status-details-bin(?:\\*+[\"'])?", re.IGNORECASE)
_CODE = re.compile(r"grpc-status(?!-)[\"']?\s{0,4}[:=,]\s{0,4}(?:value=)?b?[\"']?(\d{1,2})(?!\d)", re.IGNORECASE)
_MESSAGE = re.compile(r"^[<*>\s]{0,8}grpc-message:[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)

# Literals end with their line, and none starts behind a backslash: so no text is scanned over and over.
# Compiled when it is needed: a bare value does without.
_SPANS = r"""
    (?:(?<![\w\\])b?|(?<==b))"(?P<double>(?:[^"\\\r\n]|\\[^\r\n])*+)"
  | (?:(?<![\w\\])b?|(?<==b))'(?P<single>(?:[^'\\\r\n]|\\[^\r\n])*+)'
  | (?P<hex>(?<![\w+/])(?:0x|\\x)?[0-9a-fA-F]{2}(?:[ :,-]?(?:0x|\\x)?[0-9a-fA-F]{2}){3,}+(?![\w+/=%]))
  | (?P<word>[A-Za-z0-9+/_=%~.-]{3,}+)
    """
_INNER = re.compile(r"[A-Za-z0-9+/_=%~.-]{3,}+")
_HEX_SEPARATOR = re.compile(r"0x|\\x|[ :,-]")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}){2,}+")
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|([0-7]{1,3})|(.))", re.DOTALL)
_PERCENT = re.compile(rb"%([0-9a-fA-F]{2})")
_SHORT = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13}
_WRAPPED_TOKENS = 200
_NAMED_CANDIDATES = 12
_TYPE_URL = re.compile(r"[\w.:/-]*/[A-Za-z_][\w.]*")
_Accept = Callable[[status_pb2.Status], bool]


class Found(NamedTuple):
    """An error in a text.

    Attributes:
        status: what it says.
        data: the bytes that it was; None: only grpc-status and grpc-message were there.
        code: what grpc-status said beside it, if it did.
        message: what grpc-message said beside it, if it did.
    """

    status: status_pb2.Status
    data: bytes | None
    code: int | None = None
    message: str | None = None


def find_in_bytes(data: bytes) -> list[Found]:
    """Return the errors in what was read: text, or a google.rpc.Status itself."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    found = find(text)
    if not found:
        status = _parse(data)
        if status is not None and _is_likely(status):
            return [Found(status, data)]
    return found


def find(text: str) -> list[Found]:
    """Return the errors in a text, each once, in order."""
    found = list(_behind_keys(text)) or list(_whole(text)) or list(_anywhere(text)) or list(_wrapped(text))
    if not found:
        return _without_details(text)
    return list({one.data: one for one in found}.values())


def _behind_keys(text: str) -> Iterator[Found]:
    keys = list(_KEY.finditer(text))
    for number, key in enumerate(keys):
        before = keys[number - 1].end() if number else 0
        after = keys[number + 1].start() if number + 1 < len(keys) else len(text)
        for data, status in _named(text[key.end() : after]):
            # What stands around this key, and not around another: its own block or line.
            yield _with_neighbours(Found(status, data), text[before : key.start()], text[key.end() : after])
            break


def _named(rest: str) -> Iterator[tuple[bytes, status_pb2.Status]]:
    for accept in (_is_likely, _is_possible):
        yield from _joined(rest, accept)
        spans = re.finditer(_SPANS, rest, re.VERBOSE)
        for span, _ in zip(spans, range(_NAMED_CANDIDATES), strict=False):
            yield from _decoded(_readings(span), accept)


def _joined(rest: str, accept: _Accept) -> Iterator[tuple[bytes, status_pb2.Status]]:
    # A value that a terminal or a mail program has broken over lines.
    value = ""
    for token in rest.lstrip(" \t\"':=,([{").split(maxsplit=_WRAPPED_TOKENS)[:_WRAPPED_TOKENS]:
        if not _INNER.fullmatch(token.strip("\"'")) or len(value) > MAX_TEXT >> 8:
            return
        value += token.strip("\"'")
        yield from _decoded(_word_readings(value), accept)


def _whole(text: str) -> Iterator[Found]:
    stripped = text.strip()
    if len(stripped) >= 4 and _INNER.fullmatch(stripped):
        for data, status in _decoded(_word_readings(stripped), _is_likely):
            yield Found(status, data)
            return


def _anywhere(text: str) -> Iterator[Found]:
    for span in re.finditer(_SPANS, text, re.VERBOSE):
        for data, status in _decoded(_readings(span), _is_likely):
            yield _with_neighbours(Found(status, data), text[: span.start()][-2000:], text[span.end() :][:2000])
            break


def _wrapped(text: str) -> Iterator[Found]:
    joined = "".join(text.split())
    if joined != text.strip() and len(joined) >= 8 and _INNER.fullmatch(joined):
        for data, status in _decoded(_word_readings(joined), _is_likely):
            yield Found(status, data)
            return


def _without_details(text: str) -> list[Found]:
    code = _CODE.search(text)
    if code is None or not 1 <= int(code[1]) <= 16:
        return []
    message = _MESSAGE.search(text)
    said = _plain_message(message[1]) if message else ""
    return [Found(status_pb2.Status(code=int(code[1]), message=said), None)]


def _with_neighbours(found: Found, before: str, after: str) -> Found:
    codes = [*_CODE.finditer(before)][-1:] or [*_CODE.finditer(after)][:1]
    messages = [*_MESSAGE.finditer(before)][-1:] or [*_MESSAGE.finditer(after)][:1]
    return found._replace(
        code=int(codes[0][1]) if codes else None,
        message=_plain_message(messages[0][1]) if messages else None,
    )


def _readings(span: re.Match[str]) -> Iterator[bytes]:
    literal = span["double"] if span["double"] is not None else span["single"]
    if literal is not None:
        yield from _literal_readings(literal)
    elif span["hex"] is not None:
        yield from _hex(span["hex"])
        yield from _word_readings(span["hex"])
    else:
        yield from _word_readings(span["word"])


def _literal_readings(literal: str) -> Iterator[bytes]:
    if "\\" in literal:
        yield from _unescaped(literal)
    # A quoted value, or quoted text with a value in it.
    for inner in _INNER.finditer(literal):
        yield from _word_readings(inner[0])


def _unescaped(literal: str) -> Iterator[bytes]:
    # Python escapes every byte and JSON every character; Go leaves what is valid UTF-8 as it is.
    characters = _ESCAPE.sub(lambda escape: chr(_escape_value(escape)), literal)
    with contextlib.suppress(UnicodeEncodeError):
        yield characters.encode("latin-1")
    pieces, end = [], 0
    for escape in _ESCAPE.finditer(literal):
        pieces.append(literal[end : escape.start()].encode("utf-8", "replace"))
        value = _escape_value(escape)
        pieces.append(chr(value).encode("utf-8", "replace") if escape[2] or value > 255 else bytes([value]))
        end = escape.end()
    yield b"".join([*pieces, literal[end:].encode("utf-8", "replace")])


def _escape_value(escape: re.Match[str]) -> int:
    if escape[1] or escape[2]:
        return int(escape[1] or escape[2], 16)
    if escape[3]:
        return int(escape[3], 8) & 0xFF
    return _SHORT.get(escape[4], ord(escape[4]))


def _word_readings(word: str) -> Iterator[bytes]:
    if "%" in word:
        raw = _unquoted(word)
        yield raw
        word = raw.decode("latin-1")
    core = word.rstrip("=.")
    for part in dict.fromkeys((core, core.rpartition("=")[2])):
        yield from _hex(part)
        yield from _base64(part)


def _plain_message(text: str) -> str:
    return _unquoted(text.strip()).decode("utf-8", "replace")


def _unquoted(text: str) -> bytes:
    # As urllib's unquote_to_bytes, whose import would take longer than all the rest of a decoding.
    return _PERCENT.sub(lambda found: bytes.fromhex(found[1].decode()), text.encode("utf-8", "replace"))


def _hex(text: str) -> Iterator[bytes]:
    digits = _HEX_SEPARATOR.sub("", text)
    if _HEX.fullmatch(digits):
        yield bytes.fromhex(digits)


def _base64(text: str) -> Iterator[bytes]:
    plain = text.replace("-", "+").replace("_", "/")
    if len(plain) % 4 == 1 or not plain.isascii():
        return
    try:
        yield base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except binascii.Error:
        return


def _decoded(readings: Iterator[bytes], accept: _Accept) -> Iterator[tuple[bytes, status_pb2.Status]]:
    for data in readings:
        status = _parse(data)
        if status is not None and accept(status):
            yield data, status


def _parse(data: bytes) -> status_pb2.Status | None:
    try:
        return status_pb2.Status.FromString(data)
    except DecodeError:
        return None


def _is_likely(status: status_pb2.Status) -> bool:
    """Tell whether this is hardly anything else that happened to decode."""
    return (
        1 <= status.code <= 16
        and _has_no_unknown(status)
        and all(_TYPE_URL.fullmatch(detail.type_url) for detail in status.details)
        and status.ByteSize() >= 4
    )


def _is_possible(status: status_pb2.Status) -> bool:
    """Tell whether a value that was named as a status is one."""
    return bool(status.ByteSize()) and _has_no_unknown(status)


def _has_no_unknown(status: status_pb2.Status) -> bool:
    known = status_pb2.Status(code=status.code, message=status.message, details=status.details[:1024])
    return known.ByteSize() == status.ByteSize() or len(status.details) > 1024

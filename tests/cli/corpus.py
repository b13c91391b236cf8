"""Fragments of logs, traces and terminals with errors in them, as people find them."""

from __future__ import annotations

import base64
import json
import textwrap
from urllib.parse import quote, quote_from_bytes

from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2


def packed(message: object) -> any_pb2.Any:
    """Pack a detail."""
    detail = any_pb2.Any()
    detail.Pack(message)  # type: ignore[arg-type]  # a message
    return detail


LOST = status_pb2.Status(
    code=5,
    message="No book has the ISBN 978-1: \N{LATIN SMALL LETTER E WITH ACUTE}puis\N{LATIN SMALL LETTER E WITH ACUTE}.",
    details=[
        packed(
            error_details_pb2.ErrorInfo(
                reason="BOOK_NOT_FOUND", domain="bookshop.example.com", metadata={"isbn": "978-1"}
            )
        )
    ],
)
BUSY = status_pb2.Status(code=14, message="Busy?>~", details=[packed(error_details_pb2.RetryInfo())])
BARE = status_pb2.Status(code=7, message="You may not.")
LOST_BYTES, BUSY_BYTES, BARE_BYTES = (one.SerializeToString(deterministic=True) for one in (LOST, BUSY, BARE))

KEY = "grpc-status-details-bin"


def standard(data: bytes) -> str:
    """Return base64 with padding."""
    return base64.b64encode(data).decode()


def url_safe(data: bytes) -> str:
    """Return URL-safe base64."""
    return base64.urlsafe_b64encode(data).decode()


def go_quoted(data: bytes) -> str:
    """Return bytes as Go's %q prints them: what is valid UTF-8 stays as it is."""
    return json.dumps(data.decode("utf-8", "surrogateescape"), ensure_ascii=False).replace("\\u00", "\\x")


B, U = standard(LOST_BYTES), url_safe(LOST_BYTES)
N = B.rstrip("=")
MESSAGE = quote(LOST.message, safe=" :.")
HEX = LOST_BYTES.hex()
REPR = repr(LOST_BYTES)
JSON_STRING = json.dumps(LOST_BYTES.decode("latin-1"))

ONE: dict[str, str | bytes] = {
    "base64": B,
    "base64-without-padding": N,
    "url-safe": U,
    "url-safe-without-padding": U.rstrip("="),
    "base64-with-newline": f"{B}\n",
    "base64-in-blanks": f"   {N}  \r\n",
    "base64-wrapped-at-76": "\n".join(textwrap.wrap(B, 76)),
    "base64-wrapped-and-indented": textwrap.indent("\n".join(textwrap.wrap(B, 40)), "    "),
    "base64-quoted": f'"{B}"',
    "percent-encoded-base64": quote(B, safe=""),
    "percent-encoded-bytes": quote_from_bytes(LOST_BYTES, safe=""),
    "query-string": f"https://traces.example.com/span?details={quote(B, safe='')}&code=5",
    "hex": HEX,
    "hex-upper": HEX.upper(),
    "hex-0x": f"0x{HEX}",
    "hex-colons": ":".join(f"{byte:02x}" for byte in LOST_BYTES),
    "hex-spaces": " ".join(f"{byte:02X}" for byte in LOST_BYTES),
    "hex-commas": ", ".join(f"0x{byte:02x}" for byte in LOST_BYTES).replace(", ", ","),
    "hex-escapes": "".join(f"\\x{byte:02x}" for byte in LOST_BYTES),
    "python-repr": REPR,
    "python-tuple": f"(('{KEY}', {REPR}),)",
    "python-metadatum": f"(_Metadatum(key='te', value='trailers'), _Metadatum(key='{KEY}', value={REPR}))",
    "python-aio-metadata": f"Metadata((('x-request-id', 'a'), ('{KEY}', {REPR})))",
    "python-log": f"2026-11-23 20:15:01,123 ERROR shop.client call failed trailing={{'{KEY}': {REPR}}} code=NOT_FOUND",
    "go-metadata": f"map[content-type:[application/grpc] {KEY}:[{B}]]",
    "go-quoted": f'level=error msg="rpc failed" {KEY}={go_quoted(LOST_BYTES)}',
    "json-log": json.dumps({"level": "error", "trailers": {"grpc-status": "5", KEY: B}}),
    "json-log-list": json.dumps({"metadata": [{"key": KEY, "value": [B]}]}),
    "json-in-json": json.dumps({"message": json.dumps({KEY: N, "grpc-status": "5"})}),
    "json-latin-1": f'{{"{KEY}": {JSON_STRING}}}',
    "java-metadata": f"io.grpc.StatusRuntimeException: NOT_FOUND Metadata(content-type=application/grpc,{KEY}={N})",
    "envoy-log": f'[2026-11-23T20:15:01.123Z] "POST /bookshop.v1.Bookshop/GetBook HTTP/2" 200 - 5 {KEY}="{N}" 12ms',
    "nginx-log": f'10.0.0.7 - - [23/Nov/2026:20:15:01 +0000] "POST /x HTTP/2.0" 200 0 "-" "grpc-python" "{N}"',
    "logfmt": f"ts=2026-11-23T20:15:01Z lvl=err grpc.code=NotFound details={N} dur=3ms",
    "cobra": f"I1123 20:15:01.000000 1 client.cc:77] trailing_metadata: {KEY}: {N}",
    "curl-trailers": f"< HTTP/2 200\n<\n< grpc-status: 5\n< grpc-message: {MESSAGE}\n< {KEY}: {N}\n",
    "curl-trailers-crlf": f"grpc-status: 5\r\ngrpc-message: {MESSAGE}\r\n{KEY}: {N}\r\n\r\n",
    "curl-wrapped": f"grpc-status: 5\n{KEY}: {B[:60]}\n {B[60:]}\nx-envoy: 1\n",
    "grpcurl": f"ERROR:\n  Code: NotFound\nResponse trailers received:\n{KEY}: {N}\n",
    "grpc-web-body": f"grpc-status:5\r\ngrpc-message:{MESSAGE}\r\n{KEY}:{N}\r\n",
    "wireshark": f"Header: {KEY}: {N}\n    Name Length: 23\n    Value: {N}\n",
    "kubectl-prefix": f"bookshop-6c5d-x2x7q bookshop {KEY}={N}",
    "markdown": f"The trailer was `{N}`, see above.",
    "mail-quote": f"> we see {KEY}: {N}\n> all day long",
    "upper-case-key": f"GRPC-STATUS-DETAILS-BIN: {N}",
    "in-a-sentence": f"It can't be decoded: {N}.",
    "otel-attribute": f'rpc.grpc.response.metadata.{KEY}: ["{N}"]',
    "protobuf-bytes": LOST_BYTES,
    "latin-1-log": f"caf\xe9 {KEY}: {N}".encode("latin-1"),
}
"""Texts with `LOST` in them, once."""

OTHERS: dict[str, tuple[str | bytes, list[int]]] = {
    "two-lines": (f"a {KEY}={N}\nb {KEY}={standard(BUSY_BYTES)}\n", [5, 14]),
    "two-bare-values": (f"first {N}\nthen {url_safe(BUSY_BYTES)}\n", [5, 14]),
    "the-same-twice": (f"{KEY}: {N}\n{KEY}: {N}\n", [5]),
    "no-details": (f"{KEY}: {standard(BARE_BYTES)}", [7]),
    "only-a-code": (f"{KEY}: {standard(status_pb2.Status(code=13).SerializeToString())}", [13]),
    "no-trailer-at-all": ("< grpc-status: 14\n< grpc-message: upstream%20connect%20error\n", [14]),
    "url-safe-specials": (url_safe(BUSY_BYTES), [14]),
    "an-impossible-code": (f"{KEY}: {standard(status_pb2.Status(code=99, message='odd').SerializeToString())}", [99]),
}
"""Texts with other errors, and their codes."""

RUBBISH: dict[str, str | bytes] = {
    "nothing": "",
    "blanks": " \n\t ",
    "words": "there is no error in this sentence, nor in this one",
    "a-log-without-one": '{"level":"info","msg":"200 OK","duration":"12ms","trace":"4bf92f3577b34da6a3ce929d0e0e4736"}',
    "a-jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "a-uuid": "123e4567-e89b-12d3-a456-426614174000",
    "cut-short": f"{KEY}: {N[: len(N) // 2]}",
    "another-message": standard(error_details_pb2.ErrorInfo(reason="X", domain="y").SerializeToString()),
    "a-code-of-no-error": standard(status_pb2.Status(code=77, message="odd").SerializeToString()),
    "a-message-with-more-fields": standard(BARE_BYTES + b"\x28\x01"),
    "no-value": f"{KEY}:",
    "ok": "grpc-status: 0\n",
    "bytes": bytes(range(256)),
}
"""Texts without any error."""

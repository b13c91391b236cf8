"""``faultwire call``: one RPC with the policies of the suite, and what became of it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message

from grpc_faultwire.cli.connection import Metadata, channel_to, metadata_of
from grpc_faultwire.cli.decode import error_lines
from grpc_faultwire.cli.reflection import method_of
from grpc_faultwire.cli.report import Report
from grpc_faultwire.cli.sources import lookup
from grpc_faultwire.cli.tables import table
from grpc_faultwire.cli.terminal import FINE, FOUND, Painter, Problem, say
from grpc_faultwire.cli.trailers import Found
from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.errors import StatusError
from grpc_faultwire.policies import RetryPolicy
from grpc_faultwire.records import Attempt, Outcome
from grpc_faultwire.status import DETAILS_KEY, from_rpc_error
from grpc_faultwire.sync import wrap_channel


def run(options: argparse.Namespace) -> int:
    """Call and print."""
    service, _, name = options.method.removeprefix("/").replace("/", ".").rpartition(".")
    if not service or not name:
        raise Problem(f"{options.method} is no method: give it as package.Service/Method")
    if options.timeout <= 0 or options.attempts < 1:
        raise Problem("a call needs a timeout above 0 and one attempt at least")
    metadata = metadata_of(options.header)
    watch = _Watch()
    with channel_to(options) as bare:
        try:
            method = method_of(bare, service, name, options.descriptors, options.module)
        except grpc.RpcError as error:
            _show(from_rpc_error(error), watch, options)
            return FOUND
        requests = list(_requests(options.data, method))
        channel = wrap_channel(bare, _policy(options, method), observers=[watch], target=options.target)
        try:
            for response in _responses(channel, method, requests, options.timeout, metadata):
                say(json.dumps(json_format.MessageToDict(response, preserving_proto_field_name=True)))
        except StatusError as error:
            _show(error, watch, options)
            return FOUND
    _show(None, watch, options)
    return FINE


class _Watch:
    """An observer that keeps how a call ended."""

    outcome: Outcome | None = None

    def on_end(self, _token: Any, outcome: Outcome) -> None:
        """Keep the outcome."""
        self.outcome = outcome


def _policy(options: argparse.Namespace, method: MethodDescriptor) -> ClientPolicy:
    declared = MethodOptions.FromString(method.GetOptions().SerializeToString()).idempotency_level
    idempotent = options.idempotent or declared != MethodOptions.IDEMPOTENCY_UNKNOWN
    return ClientPolicy(retry=RetryPolicy(max_attempts=options.attempts), idempotent=idempotent)


def _requests(data: str, method: MethodDescriptor) -> Iterator[Message]:
    kind = message_factory.GetMessageClass(method.input_type)
    documents = list(_documents(_text(data)))
    if not method.client_streaming:
        if len(documents) > 1:
            raise Problem(f"{method.full_name} takes one request, not {len(documents)}")
        documents = documents or [{}]
    for document in documents:
        try:
            yield json_format.ParseDict(document, kind())
        except (json_format.ParseError, AttributeError, TypeError) as wrong:
            sentence = " ".join(str(wrong).split())
            raise Problem(f"this is no {method.input_type.full_name}: {sentence}") from wrong


def _text(data: str) -> str:
    try:
        if data == "-":
            return sys.stdin.read()
        return Path(data[1:]).read_text(encoding="utf-8") if data.startswith("@") else data
    except OSError as wrong:
        raise Problem(f"{data[1:]} cannot be read: {wrong.strerror}") from wrong
    except UnicodeDecodeError:
        raise Problem(f"{data} is no UTF-8 text") from None


def _documents(text: str) -> Iterator[Any]:
    decoder = json.JSONDecoder()
    text = text.strip()
    while text:
        try:
            document, end = decoder.raw_decode(text)
        except (json.JSONDecodeError, RecursionError) as wrong:
            raise Problem(f"the data are no JSON: {wrong}") from wrong
        yield document
        text = text[end:].lstrip(" \t\r\n,")


def _responses(
    channel: grpc.Channel, method: MethodDescriptor, requests: list[Message], timeout: float, metadata: Metadata
) -> Iterable[Message]:
    shape = f"{_kind(method.client_streaming)}_{_kind(method.server_streaming)}"
    call = getattr(channel, shape)(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
    )
    sent = iter(requests) if method.client_streaming else requests[0]
    answer = call(sent, timeout=timeout, metadata=metadata or None)
    return answer if method.server_streaming else [answer]


def _kind(streaming: bool) -> str:  # noqa: FBT001  # grpc's own words for it
    return "stream" if streaming else "unary"


def _show(error: StatusError | None, watch: _Watch, options: argparse.Namespace) -> None:
    paint = Painter(options.color, sys.stderr)
    lines: list[str] = []
    if error is not None:
        report = Report(lookup(options.descriptors, options.module), reveal=options.reveal)
        facts = report.facts(_found(error)) | {"origin": error.origin.value}
        facts["anomalies"] = [*facts.get("anomalies", []), *error.anomalies]
        lines += error_lines({name: value for name, value in facts.items() if value != []}, paint)
    if watch.outcome is not None:
        lines += table(("attempt", "code", "seconds", "then waited"), _attempts(watch.outcome.attempts), paint)
        lines.append(f"{watch.outcome.code.name} in {watch.outcome.seconds:.3f} s")
    sys.stderr.write("".join(f"{line}\n" for line in lines))


def _attempts(attempts: Sequence[Attempt]) -> list[list[str]]:
    rows = []
    for attempt in attempts:
        code = attempt.error.code().name if attempt.error is not None else "OK"
        seconds = "" if attempt.ended is None else f"{attempt.ended - attempt.started:.3f}"
        rows.append([str(attempt.number), code, seconds, "" if attempt.delay is None else f"{attempt.delay:.3f}"])
    return rows


def _found(error: StatusError) -> Found:
    trailers: Iterable[Any] = error.trailing_metadata() or ()
    data = next((value for key, value in trailers if key == DETAILS_KEY and isinstance(value, bytes)), None)
    return Found(error.status, data)

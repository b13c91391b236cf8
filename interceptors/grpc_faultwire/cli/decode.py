"""``faultwire decode``: what errors a text holds. It must start at once, so gRPC is never imported."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from grpc_faultwire.cli.report import Lookup, Report
from grpc_faultwire.cli.terminal import FINE, FOUND, Painter, Problem, say, tree
from grpc_faultwire.cli.trailers import MAX_TEXT, Found, find, find_in_bytes
from grpc_faultwire.redaction import escaped


def run(options: argparse.Namespace) -> int:
    """Decode and print."""
    report = Report(_lookup(options), reveal=options.reveal)
    errors = [report.facts(one) for one in _read(options.value)]
    paint = Painter("never" if options.plain else options.color)
    for number, facts in enumerate(errors):
        if options.json:
            _print_json(facts)
        else:
            if number:
                say("")
            for line in error_lines(facts, paint, branches=not options.plain):
                say(line)
    return FOUND if any(facts.get("anomalies") or facts.get("rejected") for facts in errors) else FINE


def error_lines(facts: dict[str, Any], paint: Painter, *, branches: bool = True) -> Iterator[str]:
    """Return an error as a tree under a line with its code and message."""
    yield " ".join(filter(None, (paint(facts["code"], "bold", "red"), escaped(facts.get("message", "")))))
    shown = {name: value for name, value in facts.items() if name not in ("code", "number", "message", "rejected")}
    if "size" in shown:
        shown["size"] = shown["size"]["verdict"]
    for line in tree(shown, paint, branches=branches):
        yield line if branches else f"  {line}"


def _lookup(options: argparse.Namespace) -> Lookup:
    if not options.descriptors and not options.module:
        return Lookup()
    from grpc_faultwire.cli.sources import lookup  # noqa: PLC0415  # most texts are decoded without a catalogue

    return lookup(options.descriptors, options.module)


def _read(values: list[str]) -> list[Found]:
    if values and values != ["-"]:
        text = " ".join(values)
        found = find(text)
        size = len(text)
    else:
        data = sys.stdin.buffer.read(MAX_TEXT + 1)
        if len(data) > MAX_TEXT:
            raise Problem(f"this is more than {MAX_TEXT >> 20} MiB of text: cut out the part around the error")
        found = find_in_bytes(data)
        size = len(data)
    if not found:
        raise Problem(
            f"no gRPC error in these {size} characters: a grpc-status-details-bin value is a google.rpc.Status"
            " in base64, percent-encoding, hexadecimal or a bytes literal; is it cut short?"
        )
    return found


def _print_json(facts: dict[str, Any]) -> None:
    import json  # noqa: PLC0415  # only this output needs it

    say(json.dumps(facts))

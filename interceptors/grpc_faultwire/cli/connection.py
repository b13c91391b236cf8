"""What the commands that call a server have in common: its channel, and metadata from the command line."""

from __future__ import annotations

import argparse
import base64
import binascii
from collections.abc import Sequence
from pathlib import Path

import grpc

from grpc_faultwire.cli.terminal import Problem
from grpc_faultwire.trailers import valid_trailer

Metadata = tuple[tuple[str, "str | bytes"], ...]


def channel_to(options: argparse.Namespace) -> grpc.Channel:
    """Return the channel that ``target``, ``plaintext`` and ``ca`` ask for.

    Raises:
        Problem: the certificates cannot be read.
    """
    if options.plaintext:
        return grpc.insecure_channel(options.target)
    try:
        roots = Path(options.ca).read_bytes() if options.ca else None
    except OSError as wrong:
        raise Problem(f"{options.ca} cannot be read: {wrong.strerror}") from wrong
    return grpc.secure_channel(options.target, grpc.ssl_channel_credentials(roots))


def metadata_of(lines: Sequence[str]) -> Metadata:
    """Return the metadata that lines such as "key: value" stand for.

    Raises:
        Problem: one is no metadata.
    """
    return tuple(_entry(line) for line in lines)


def _entry(line: str) -> tuple[str, str | bytes]:
    name, colon, text = line.partition(":")
    key, value = name.strip().lower(), text.strip()
    try:
        sent: str | bytes = base64.b64decode(value, validate=True) if key.endswith("-bin") else value
    except binascii.Error:
        raise Problem(f"metadata {key} is binary: give its value in base64") from None
    if not colon or not valid_trailer(key, sent):
        raise Problem(f"{line!r} is no metadata: give it as 'key: value'")
    return key, sent

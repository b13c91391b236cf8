"""``faultwire protos``: where the .proto files of Faultwire are, for protoc's ``-I``."""

from __future__ import annotations

import argparse
from pathlib import Path

from grpc_faultwire.cli.terminal import FINE, Problem, say

_MARK = Path("faultwire/v1/options.proto")


def run(_options: argparse.Namespace) -> int:
    """Print the folder."""
    say(str(folder()))
    return FINE


def folder() -> Path:
    """Return the folder to import ``faultwire/v1/options.proto`` from.

    Raises:
        Problem: the package was installed without them.
    """
    package = Path(__file__).resolve().parent.parent
    # In the wheel they lie inside the package; an editable install has the repository's own folder.
    for candidate in (package / "protos", package.parent.parent / "protos"):
        if (candidate / _MARK).exists():
            return candidate
    raise Problem(f"this installation has no {_MARK}: install grpc-faultwire from a wheel")

"""``faultwire completion``: a script that completes commands and options in a shell."""

from __future__ import annotations

import argparse

from grpc_faultwire.cli.parser import make_parser
from grpc_faultwire.cli.terminal import FINE, Problem, say


def run(options: argparse.Namespace) -> int:
    """Print the script."""
    try:
        import shtab  # noqa: PLC0415  # only this command needs it
    except ImportError:
        raise Problem("completion needs shtab: pip install 'grpc-faultwire[cli]'") from None
    say(shtab.complete(make_parser(), options.shell))
    return FINE

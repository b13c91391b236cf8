"""``faultwire catalogue``: a page about the errors of a service."""

from __future__ import annotations

import argparse
from pathlib import Path

from grpc_faultwire.cli import html, markdown
from grpc_faultwire.cli.pages import page
from grpc_faultwire.cli.sources import load
from grpc_faultwire.cli.terminal import FINE, Problem, say


def run(options: argparse.Namespace) -> int:
    """Write the page."""
    contract = load(options.source, options.include)
    content = page(contract, options.title)
    if not content.sections:
        raise Problem(f"{' '.join(options.source)}: no enum in it has the option (faultwire.v1.catalogue)")
    text = html.write(content) if options.html else markdown.write(content)
    if options.output is None:
        say(text.removesuffix("\n"))
        return FINE
    try:
        Path(options.output).write_text(text, encoding="utf-8")
    except OSError as wrong:
        raise Problem(f"{options.output} cannot be written: {wrong.strerror}") from wrong
    return FINE

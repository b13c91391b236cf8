"""Commands, options and examples: `--help`, the shell completions and docs/cli.md are all made of this."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

EXIT_CODES = "Exit codes: 0 fine; 1 something was found, or the RPC failed; 2 the input or the arguments make no sense."

_CALL = "faultwire call --plaintext"

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "decode": (
        ("A value from a log or a trace, as it is", "faultwire decode CAcSDFlvdSBtYXkgbm90Lg"),
        ("Every error in a log", "faultwire decode < app.log"),
        ("What curl shows of a gRPC answer", "faultwire decode --plain < trailers.txt"),
        ("For other programs", "faultwire decode --json < app.log"),
        ("With the catalogue that declares the error", "faultwire decode --descriptors bookshop.binpb < app.log"),
        ("The same from an installed module", "faultwire decode --module bookshop.v1.bookshop_pb2 < app.log"),
        ("With what is redacted otherwise", "faultwire decode --reveal < app.log"),
    ),
    "lint": (
        ("Check the catalogues of a folder of .proto files", "faultwire lint protos"),
        ("Check that nothing breaks callers of what is released", "faultwire lint bookshop.binpb --against old.binpb"),
        ("An installed module, for programs", "faultwire lint --json bookshop.v1.bookshop_pb2"),
        ("All but one rule", "faultwire lint --ignore no-message bookshop.binpb"),
    ),
    "catalogue": (
        ("A Markdown page on standard output", "faultwire catalogue bookshop.binpb"),
        ("An HTML page", "faultwire catalogue --html --output errors.html bookshop.v1.bookshop_pb2"),
    ),
    "explain": (
        ("A status code", "faultwire explain UNAVAILABLE"),
        ("A category", "faultwire explain category:NOT_FOUND"),
        ("A reason", "faultwire explain BOOK_NOT_FOUND --descriptors bookshop.binpb"),
        ("All codes", "faultwire explain"),
    ),
    "call": (
        (
            "A method of a server with reflection",
            'faultwire call --plaintext localhost:50051 bookshop.v1.Bookshop/GetBook -d \'{"isbn": "978-0"}\'',
        ),
        (
            "A server without it, and a stream of requests",
            f"{_CALL} --descriptors bookshop.binpb localhost:50051 bookshop.v1.Bookshop/PlaceOrder -d @order.json",
        ),
        (
            "One attempt only, with metadata and two seconds",
            f"{_CALL} --attempts 1 --timeout 2 -H 'x-shop: 7' localhost:50051 bookshop.v1.Bookshop/GetBook",
        ),
    ),
    "top": (
        ("Live, until q or Ctrl-C; in a pipe, one snapshot", "faultwire top --plaintext localhost:50051"),
        (
            "With what the server's authorisation hook wants to see",
            "faultwire top --plaintext --once -H 'authorization: Bearer abc' localhost:50051",
        ),
        ("For scripts", "faultwire top --plaintext --once --json localhost:50051"),
        (
            "Hold a breaker open, and let it decide again later",
            "faultwire top --plaintext --force shop/bookshop.v1.Bookshop=open localhost:50051",
        ),
    ),
    "protos": (("The folder to give protoc", 'protoc -I protos -I "$(faultwire protos)" …'),),
    "completion": (("In this shell", 'eval "$(faultwire completion bash)"'),),
}
"""Examples of each command: what it is for, and the line. Those that start with "faultwire " are run by a test."""


def make_parser(arguments: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Make the parser of ``faultwire``.

    Args:
        arguments: what will be parsed. If a command comes first, the others are left out, which saves time.
    """
    parser = argparse.ArgumentParser(
        prog="faultwire",
        description="Errors of gRPC services: decode, watch and provoke them; check and document their catalogues.",
        epilog=EXIT_CODES,
        formatter_class=_Formatter,
    )
    parser.add_argument("--version", action=_Version, help="print the version and end")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", prog="faultwire")
    given = arguments[0] if arguments else None
    for name in [given] if given in _COMMANDS else _COMMANDS:
        summary, add_arguments = _COMMANDS[name]
        command = commands.add_parser(
            name,
            help=summary,
            description="\n".join(line.strip() for line in (add_arguments.__doc__ or "").split("\n")).strip(),
            epilog=_epilog(name),
            formatter_class=_Formatter,
        )
        add_arguments(command)
    return parser


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Leaves descriptions as they are; asks no terminal for its width, which would take imports."""

    def __init__(self, prog: str) -> None:
        columns = os.environ.get("COLUMNS", "")
        super().__init__(prog, max_help_position=30, width=int(columns) if columns.isdigit() else 100)

    def format_help(self) -> str:
        """Return the help."""
        # argparse measures the names of commands before it indents them, and then breaks lines that fit.
        self._action_max_length += self._indent_increment
        return super().format_help()


class _Version(argparse.Action):
    """As argparse's own, but the version is looked up only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], **options: Any) -> None:
        super().__init__(option_strings, **options | {"dest": argparse.SUPPRESS, "nargs": 0})

    def __call__(self, parser: argparse.ArgumentParser, *_arguments: object) -> None:
        from importlib import metadata  # noqa: PLC0415  # it costs as much as all of argparse

        sys.stdout.write(f"faultwire {metadata.version('grpc-faultwire')}\n")
        parser.exit()


def _epilog(command: str) -> str:
    lines = ["examples:"]
    for purpose, line in EXAMPLES[command]:
        lines += [f"  # {purpose}", f"  {line}"]
    return "\n".join([*lines, "", EXIT_CODES])


def _decode(parser: argparse.ArgumentParser) -> None:
    """Say what errors a text holds.

    The text is read from the arguments or from standard input: the value of a grpc-status-details-bin trailer, or any
    text around it, such as log lines and what curl shows. The value may be in base64 (standard or URL-safe, with or
    without padding), percent-encoded, in hexadecimal, a bytes literal of Python, or the bytes themselves.

    It exits with 1 if something is odd about an error, or if some callers would not get it because of its size.
    """
    parser.add_argument("value", nargs="*", help="the text; none or -: standard input")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="one JSON document for each error, one a line")
    output.add_argument("--plain", action="store_true", help="indented lines without colours and branches")
    parser.add_argument("--reveal", action="store_true", help="do not redact what looks like a secret or personal")
    _add_lookup(parser)
    _add_colour(parser)


def _lint(parser: argparse.ArgumentParser) -> None:
    """Check error catalogues against the rules of AIP-193 and of this package.

    A SOURCE is a descriptor set (protoc --descriptor_set_out --include_imports), a folder of .proto files (needs protoc
    or grpcio-tools), or a module that can be imported, such as bookshop.v1.bookshop_pb2.

    With --against, what callers rely on must still be there: reasons, their codes, and the keys of their metadata.
    """
    parser.add_argument("source", nargs="+", metavar="SOURCE", help="what to check")
    parser.add_argument("--against", action="append", default=[], metavar="OLD", help="the source as it was released")
    parser.add_argument("--ignore", action="append", default=[], metavar="RULE", help="leave out a rule")
    parser.add_argument("--json", action="store_true", help="one JSON document for each finding, one a line")
    _add_include(parser)
    _add_colour(parser)


def _catalogue(parser: argparse.ArgumentParser) -> None:
    """Write a page about the errors of a service, for its own documentation.

    Each reason has an anchor of its own name, so that docs_url: "https://…/errors#{reason}" points to it. A SOURCE is
    what `faultwire lint` takes; comments are shown if it is a folder, or a descriptor set with source info.
    """
    parser.add_argument("source", nargs="+", metavar="SOURCE", help="what to describe")
    parser.add_argument("--html", action="store_true", help="HTML in place of Markdown")
    parser.add_argument("--title", default="Errors", help="of the page (default: %(default)s)")
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write it; default: standard output")
    _add_include(parser)


def _explain(parser: argparse.ArgumentParser) -> None:
    """Say what a status code, a category or a declared reason means, and what policies do about it.

    A name that is both a code and a category means the code, unless "category:" stands before it. Without a name, all
    codes are listed.
    """
    parser.add_argument("name", nargs="?", metavar="CODE|REASON|CATEGORY", help="such as UNAVAILABLE")
    _add_lookup(parser)
    _add_colour(parser)


def _call(parser: argparse.ArgumentParser) -> None:
    """Call a method, and show the decoded error, the attempts and the time.

    The types come from the server's reflection unless --descriptors or --module name them. Responses are written to
    standard output as JSON, all else to standard error. The policies are those of ClientPolicy.
    """
    parser.add_argument("target", metavar="TARGET", help="host:port")
    parser.add_argument("method", metavar="METHOD", help="such as bookshop.v1.Bookshop/GetBook")
    parser.add_argument(
        "-d",
        "--data",
        default="",
        metavar="JSON",
        help="requests, one after another; @FILE: from a file; -: from standard input",
    )
    _add_header(parser)
    parser.add_argument("--timeout", type=float, default=10.0, metavar="SECONDS", help="for all attempts (default: 10)")
    parser.add_argument("--attempts", type=int, default=3, metavar="N", help="at the most (default: 3)")
    parser.add_argument(
        "--idempotent", action="store_true", help="it may be carried out twice, whatever its proto says"
    )
    _add_connection(parser)
    parser.add_argument("--reveal", action="store_true", help="do not redact what looks like a secret or personal")
    _add_lookup(parser)
    _add_colour(parser)


def _top(parser: argparse.ArgumentParser) -> None:
    """Show the groups of errors, the breakers and the budgets of a server, live.

    The server has faultwire.v1.Diagnostics added to it, and its authorisation hook says yes to this caller. In a
    terminal the view stays until q or Ctrl-C, finds the server again after it was away, and its keys force the chosen
    breaker, once you have said yes. Elsewhere, and with --once, one snapshot is written; with --json they are written
    one after another.
    """
    parser.add_argument("target", metavar="TARGET", help="host:port")
    parser.add_argument("--once", action="store_true", help="write one snapshot and end")
    parser.add_argument("--json", action="store_true", help="one JSON document for each snapshot, one a line")
    parser.add_argument(
        "--interval", type=float, default=1.0, metavar="SECONDS", help="between snapshots, 0.1 to 60 (default: 1)"
    )
    parser.add_argument(
        "--groups", type=int, default=50, metavar="N", help="of errors, the most frequent, 1 to 256 (default: 50)"
    )
    parser.add_argument(
        "--force",
        action="append",
        default=[],
        metavar="BREAKER=STATE",
        help="hold a breaker open or closed, or let it decide again (auto); say what was done and end",
    )
    _add_header(parser)
    parser.add_argument(
        "--timeout", type=float, default=5.0, metavar="SECONDS", help="for an answer, and a first snapshot (default: 5)"
    )
    _add_connection(parser)
    _add_colour(parser)


def _protos(_parser: argparse.ArgumentParser) -> None:
    """Print the folder of faultwire/v1/options.proto, for protoc's -I."""


def _completion(parser: argparse.ArgumentParser) -> None:
    """Print a script that completes commands and options in a shell."""
    parser.add_argument("shell", choices=["bash", "zsh", "tcsh"])


_COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "decode": ("say what errors a text holds", _decode),
    "lint": ("check error catalogues", _lint),
    "catalogue": ("write a page about the errors of a service", _catalogue),
    "explain": ("say what a code, a category or a reason means", _explain),
    "call": ("call a method and show its error", _call),
    "top": ("show a server's errors, breakers and budgets, live", _top),
    "protos": ("print the folder of the .proto files", _protos),
    "completion": ("print a script for a shell", _completion),
}


def _add_lookup(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("catalogues and types")
    group.add_argument("--descriptors", action="append", default=[], metavar="FILE", help="a descriptor set")
    group.add_argument("--module", action="append", default=[], metavar="NAME", help="an importable module")


def _add_include(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-I", "--include", action="append", default=[], metavar="DIR", help="for imports of .proto files"
    )


def _add_header(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-H", "--header", action="append", default=[], metavar="KEY: VALUE", help="metadata to send")


def _add_connection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plaintext", action="store_true", help="no TLS")
    parser.add_argument("--ca", metavar="FILE", help="certificates to trust, in PEM")


def _add_colour(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--color", choices=["auto", "always", "never"], default="auto", help="(default: %(default)s)")

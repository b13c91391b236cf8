"""The entry point of ``faultwire``: what a command needs is imported when it is given."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from grpc_faultwire.cli.parser import make_parser
from grpc_faultwire.cli.terminal import FINE, RUBBISH, Problem, complain


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: None: the process's own.

    Returns:
        The exit code: 0 fine, 1 something was found, 2 the input makes no sense.
    """
    given = sys.argv[1:] if arguments is None else arguments
    parser = make_parser(given)
    options = parser.parse_args(given)
    if options.command is None:
        parser.print_help()
        return FINE
    try:
        code: int = importlib.import_module(f"grpc_faultwire.cli.{options.command}").run(options)
        sys.stdout.flush()
    except Problem as problem:
        complain(str(problem))
        return RUBBISH
    except BrokenPipeError:
        # Whoever reads has seen enough; Python must not complain when it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FINE
    except KeyboardInterrupt:
        return 130
    return code

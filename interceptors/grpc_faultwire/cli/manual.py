"""docs/cli.md, made of the parser: ``python -m grpc_faultwire.cli.manual > docs/cli.md``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

from grpc_faultwire.cli.parser import EXAMPLES, EXIT_CODES, make_parser
from grpc_faultwire.cli.rules import RULES

_HEAD = """\
<!-- Made of the parser by `python -m grpc_faultwire.cli.manual`; a test compares the two. -->
# The command `faultwire`

```console
pip install 'grpc-faultwire[cli]'
```

`decode`, `lint`, `catalogue`, `protos` and the protoc plugin `protoc-gen-faultwire` work without the extra: it brings
tables and the live view (rich), completion (shtab) and server reflection.
"""


def manual() -> str:
    """Return the page."""
    parser = make_parser()
    lines = [_HEAD, f"{parser.description}\n", f"{EXIT_CODES}\n"]
    for name, command in commands(parser).items():
        lines += _command(name, command)
        if name == "lint":
            lines += ["The rules:\n", *(f"* `{rule}`: {demand}" for rule, demand in RULES.items()), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of the commands."""
    for action in parser._actions:  # argparse has no other way to look at a parser
        if isinstance(action, argparse._SubParsersAction):  # as above
            return dict(action.choices)
    return {}


def _command(name: str, command: argparse.ArgumentParser) -> Iterator[str]:
    yield f"## faultwire {name}\n"
    yield f"{command.description}\n"
    yield f"```text\n{' '.join(command.format_usage().removeprefix('usage: ').split())}\n```\n"
    arguments = list(_arguments(command._actions))  # as above
    if arguments:
        yield from ("| Argument | |", "|---|---|", *arguments, "")
    for purpose, line in EXAMPLES[name]:
        yield f"{purpose}:\n\n```console\n$ {line}\n```\n"


def _arguments(actions: Iterable[argparse.Action]) -> Iterator[str]:
    for action in actions:
        if action.dest == "help":
            continue
        value = _value(action)
        names = ", ".join(f"{option} {value}".strip() for option in action.option_strings) or value
        help_text = (action.help or "") % {"default": action.default}
        yield f"| `{names.replace('|', ' or ')}` | {help_text} |"


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if action.choices is not None:
        return (
            ", ".join(map(str, action.choices)) if not action.option_strings else "{" + ",".join(action.choices) + "}"
        )
    if isinstance(action.metavar, str):
        return action.metavar
    return action.dest.upper() if action.option_strings else action.dest


if __name__ == "__main__":
    print(manual(), end="")  # noqa: T201  # a program

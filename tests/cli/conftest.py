"""A folder as the documentation supposes it, and the command run in it."""

from __future__ import annotations

import io
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from google.protobuf import descriptor_pb2

from bookshop.v1 import bookshop_pb2
from faultwire.v1 import options_pb2
from grpc_faultwire.cli.main import main

from .corpus import KEY, LOST_BYTES, MESSAGE, N

PROTOC = """#!{python}
import pathlib, shutil, sys
output = next(one.partition("=")[2] for one in sys.argv if one.startswith("--descriptor_set_out="))
if any("broken" in one for one in sys.argv):
    sys.exit("broken.proto:1:1: Expected top-level statement.")
shutil.copy({descriptors!r}, output)
"""


class Done(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]


def descriptors(change: Callable[[descriptor_pb2.FileDescriptorProto], None] = lambda _: None) -> bytes:
    """Return the bookshop's descriptor set, changed."""
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(one.DESCRIPTOR.serialized_pb)
        for one in (options_pb2, bookshop_pb2)
    ]
    change(files[1])
    return descriptor_pb2.FileDescriptorSet(file=files).SerializeToString(deterministic=True)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the folder that the documentation's examples are run in, and go there."""
    (tmp_path / "bookshop.binpb").write_bytes(descriptors())
    (tmp_path / "old.binpb").write_bytes(descriptors())
    (tmp_path / "app.log").write_text(f"12:00 INFO started\n12:01 ERROR {KEY}={N}\n")
    (tmp_path / "trailers.txt").write_text(f"< grpc-status: 5\n< grpc-message: {MESSAGE}\n< {KEY}: {N}\n")
    (tmp_path / "status.bin").write_bytes(LOST_BYTES)
    (tmp_path / "book.json").write_text('{"isbn": "978-1"}')
    (tmp_path / "order.json").write_text('{"isbn": "978-1", "quantity": 1}\n{"isbn": "978-2", "quantity": 3}\n')
    (tmp_path / "protos/bookshop/v1").mkdir(parents=True)
    (tmp_path / "protos/bookshop/v1/bookshop.proto").write_text("// its content is the stand-in's\n")
    stand_in(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a protoc on the PATH that knows one answer; the slow tests use a real one."""
    (folder / "bin").mkdir()
    program = folder / "bin/protoc"
    program.write_text(PROTOC.format(python=sys.executable, descriptors=str(folder / "bookshop.binpb")))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a command line in this process."""

    def run(line: str | list[str], stdin: str | bytes = b"") -> Done:
        arguments = shlex.split(line) if isinstance(line, str) else line
        data = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), "utf-8"))
        try:
            code = main(arguments)
        except SystemExit as end:  # argparse ends the process by itself
            code = int(end.code or 0)
        return Done(code, *capsys.readouterr())

    return run

# /// script
# requires-python = ">=3.11"
# dependencies = ["grpcio-tools==1.75.1", "mypy-protobuf==5.1.0", "setuptools<81", "googleapis-common-protos"]
# ///
"""Write generated/ anew from protos/.

The generator is the oldest that is supported, in an environment of its own: generated code refuses a runtime that is
older than its generator, and grpcio-tools would hold protobuf back for everything else. protoc-gen-faultwire is run
from this source, once the code that it needs itself is there.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import stat
import subprocess
import sys
import tempfile

import grpc_tools

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
GENERATED = ROOT / "generated"


def has_service(proto: pathlib.Path) -> bool:
    return any(line.startswith("service ") for line in proto.read_text().splitlines())


def generate(protos: list[pathlib.Path], *outputs: str) -> None:
    if not protos:
        return
    include = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    googleapis = next(path for path in map(pathlib.Path, sys.path) if (path / "google/rpc/status.proto").exists())
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", f"-I{include}", f"-I{googleapis}"]
    subprocess.run([*command, *outputs, *map(str, protos)], check=True)


def plugin(folder: str) -> pathlib.Path:
    """Write a program that runs this source's protoc-gen-faultwire."""
    program = pathlib.Path(folder) / "protoc-gen-faultwire"
    path = os.pathsep.join(map(str, (ROOT / "interceptors", GENERATED)))
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{path}" exec "{sys.executable}" -m grpc_faultwire.codegen.plugin\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def main() -> None:
    shutil.rmtree(GENERATED, ignore_errors=True)
    GENERATED.mkdir()
    protos = sorted(PROTOS.rglob("*.proto"))
    generate(protos, f"--python_out={GENERATED}", f"--mypy_out=quiet:{GENERATED}")
    with tempfile.TemporaryDirectory() as folder:
        generate(protos, f"--plugin=protoc-gen-faultwire={plugin(folder)}", f"--faultwire_out={GENERATED}")
    services = [proto for proto in protos if has_service(proto)]
    generate(services, f"--grpc_python_out={GENERATED}", f"--mypy_grpc_out=quiet:{GENERATED}")
    for package in sorted({proto.relative_to(PROTOS).parts[0] for proto in protos}):
        (GENERATED / package / "py.typed").touch()


if __name__ == "__main__":
    main()

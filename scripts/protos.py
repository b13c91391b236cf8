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


def plugin(folder: pathlib.Path, generated: pathlib.Path) -> pathlib.Path:
    """Write a program that runs this source's protoc-gen-faultwire."""
    program = folder / "protoc-gen-faultwire"
    path = os.pathsep.join(map(str, (ROOT / "interceptors", generated)))
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{path}" exec "{sys.executable}" -m grpc_faultwire.codegen.plugin\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def generate_all(generated: pathlib.Path, scratch: pathlib.Path) -> None:
    protos = sorted(PROTOS.rglob("*.proto"))
    generate(protos, f"--python_out={generated}", f"--mypy_out=quiet:{generated}")
    program = plugin(scratch, generated)
    generate(protos, f"--plugin=protoc-gen-faultwire={program}", f"--faultwire_out={generated}")
    services = [proto for proto in protos if has_service(proto)]
    generate(services, f"--grpc_python_out={generated}", f"--mypy_grpc_out=quiet:{generated}")
    for package in sorted({proto.relative_to(PROTOS).parts[0] for proto in protos}):
        (generated / package / "py.typed").touch()


def files(folder: pathlib.Path) -> set[pathlib.Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}


def replace(old: pathlib.Path, new: pathlib.Path) -> None:
    """Make one folder as the other, file by file: who imports from it meanwhile finds each file, old or new."""
    for name in files(new):
        if not (old / name).exists() or (old / name).read_bytes() != (new / name).read_bytes():
            (old / name).parent.mkdir(parents=True, exist_ok=True)
            beside = (old / name).with_suffix(".new")
            shutil.copyfile(new / name, beside)
            beside.replace(old / name)
    for name in files(old) - files(new):
        (old / name).unlink()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        generated = scratch / "generated"
        generated.mkdir()
        generate_all(generated, scratch)
        replace(GENERATED, generated)


if __name__ == "__main__":
    main()

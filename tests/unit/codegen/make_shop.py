"""Writes shop.binpb, the descriptor set of protos/ with its comments: run it where grpcio-tools is installed.

.venvs/protos/bin/python tests/unit/codegen/make_shop.py
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grpc_tools
from google.protobuf import descriptor_pb2

HERE = Path(__file__).resolve().parent
INCLUDE = [HERE / "protos", HERE.parents[2] / "protos", Path(grpc_tools.__file__).parent / "_proto"]


def main(output: Path) -> None:
    """Write it."""
    command = [sys.executable, "-m", "grpc_tools.protoc", *(f"-I{folder}" for folder in INCLUDE)]
    command += ["--include_imports", "--include_source_info", f"--descriptor_set_out={output}"]
    subprocess.run([*command, "shop/v1/shop.proto"], check=True)
    made = descriptor_pb2.FileDescriptorSet.FromString(output.read_bytes())
    # What every process has imported that reads this; its comments would be most of the file.
    own = [file for file in made.file if not file.name.startswith(("google/", "faultwire/"))]
    output.write_bytes(descriptor_pb2.FileDescriptorSet(file=own).SerializeToString(deterministic=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "shop.binpb")

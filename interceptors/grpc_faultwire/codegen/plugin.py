"""``protoc-gen-faultwire``: writes ``…_faultwire.py`` beside ``…_pb2.py`` for every file that declares errors.

python -m grpc_tools.protoc -I. -I$(faultwire protos) --python_out=gen --faultwire_out=gen shop/v1/shop.proto
"""

from __future__ import annotations

import sys

from google.protobuf import descriptor_pb2
from google.protobuf.compiler import plugin_pb2
from google.protobuf.message import DecodeError

# Imported before a request is parsed, so that its options are.
from faultwire.v1 import options_pb2  # noqa: F401  # see above
from grpc_faultwire.codegen.contract import read_contract
from grpc_faultwire.codegen.module import has_module, module_path, write_module


def main() -> int:
    """Answer protoc's request on standard input; return the exit code."""
    try:
        request = plugin_pb2.CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    except DecodeError:
        print("protoc-gen-faultwire is run by protoc, with --faultwire_out=FOLDER", file=sys.stderr)  # noqa: T201  # a program
        return 2
    sys.stdout.buffer.write(generate(request).SerializeToString())
    return 0


def generate(request: plugin_pb2.CodeGeneratorRequest) -> plugin_pb2.CodeGeneratorResponse:
    """Return the modules for the files of a request, or in `error` a line for each thing that is declared wrongly."""
    response = plugin_pb2.CodeGeneratorResponse(
        supported_features=plugin_pb2.CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
        | plugin_pb2.CodeGeneratorResponse.FEATURE_SUPPORTS_EDITIONS,
        minimum_edition=descriptor_pb2.EDITION_PROTO2,
        maximum_edition=descriptor_pb2.EDITION_2023,
    )
    problems = []
    if request.parameter:
        problems.append(f"protoc-gen-faultwire takes no options, so not {request.parameter!r}")
    try:
        contract = read_contract(request.proto_file)
    except ValueError as wrong:
        contract = {}
        problems.append(str(wrong))
    for name in sorted(set(request.file_to_generate) & contract.keys()):
        if has_module(contract[name]):
            try:
                response.file.add(name=module_path(name), content=write_module(contract[name], contract))
            except ValueError as wrong:
                problems.append(str(wrong))
    if problems:
        del response.file[:]
        response.error = "\n".join(problems)
    return response


if __name__ == "__main__":
    raise SystemExit(main())

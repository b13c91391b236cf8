"""The catalogues of protos/, as protoc would give them to the plugin, and the modules made of them."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2

from grpc_faultwire.codegen.contract import Contract, pool_of, read_contract
from grpc_faultwire.codegen.module import module_name, write_module

HERE = Path(__file__).resolve().parent
FILES = list(descriptor_pb2.FileDescriptorSet.FromString((HERE / "shop.binpb").read_bytes()).file)
SHOP, COMMON = "shop/v1/shop.proto", "shop/v1/common.proto"


def contract() -> Contract:
    """Read what the files declare."""
    return read_contract(FILES)


def enum(name: str) -> Any:
    """Return the descriptor of an enum, in a pool of its own."""
    pool = pool_of(FILES)
    return pool.FindEnumTypeByName(name)


def text(name: str = SHOP) -> str:
    """Return the text of a file's module."""
    known = contract()
    return write_module(known[name], known)


def modules() -> tuple[Any, Any]:
    """Return the modules for shop.proto and common.proto, imported as if they were files."""
    for name in (COMMON, SHOP):
        full = module_name(name)
        if full not in sys.modules:
            _packages(full)
            module = types.ModuleType(full)
            sys.modules[full] = module
            exec(compile(text(name), full, "exec"), module.__dict__)
            setattr(sys.modules[full.rpartition(".")[0]], full.rpartition(".")[2], module)
    return sys.modules[module_name(SHOP)], sys.modules[module_name(COMMON)]


def _packages(full: str) -> None:
    parts = full.split(".")[:-1]
    for end in range(1, len(parts) + 1):
        package = sys.modules.setdefault(".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))
        if end > 1:
            setattr(sys.modules[".".join(parts[: end - 1])], parts[end - 1], package)

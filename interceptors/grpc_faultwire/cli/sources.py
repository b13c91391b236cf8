"""Where catalogues come from: descriptor sets, folders of .proto files, modules that can be imported."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import google.rpc.error_details_pb2
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import Default, DescriptorPool
from google.protobuf.message import DecodeError, Message

from grpc_faultwire.cli import protos
from grpc_faultwire.cli.report import Lookup
from grpc_faultwire.cli.terminal import Problem
from grpc_faultwire.codegen.contract import Contract, pool_of, read_contract, read_loaded
from grpc_faultwire.codegen.module import SUFFIX
from grpc_faultwire.declaration import Declaration

_MODULE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")


def load(sources: Sequence[str], include: Sequence[str] = ()) -> Contract:
    """Read what sources declare.

    Args:
        sources: each a descriptor set, a folder of .proto files or a module.
        include: folders for the imports of .proto files.

    Raises:
        Problem: one is none of these, or cannot be read.
    """
    contract = {name: file for source in sources for name, file in _load(source, include).items()}
    if not contract:
        raise Problem(f"{' '.join(sources)}: there is no .proto file in it")
    return contract


def lookup(descriptors: Sequence[str], modules: Sequence[str]) -> Lookup:
    """Return a lookup in descriptor sets and modules.

    Raises:
        Problem: one cannot be read.
    """
    sets = [_descriptor_set(Path(path)) for path in descriptors]
    contract = {name: file for source in modules for name, file in _from_module(source).items()}
    for protos_of_set in sets:
        contract |= _checked(protos_of_set)
    return _Known(contract, [_pool(protos_of_set) for protos_of_set in sets])


class _Known(Lookup):
    """Knows the catalogues of a contract, and the types of some pools beside those that are imported."""

    def __init__(self, contract: Contract, pools: Sequence[DescriptorPool]) -> None:
        self._pools = pools
        self.declarations = [
            one for file in contract.values() for catalogue in file.catalogues for one in catalogue.declarations
        ]

    def declaration(self, domain: str, reason: str) -> Declaration | None:
        """Return what is declared for this reason, if anything is."""
        return next((one for one in self.declarations if (one.domain, one.reason) == (domain, reason)), None)

    def message_class(self, name: str) -> type[Message] | None:
        """Return the class for messages of this full name, if it is known."""
        known = super().message_class(name)
        for pool in self._pools if known is None else ():
            try:
                return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
            except KeyError:
                continue
        return known


def pools(descriptors: Sequence[str], modules: Sequence[str]) -> list[DescriptorPool]:
    """Return descriptor pools with what descriptor sets and modules define; none if there are none.

    Raises:
        Problem: one cannot be read.
    """
    for name in modules:
        _from_module(name)
    return [*(_pool(_descriptor_set(Path(path))) for path in descriptors), *([Default()] if modules else [])]


def declared(known: Lookup) -> Sequence[Declaration]:
    """Return all declarations of a lookup."""
    return known.declarations if isinstance(known, _Known) else ()


def _load(source: str, include: Sequence[str]) -> Contract:
    path = Path(source)
    if path.is_dir():
        return _from_folder(path, include)
    if path.suffix == ".proto":
        raise Problem(f"{source} is one .proto file: give the folder that its imports start from")
    if path.is_file():
        return _checked(_descriptor_set(path))
    if _MODULE.fullmatch(source):
        return _from_module(source)
    raise Problem(f"{source} is no file, no folder and no module")


def _checked(files: Sequence[descriptor_pb2.FileDescriptorProto]) -> Contract:
    try:
        return read_contract(files)
    except ValueError as wrong:
        raise Problem(str(wrong)) from wrong


def _pool(files: Sequence[descriptor_pb2.FileDescriptorProto]) -> DescriptorPool:
    try:
        return pool_of(files)
    except ValueError as wrong:
        raise Problem(str(wrong)) from wrong


def _descriptor_set(path: Path) -> Sequence[descriptor_pb2.FileDescriptorProto]:
    try:
        files = list(descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file)
    except OSError as wrong:
        raise Problem(f"{path} cannot be read: {wrong.strerror}") from wrong
    except DecodeError:
        files = []
    if not files or not all(file.name for file in files):
        raise Problem(f"{path} is no descriptor set: make one with protoc --include_imports --descriptor_set_out")
    return files


# Folders.


def _from_folder(folder: Path, include: Sequence[str]) -> Contract:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.proto"))
    if not names:
        raise Problem(f"{folder} holds no .proto file")
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "set.binpb"
        _compile([str(folder), *include], names, output)
        contract = _checked(_descriptor_set(output))
    return {name: contract[name] for name in names}


def _compile(include: Iterable[str], names: Sequence[str], output: Path) -> None:
    googleapis = Path(google.rpc.error_details_pb2.__file__).parents[2]
    folders = [*include, str(protos.folder()), str(googleapis)]
    command = [*_protoc(), *(f"-I{folder}" for folder in folders), "--include_imports", "--include_source_info"]
    done = subprocess.run(  # noqa: S603  # protoc, on the files that the user named
        [*command, f"--descriptor_set_out={output}", *names], check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise Problem(f"protoc does not accept these files:\n{done.stderr.strip()}")


def _protoc() -> list[str]:
    if importlib.util.find_spec("grpc_tools") is not None:
        well_known = Path(str(importlib.util.find_spec("grpc_tools").origin)).parent / "_proto"  # type: ignore[union-attr]  # just found
        return [sys.executable, "-m", "grpc_tools.protoc", f"-I{well_known}"]
    program = shutil.which("protoc")
    if program is None:
        raise Problem("a folder needs protoc on the PATH, or grpcio-tools: else give a descriptor set or a module")
    return [program]


# Modules.


def _from_module(name: str) -> Contract:
    modules = list(_modules(name))
    files = {file.name: file for module in modules if (file := _descriptor(module)) is not None}
    if not files:
        raise Problem(f"module {name} holds no generated code: give one that ends in _pb2, or a package of such")
    return read_loaded(files.values())


def _modules(name: str) -> Iterator[ModuleType]:
    # As `python -m` does, so that a project's own modules are found.
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    module = _import(f"{name.removesuffix(SUFFIX)}_pb2" if name.endswith(SUFFIX) else name)
    yield module
    # By files: generated packages are namespace packages, into which pkgutil does not look.
    for folder in map(Path, getattr(module, "__path__", ())):
        for path in sorted(folder.rglob("*_pb2.py")):
            yield _import(".".join((module.__name__, *path.relative_to(folder).with_suffix("").parts)))


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as wrong:  # whatever the import of a user's module does
        raise Problem(f"module {name} cannot be imported: {type(wrong).__name__}: {wrong}") from wrong


def _descriptor(module: ModuleType) -> FileDescriptor | None:
    descriptor = getattr(module, "DESCRIPTOR", None)
    return descriptor if isinstance(descriptor, FileDescriptor) else None

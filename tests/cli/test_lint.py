"""faultwire lint: each rule has a declaration that breaks it, and the bookshop breaks none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

from faultwire.v1 import options_pb2
from grpc_faultwire.cli.rules import RULES

from .conftest import Run, descriptors

File = descriptor_pb2.FileDescriptorProto


def error(file: File, reason: str) -> Any:
    """Return the options of a reason of the bookshop."""
    values = file.enum_type[0].value
    value = next(one for one in values if one.name == f"BOOKSHOP_ERROR_{reason}")
    return value.options.Extensions[options_pb2.error]


def add(file: File, name: str, **declared: Any) -> None:
    """Declare one more reason."""
    values = file.enum_type[0].value
    value = values.add(name=f"BOOKSHOP_ERROR_{name}", number=len(values) + 50)
    value.options.Extensions[options_pb2.error].CopyFrom(
        options_pb2.ErrorOptions(**{"code": "INTERNAL", "message": "m", **declared})
    )


def twice(file: File) -> None:
    """Declare a reason again in another enum."""
    file.enum_type.add().CopyFrom(file.enum_type[0])
    again = file.enum_type[1]
    again.name = "Again"
    del again.value[2:]
    for value in again.value:
        value.name = f"AGAIN_{value.name}"
        value.options.Extensions[options_pb2.error].reason = "BOOK_NOT_FOUND"
    again.value[0].options.Clear()


def undeclared(file: File) -> None:
    """Add a value without options."""
    file.enum_type[0].value.add(name="BOOKSHOP_ERROR_PLAIN", number=99)


def zero(file: File) -> None:
    """Declare an error on the value 0."""
    file.enum_type[0].value[0].options.Extensions[options_pb2.error].CopyFrom(
        options_pb2.ErrorOptions(code="INTERNAL", message="m")
    )


def stranger(file: File) -> None:
    """Let a method name a reason that is not there."""
    file.service[0].method[0].options.Extensions[options_pb2.errors].reasons.append("NOWHERE")


def stripped(file: File) -> None:
    """Take the metadata from a reason."""
    error(file, "BOOK_NOT_FOUND").ClearField("metadata")
    error(file, "BOOK_NOT_FOUND").message = "m"


def widened(file: File) -> None:
    """Let a method name one more reason."""
    file.service[0].method[0].options.Extensions[options_pb2.errors].reasons.append("OUT_OF_STOCK")


BROKEN: dict[str, Callable[[File], None]] = {
    "invalid-declaration": lambda file: add(file, "BAD", code="GONE"),
    "duplicate-reason": twice,
    "undeclared-value": undeclared,
    "declared-zero": zero,
    "unknown-reason": stranger,
    "name-clash": lambda file: add(file, "X", reason="BOOK_NOT__FOUND"),
    "no-message": lambda file: add(file, "MUTE", message=""),
    "hidden-in-message": lambda file: add(
        file, "TELLTALE", message="{mail}", metadata=[options_pb2.MetadataKey(key="mail", sensitivity=2)]
    ),
    "unsaid-sensitivity": lambda file: add(file, "UNSAID", metadata=[options_pb2.MetadataKey(key="api_token")]),
    "relative-docs": lambda file: add(file, "LOST", docs_url="errors.html#LOST"),
    "contradictory-retry": lambda file: add(file, "NEVER", retry_scope=1, retry_delay={"seconds": 3}),
}
CHANGED: dict[str, Callable[[File], None]] = {
    "reason-removed": lambda file: file.enum_type[0].value.pop(),
    "code-changed": lambda file: setattr(error(file, "OUT_OF_STOCK"), "code", "ABORTED"),
    "metadata-removed": stripped,
    "metadata-hidden": lambda file: setattr(error(file, "ORDER_QUOTA_EXCEEDED").metadata[0], "sensitivity", 2),
    "method-widened": widened,
}


def test_every_rule_is_tested() -> None:
    """Each rule has a file that breaks it."""
    assert set(BROKEN) | set(CHANGED) == set(RULES)


def test_the_bookshop_is_clean(run: Run, folder: Path) -> None:
    """Nothing is wrong with the catalogue that ships with the examples, whatever it is read from."""
    for source in (
        "bookshop.binpb",
        "protos",
        "bookshop.v1.bookshop_pb2",
        "bookshop.v1.bookshop_faultwire",
        "bookshop",
    ):
        done = run(f"lint {source} --against old.binpb")
        assert (done.code, done.out) == (0, ""), source
        assert done.err.endswith(" 0 findings\n")


@pytest.mark.parametrize("rule", BROKEN)
def test_what_breaks_a_rule_is_found(run: Run, folder: Path, rule: str) -> None:
    """A declaration that breaks a rule is named with its file, and the exit code is 1."""
    Path("new.binpb").write_bytes(descriptors(BROKEN[rule]))
    done = run("lint new.binpb")
    assert done.code == 1
    # Two declarations of a reason in one file also clash in Python, and no method can tell them apart.
    beside = {"name-clash", "unknown-reason"} if rule == "duplicate-reason" else set()
    assert {line.split(": ")[2] for line in done.out.splitlines()} == {rule} | beside
    assert done.out.startswith("bookshop/v1/bookshop.proto: ")


@pytest.mark.parametrize("rule", CHANGED)
def test_what_callers_would_miss_is_found(run: Run, folder: Path, rule: str) -> None:
    """A change that breaks callers is found by comparison with what was released."""
    Path("new.binpb").write_bytes(descriptors(CHANGED[rule]))
    done = run("lint new.binpb --against old.binpb --json --ignore hidden-in-message --ignore unknown-reason")
    assert {json.loads(line)["rule"] for line in done.out.splitlines()} == {rule}
    assert done.code == 1


def test_a_url_that_cannot_be_read_is_relative(run: Run, folder: Path) -> None:
    """A docs URL that no parser takes is no absolute one."""
    Path("new.binpb").write_bytes(descriptors(lambda file: add(file, "ODD", docs_url="https://[nowhere")))
    assert ": relative-docs: https://[nowhere is no absolute URL\n" in run("lint new.binpb").out


def test_a_rule_may_be_left_out(run: Run, folder: Path) -> None:
    """--ignore leaves out a rule, and no rule that does not exist."""
    Path("new.binpb").write_bytes(descriptors(BROKEN["no-message"]))
    assert run("lint new.binpb --ignore no-message").code == 0
    done = run("lint new.binpb --ignore no-masage")
    assert done.code == 2
    assert done.err.startswith("faultwire: there is no rule no-masage; there are invalid-declaration, ")


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("nowhere", "module nowhere cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        ("no/where", "no/where is no file, no folder and no module"),
        ("app.log", "app.log is no descriptor set: make one with protoc --include_imports --descriptor_set_out"),
        (
            "empty.binpb",
            "empty.binpb is no descriptor set: make one with protoc --include_imports --descriptor_set_out",
        ),
        ("torn.binpb", "a.proto is imported and not there: make the descriptor set with protoc --include_imports"),
        ("x.proto", "x.proto is one .proto file: give the folder that its imports start from"),
        ("bin", "bin holds no .proto file"),
        ("broken", "protoc does not accept these files:\nbroken.proto:1:1: Expected top-level statement."),
        ("json", "module json holds no generated code: give one that ends in _pb2, or a package of such"),
        ("raises_pb2", "module raises_pb2 cannot be imported: RuntimeError: torn"),
    ],
)
def test_sources_that_make_no_sense_get_a_sentence(run: Run, folder: Path, source: str, sentence: str) -> None:
    """What cannot be read is told in a sentence, with exit code 2."""
    Path("empty.binpb").write_bytes(b"")
    torn = File(name="b.proto", dependency=["a.proto"])
    Path("torn.binpb").write_bytes(descriptor_pb2.FileDescriptorSet(file=[torn]).SerializeToString())
    Path("raises_pb2.py").write_text("raise RuntimeError('torn')\n")
    Path("broken").mkdir()
    Path("broken/broken.proto").write_text("nonsense")
    done = run(f"lint {source}")
    assert (done.code, done.out, done.err) == (2, "", f"faultwire: {sentence}\n")


def test_without_a_compiler_folders_get_a_sentence(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is neither protoc nor grpcio-tools, the other sources are named."""
    monkeypatch.setenv("PATH", "/nowhere")
    done = run("lint protos")
    assert done.code == 2
    assert done.err.startswith("faultwire: a folder needs protoc on the PATH, or grpcio-tools")

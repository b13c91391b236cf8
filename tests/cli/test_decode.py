"""faultwire decode: finds errors in any text, and tells of them without telling secrets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf import any_pb2, descriptor_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bookshop.v1 import bookshop_faultwire
from faultwire.v1 import errors_pb2
from grpc_faultwire import Redactor, truncation
from grpc_faultwire.cli import audit
from grpc_faultwire.cli.report import Lookup, Report
from grpc_faultwire.cli.terminal import Painter, tree
from grpc_faultwire.cli.trailers import Found, find_in_bytes
from grpc_faultwire.status import DETAILS_KEY, encode

from . import corpus
from .conftest import Run
from .corpus import packed, standard


def facts(run: Run, status: status_pb2.Status, *options: str) -> dict[str, object]:
    """Decode a status from base64, as JSON."""
    done = run(["decode", "--json", *options], standard(status.SerializeToString()))
    assert done.err == ""
    return json.loads(done.out)


# Finding.


def test_the_corpus_has_forty_fragments() -> None:
    """The promise is about 40 fragments at least."""
    assert len(corpus.ONE) + len(corpus.OTHERS) >= 40


@pytest.mark.parametrize("fragment", [pytest.param(text, id=name) for name, text in corpus.ONE.items()])
def test_an_error_is_found_in_a_fragment(run: Run, fragment: str | bytes) -> None:
    """Whatever stands around it and however it is encoded, the one error is found, whole."""
    done = run("decode --json", fragment)
    told = [json.loads(line) for line in done.out.splitlines()]
    assert [(one["code"], one["message"], one["reason"]) for one in told] == [
        ("NOT_FOUND", corpus.LOST.message, "BOOK_NOT_FOUND")
    ], done.err
    assert done.code == 0
    assert "anomalies" not in told[0]


@pytest.mark.parametrize("name", corpus.OTHERS)
def test_all_errors_of_a_text_are_found(run: Run, name: str) -> None:
    """Several errors come in order, each once; also those without details or with odd codes."""
    text, codes = corpus.OTHERS[name]
    done = run("decode --json", text)
    assert [json.loads(line)["number"] for line in done.out.splitlines()] == codes


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in corpus.RUBBISH.items()])
def test_rubbish_gets_a_sentence(run: Run, text: str | bytes) -> None:
    """Where there is no error, the exit code is 2 and one line says so."""
    done = run("decode", text)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("faultwire: no gRPC error in these ")
    assert done.err.count("\n") == 1


def test_arguments_are_a_text(run: Run) -> None:
    """A value, or a log line that the shell has split, may be given as arguments."""
    assert run(["decode", corpus.B]).out.startswith("NOT_FOUND No book has")
    assert run(["decode", *f"ERROR {corpus.KEY}: {corpus.N}".split()]).out.startswith("NOT_FOUND No book has")


def test_too_much_text_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text beyond the limit gets a sentence, and is not searched."""
    monkeypatch.setattr("grpc_faultwire.cli.decode.MAX_TEXT", 1 << 20)
    done = run("decode", b"x" * ((1 << 20) + 1))
    assert (done.code, done.err) == (
        2,
        "faultwire: this is more than 1 MiB of text: cut out the part around the error\n",
    )


pieces = st.one_of(
    st.text(max_size=40),
    st.sampled_from([corpus.KEY, "grpc-status: ", "grpc-message: ", '"', "'", "b'", "\\", "\\x", "%", "=", "\n", ":"]),
    st.sampled_from(list(map(str, corpus.ONE.values()))),
    st.sampled_from([corpus.N, corpus.HEX, corpus.REPR]).flatmap(
        lambda value: st.integers(0, len(value)).map(lambda end: value[:end])
    ),
    st.binary(max_size=40).map(standard),
    st.binary(max_size=40).map(repr),
)


@given(
    st.one_of(
        st.binary(max_size=300), st.lists(pieces, max_size=8).map(lambda some: "".join(some).encode("utf-8", "replace"))
    )
)
@example(b"grpc-status: 99")
@example(b'"\\u' + b"d800" * 3 + b'"')
@example(b"grpc-status-details-bin: \xff\xfe%zz%")
@settings(max_examples=150, deadline=None)
def test_no_text_breaks_it(text: bytes) -> None:
    """Any text gives facts that can be printed and written as JSON, or nothing."""
    for found in find_in_bytes(text):
        told = Report(Lookup()).facts(found)
        json.dumps(told)
        assert all(line.isprintable() for line in tree(told, Painter("never")))


details = st.builds(
    any_pb2.Any,
    type_url=st.one_of(
        st.sampled_from(
            [
                f"type.googleapis.com/{name}"
                for name in (
                    "google.rpc.ErrorInfo",
                    "google.rpc.RetryInfo",
                    "faultwire.v1.ErrorReport",
                    "google.rpc.Help",
                )
            ]
        ),
        st.text(max_size=20),
    ),
    value=st.one_of(
        st.binary(max_size=60),
        st.builds(
            lambda seconds, nanos: error_details_pb2.RetryInfo(
                retry_delay=Duration(seconds=seconds, nanos=nanos)
            ).SerializeToString(),
            st.integers(-(2**63), 2**63 - 1),
            st.integers(-(2**31), 2**31 - 1),
        ),
        st.builds(
            lambda at, parents: errors_pb2.ErrorReport(
                occurred_at=Timestamp(seconds=at), causes=[errors_pb2.Cause(parent=one, code=one) for one in parents]
            ).SerializeToString(),
            st.integers(-(2**63), 2**63 - 1),
            st.lists(st.integers(-(2**31), 2**31 - 1) | st.integers(-1, 5), max_size=6),
        ),
    ),
)


@given(
    st.builds(
        status_pb2.Status,
        code=st.integers(-(2**31), 2**31 - 1),
        message=st.text(max_size=80),
        details=st.lists(details, max_size=5),
    )
)
@settings(max_examples=100, deadline=None)
def test_no_status_breaks_it(status: status_pb2.Status) -> None:
    """Any google.rpc.Status, however odd its details, can be told of, redacted or not."""
    for reveal in (False, True):
        told = Report(Lookup(), reveal=reveal).facts(Found(status, status.SerializeToString()))
        json.dumps(told)
        assert all(line.isprintable() for line in tree(told, Painter("never")))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('"\\' * 200_000, id="escaped-quotes"),
        pytest.param("'" * 300_000, id="quotes"),
        pytest.param("b'" + "a" * 300_000, id="open-literal"),
        pytest.param("00" * 200_000, id="hex"),
        pytest.param("A" * 300_001, id="base64"),
        pytest.param("%41" * 100_000, id="percent"),
        pytest.param(f"{corpus.KEY} " * 12_000, id="keys"),
        pytest.param("grpc-status: 5 AAAA " * 12_000, id="codes"),
        pytest.param("= " * 200_000, id="short-words"),
    ],
)
@pytest.mark.timeout(20)
def test_much_mischief_takes_no_time(text: str) -> None:
    """Texts made to be slow are searched in linear time."""
    find_in_bytes(text.encode())


# Telling.


def test_standard_details_and_ours_are_shown(run: Run) -> None:
    """The tree has the error's facts, each detail under its name, and what follows from the size."""
    error = bookshop_faultwire.OrderQuotaExceeded(limit=3, customer="eve")
    reply = encode(error, service="bookshop.v1.Bookshop", method="PlaceOrder", redactor=Redactor(), now=0.0)
    done = run("decode --plain", standard(dict(reply.trailers)[DETAILS_KEY]))
    lines = done.out.splitlines()
    assert lines[0] == "RESOURCE_EXHAUSTED A customer may place 3 orders a minute."
    for line in (
        "  category: QUOTA",
        "  retry: REQUEST, after 30 s",
        f"  error_id: {error.error_id}",
        "      retry_delay: 30s",
    ):
        assert line in lines
    for detail in ("ErrorInfo", "RetryInfo", "RequestInfo"):
        assert f"    google.rpc.{detail}" in lines
    assert "    faultwire.v1.ErrorReport" in lines


def test_causes_are_a_tree(run: Run) -> None:
    """A flat list of causes is shown as the tree that it is."""
    report = errors_pb2.ErrorReport(
        causes=[
            errors_pb2.Cause(parent=-1, code=14, message="first"),
            errors_pb2.Cause(parent=0, code=4, message="deeper", reason="SLOW", domain="d"),
            errors_pb2.Cause(parent=-1, code=13, message="second"),
        ]
    )
    told = facts(run, status_pb2.Status(code=13, message="x", details=[packed(report)]))
    assert told["causes"] == [
        {"error": "UNAVAILABLE: first", "causes": [{"error": "DEADLINE_EXCEEDED: deeper [d/SLOW]"}]},
        {"error": "INTERNAL: second"},
    ]


def test_a_long_chain_of_causes_is_bounded(run: Run) -> None:
    """Causes are nested to a bound, and what is deeper still is shown beside."""
    chain = errors_pb2.ErrorReport(
        causes=[errors_pb2.Cause(parent=one - 1, code=13, message=str(one)) for one in range(60)]
    )
    told = facts(run, status_pb2.Status(code=13, message="m", details=[packed(chain)]))["causes"]
    depth, node = 0, told[0]
    while "causes" in node:
        depth, node = depth + 1, node["causes"][0]
    assert depth == 16 - 1
    assert json.dumps(told).count('"error"') == 60


def test_unknown_types_are_named_with_their_sizes(run: Run) -> None:
    """A detail of a type that nobody has is named, with its bytes only if asked for."""
    status = status_pb2.Status(code=3, details=[any_pb2.Any(type_url="type.example.com/acme.Secret", value=b"12345")])
    assert facts(run, status)["details"] == [{"@type": "acme.Secret", "bytes": 5}]
    assert facts(run, status, "--reveal")["details"] == [{"@type": "acme.Secret", "bytes": 5, "value": "MTIzNDU="}]


def test_a_detail_that_cannot_be_decoded_is_odd(run: Run) -> None:
    """A known type with garbage in it is an anomaly, and the exit code says so."""
    bad = any_pb2.Any(type_url="type.googleapis.com/google.rpc.RetryInfo", value=b"\xff")
    done = run("decode --plain", standard(status_pb2.Status(code=3, message="m", details=[bad]).SerializeToString()))
    assert done.code == 1
    assert "    the google.rpc.RetryInfo detail of 1 bytes cannot be decoded" in done.out.splitlines()


def test_secrets_are_redacted_unless_revealed(run: Run) -> None:
    """Messages, metadata and details pass the same door as on a server."""
    info = error_details_pb2.ErrorInfo(
        reason="R_R", domain="d", metadata={"api_token": "t0p", "mail": "eve@example.com"}
    )
    note = error_details_pb2.LocalizedMessage(locale="en", message="password=hunter2")
    status = status_pb2.Status(code=3, message="key AKIAIOSFODNN7EXAMPLE", details=[packed(info), packed(note)])
    secrets = ("AKIA", "t0p", "eve@", "hunter2")
    hidden, shown = (json.dumps(facts(run, status, *options)) for options in ((), ("--reveal",)))
    assert [secret for secret in secrets if secret in hidden] == []
    assert [secret for secret in secrets if secret in shown] == list(secrets)


def test_what_a_catalogue_calls_private_is_redacted(run: Run, folder: Path) -> None:
    """A key that the catalogue declares personal is not shown, whatever its value looks like."""
    info = error_details_pb2.ErrorInfo(
        reason="ORDER_QUOTA_EXCEEDED", domain="bookshop.example.com", metadata={"limit": "3", "customer": "Eve"}
    )
    status = status_pb2.Status(code=8, message="m", details=[packed(info)])
    assert "Eve" in json.dumps(facts(run, status))
    assert "Eve" not in json.dumps(facts(run, status, "--descriptors", str(folder / "bookshop.binpb")))
    assert "Eve" not in json.dumps(facts(run, status, "--module", "bookshop.v1.bookshop_pb2"))


def test_a_catalogue_tells_what_is_missing_and_what_is_odd(run: Run, folder: Path) -> None:
    """The code, the keys that are missing and those that nobody declared are compared with the catalogue."""
    info = error_details_pb2.ErrorInfo(reason="BOOK_NOT_FOUND", domain="bookshop.example.com", metadata={"shelf": "3"})
    told = facts(run, status_pb2.Status(code=3, message="m", details=[packed(info)]), "--descriptors", "bookshop.binpb")
    assert told["anomalies"] == [
        "BOOK_NOT_FOUND is declared with NOT_FOUND",
        "metadata shelf is not declared",
        "metadata isbn is declared, and missing",
    ]
    assert told["declared"] == {"description": "", "docs": "https://bookshop.example.com/errors#BOOK_NOT_FOUND"}


def test_types_come_from_descriptors(run: Run, folder: Path) -> None:
    """A detail of a type that only a descriptor set has is decoded with it."""
    file = descriptor_pb2.FileDescriptorProto(name="acme.proto", package="acme", syntax="proto3")
    message = file.message_type.add(name="Shelf")
    message.field.add(name="row", number=1, type=9, label=1)
    (folder / "acme.binpb").write_bytes(descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString())
    status = status_pb2.Status(code=3, message="m", details=[any_pb2.Any(type_url="x/acme.Shelf", value=b"\x0a\x01A")])
    assert facts(run, status, "--descriptors", "acme.binpb")["details"] == [{"@type": "acme.Shelf", "row": "A"}]


def test_messages_in_messages_are_shown_to_a_bound(run: Run) -> None:
    """An Any inside a detail is unpacked if its type is known, long lists are cut, and what is too deep is counted."""
    inner = status_pb2.Status(code=5, message="inner", details=[packed(error_details_pb2.RetryInfo())])
    unknown = any_pb2.Any(type_url="x/acme.Gone", value=b"123")
    report = errors_pb2.BatchReport(failures=[errors_pb2.ItemFailure(index=1, status=inner)])
    report.failures[0].status.details.append(unknown)
    report.groups.add(indexes=range(300))
    told = facts(run, status_pb2.Status(code=10, message="m", details=[packed(report)]), "--reveal")
    (detail,) = told["details"]
    assert detail["failures"][0]["status"]["details"] == [
        {"@type": "google.rpc.RetryInfo"},
        {"@type": "acme.Gone", "bytes": 3, "value": "MTIz"},
    ]
    assert (len(detail["groups"][0]["indexes"]), detail["groups"][0]["indexes"][-1]) == (257, "… 44 more")
    deep = status_pb2.Status(code=5, message="m")
    for _ in range(40):
        deep = status_pb2.Status(code=5, message="m", details=[packed(deep)])
    assert " bytes)" in json.dumps(facts(run, deep))


@pytest.mark.parametrize("option", ["--descriptors nowhere.binpb", "--descriptors app.log", "--module nowhere"])
def test_a_lookup_that_is_not_there_gets_a_sentence(run: Run, folder: Path, option: str) -> None:
    """Descriptor sets and modules that cannot be read are told of before any error is."""
    done = run(f"decode {option}", corpus.B)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)


def test_descriptors_without_their_imports_get_a_sentence(run: Run, folder: Path) -> None:
    """A descriptor set that was made without --include_imports is refused, and says how to make one."""
    file = descriptor_pb2.FileDescriptorProto(name="b.proto", dependency=["a.proto"])
    (folder / "torn.binpb").write_bytes(descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString())
    for line in ("decode --descriptors torn.binpb", "call --plaintext --descriptors torn.binpb localhost:1 a.B/C"):
        done = run(line, corpus.B)
        assert done.code == 2
        assert "a.proto is imported and not there: make the descriptor set with protoc --include_imports" in done.err


def test_contradictions_are_shown(run: Run) -> None:
    """grpc-status and grpc-message beside the trailer are compared with it."""
    done = run("decode --json", f"grpc-status: 13\ngrpc-message: else\n{corpus.KEY}: {corpus.N}\n")
    assert json.loads(done.out)["anomalies"] == [
        "the details say code 5, grpc-status says 13",
        "the details have another message than grpc-message",
    ]
    assert done.code == 1


def test_control_characters_are_escaped(run: Run) -> None:
    """What a server says cannot write over a terminal."""
    status = status_pb2.Status(code=3, message="\x1b[2J\u202e\nnext")
    done = run("decode", standard(status.SerializeToString()))
    assert done.out.splitlines()[0] == r"INVALID_ARGUMENT \x1b[2J\u202e\nnext"


def test_colours_are_for_terminals(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours come if asked for, and never on a pipe by themselves."""
    assert "\x1b[" not in run("decode", corpus.B).out
    assert "\x1b[1;31mNOT_FOUND\x1b[0m" in run("decode --color always", corpus.B).out
    assert "\x1b[" not in run("decode --color never", corpus.B).out


# The size.


@pytest.mark.parametrize(
    ("size", "sentence", "code"),
    [
        (4000, "every caller gets this", 0),
        (6500, "grpc-java clients would reject this, and C-core behind a proxy", 1),
        (
            11_400,
            "15.2 KiB of trailers: grpc-java and C-core clients would reject this (C-core at random, 43 of 100 times)",
            1,
        ),
        (17_000, "grpc-java and C-core clients would reject this, and hyper would disconnect", 1),
    ],
)
def test_the_size_is_judged(run: Run, size: int, sentence: str, code: int) -> None:
    """The sentence says who would not get an error of this size, and the exit code that somebody would not."""
    detail = any_pb2.Any(type_url="x/acme.Blob", value=b"x" * size)
    done = run(
        "decode --plain", standard(status_pb2.Status(code=13, message="m", details=[detail]).SerializeToString())
    )
    assert sentence in done.out.splitlines()[-1]
    assert done.code == code


def test_sizes_are_those_that_servers_keep_to() -> None:
    """The audit counts as the encoder does, which cannot be asked without importing more."""
    assert (audit.SOFT, audit.FIXED) == (truncation.TRANSPORT, truncation.FIXED)
    status = status_pb2.Status(code=13, message="100 % caf\xe9")
    judged = audit.audit(status, 1000)
    assert judged.encoded == truncation.FIXED + truncation.base64_size(1000) + truncation.message_size(status.message)

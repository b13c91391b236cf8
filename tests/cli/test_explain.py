"""faultwire explain: codes, categories and reasons, and what the policies really do."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2

from faultwire.v1 import options_pb2
from grpc_faultwire.category import Category
from grpc_faultwire.cli.explain import CATEGORIES

from .conftest import Run, descriptors

CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_every_code_is_explained(run: Run, code: grpc.StatusCode) -> None:
    """A code is found by name, in any case, and by number."""
    done = run(f"explain {code.name}")
    assert done.code == 0
    assert done.out.startswith(f"{code.name} (status code {code.value[0]})\n")
    assert run(f"explain {code.name.lower().replace('_', '-')}").out == done.out
    assert run(f"explain {code.value[0]}").out == done.out


@pytest.mark.parametrize("category", Category, ids=lambda category: category.name)
def test_every_category_is_explained(run: Run, category: Category) -> None:
    """A category is found by its name behind "category:"."""
    done = run(f"explain category:{category.name}")
    assert done.out.startswith(f"{category.name} (category {category.value})\n")
    assert CATEGORIES[category] in done.out


@pytest.mark.parametrize(
    ("name", "retry", "breaker"),
    [
        ("UNAVAILABLE", "sent again if the method is idempotent", "counts as a failure"),
        ("DEADLINE_EXCEEDED", "sent again if the method is idempotent and only the attempt ran out of time", "failure"),
        ("RESOURCE_EXHAUSTED", "sent again only if the server says when (RetryInfo)", "counts neither way"),
        ("ABORTED", "not sent again; the whole operation may be (retry_operation)", "counts as a success"),
        ("UNAUTHENTICATED", "not sent again; with a refresh hook, once more with new credentials", "success"),
        ("NOT_FOUND", "not sent again", "counts as a success: the server answered"),
    ],
)
def test_policies_are_asked(run: Run, name: str, retry: str, breaker: str) -> None:
    """What is said of retries and circuit breakers is what the classifier decides."""
    lines = run(f"explain {name}").out.splitlines()
    assert lines[-2].endswith(f"retry: {retry}")
    assert breaker in lines[-1]


def test_a_reason_is_explained_from_its_catalogue(run: Run, folder: Path) -> None:
    """A declared reason tells its message, its metadata and its own retry advice."""
    done = run("explain ORDER_QUOTA_EXCEEDED --descriptors bookshop.binpb")
    assert done.out.startswith("bookshop.example.com/ORDER_QUOTA_EXCEEDED\n")
    for fact in (
        "message: A customer may place {limit} orders a minute.",
        "may be tried again: Yes, the call, after 30 seconds at least.",
        "customer: (does not leave the server)",
        "retry: sent again",
    ):
        assert fact in done.out
    assert run("explain order-quota-exceeded --module bookshop.v1.bookshop_pb2").out == done.out


def test_a_reason_of_two_domains_is_explained_twice(run: Run, folder: Path) -> None:
    """Domains may share a reason: each is explained."""

    def move(file: descriptor_pb2.FileDescriptorProto) -> None:
        file.enum_type[0].options.Extensions[options_pb2.catalogue].domain = "other.example.com"
        file.name = "other.proto"
        file.package = "other"
        del file.service[:]

    Path("other.binpb").write_bytes(descriptors(move))
    done = run("explain OUT_OF_STOCK --module bookshop.v1.bookshop_pb2 --descriptors other.binpb")
    titles = [line for line in done.out.splitlines() if line.endswith("/OUT_OF_STOCK")]
    assert titles == ["bookshop.example.com/OUT_OF_STOCK", "other.example.com/OUT_OF_STOCK"]


def test_all_codes_are_listed(run: Run) -> None:
    """Without a name there is a table of codes, plain on a pipe and drawn in colour."""
    lines = run("explain").out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [code.name for code in CODES]
    pytest.importorskip("rich", reason="rich is an extra")
    drawn = run("explain --color always").out
    assert "\x1b[" in drawn
    assert all(code.name in drawn for code in CODES)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("UNAVAILABEL", "did you mean UNAVAILABLE?"),
        ("QQQ", "reasons need --descriptors or --module"),
        ("OK", "reasons need"),
    ],
)
def test_an_unknown_name_gets_a_hint(run: Run, name: str, hint: str) -> None:
    """A misspelt name gets the nearest one, and another the way to name reasons."""
    done = run(f"explain {name}")
    assert (done.code, done.out) == (2, "")
    assert f"faultwire: {name} is no status code, no category and no reason that is known here; {hint}" in done.err

"""What a page about errors says, whatever it is written in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from google.rpc import code_pb2

from grpc_faultwire.category import Category, RetryScope, Severity, meaning
from grpc_faultwire.codegen.contract import Contract, EnumCatalogue, resolve
from grpc_faultwire.declaration import Declaration, MetadataKey, class_name

_RETRY = {
    RetryScope.NEVER: "No: the same request fails the same way.",
    RetryScope.REQUEST: "Yes, the call.",
    RetryScope.OPERATION: "Not the call, but the whole operation that it is part of.",
    RetryScope.AFTER_REFRESH: "Yes, with fresh credentials.",
}


class Reason(NamedTuple):
    """One error.

    Attributes:
        reason: its name, and the heading.
        anchor: what links to it end in.
        description: the comment.
        facts: names and values.
        metadata: key, who sees it, description.
        methods: those that declare it.
        docs_url: a page about it; "": none.
    """

    reason: str
    anchor: str
    description: str
    facts: tuple[tuple[str, str], ...]
    metadata: tuple[tuple[str, str, str], ...]
    methods: tuple[str, ...]
    docs_url: str


class Section(NamedTuple):
    """One catalogue."""

    domain: str
    enum: str
    description: str
    reasons: tuple[Reason, ...]


class Page(NamedTuple):
    """All catalogues of a contract."""

    title: str
    sections: tuple[Section, ...]


def page(contract: Contract, title: str) -> Page:
    """Make the page for a contract."""
    methods = _methods(contract)
    anchors: set[str] = set()
    catalogues = [catalogue for file in contract.values() for catalogue in file.catalogues]
    return Page(title, tuple(_section(catalogue, methods, anchors) for catalogue in catalogues))


def meant(declaration: Declaration) -> tuple[Category, Severity, RetryScope]:
    """Return an error's category, severity and retry scope: as declared, else as its code means."""
    means = meaning(code_pb2.Code.Value(declaration.code))
    category = declaration.category or means.category
    return category, declaration.severity or category.severity, declaration.retry_scope or means.retry_scope


def retry_advice(declaration: Declaration) -> str:
    """Say whether to try again, and when."""
    advice = _RETRY[meant(declaration)[2]]
    if declaration.retry_delay is None:
        return advice
    return f"{advice[:-1]}, after {declaration.retry_delay:g} seconds at least."


def _methods(contract: Contract) -> dict[tuple[str, str], list[str]]:
    declared: dict[tuple[str, str], list[str]] = {}
    for file in contract.values():
        for method in file.methods:
            for _, one in resolve(method, contract).found:
                declared.setdefault((one.domain, one.reason), []).append(method.path.removeprefix("/"))
    return declared


def _section(catalogue: EnumCatalogue, methods: dict[tuple[str, str], list[str]], anchors: set[str]) -> Section:
    reasons = []
    for one in catalogue.declarations:
        # Domains may share a reason, and an anchor is there once: the first has it.
        anchor = one.reason if one.reason not in anchors else f"{one.domain}-{one.reason}"
        anchors.add(anchor)
        reasons.append(_reason(one, anchor, methods.get((one.domain, one.reason), [])))
    return Section(catalogue.domain, catalogue.place.name, catalogue.description, tuple(reasons))


def _reason(declaration: Declaration, anchor: str, methods: list[str]) -> Reason:
    return Reason(
        reason=declaration.reason,
        anchor=anchor,
        description=declaration.description,
        facts=tuple(_facts(declaration)),
        metadata=tuple((key.key, _audience(key), key.description) for key in declaration.metadata),
        methods=tuple(methods),
        docs_url=declaration.docs_url,
    )


def _facts(declaration: Declaration) -> Iterator[tuple[str, str]]:
    category, severity, _ = meant(declaration)
    yield "Status code", declaration.code
    yield "Category", f"{category.name} (fault: {category.fault.name})"
    yield "Severity", severity.name
    yield "Retry", retry_advice(declaration)
    if declaration.message:
        yield "Message", declaration.message
    yield "Python class", class_name(declaration.reason)


def _audience(key: MetadataKey) -> str:
    return "callers" if key.public else "the server's log only"

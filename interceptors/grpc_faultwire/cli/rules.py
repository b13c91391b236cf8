"""The rules that `faultwire lint` checks: AIP-193's on google.rpc.ErrorInfo, and what follows for callers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

from grpc_faultwire.category import RetryScope
from grpc_faultwire.codegen.contract import Contract, Entry, EnumCatalogue, Place, ProtoFile, resolve
from grpc_faultwire.codegen.module import clashes
from grpc_faultwire.declaration import Declaration, placeholders
from grpc_faultwire.redaction import speaks_of_secret

RULES = {
    "invalid-declaration": "A declaration has a valid reason, domain, status code, delay, message and metadata.",
    "duplicate-reason": "A reason is declared once in its domain (AIP-193).",
    "undeclared-value": "Every value of a catalogue declares an error, but for the one numbered 0.",
    "declared-zero": "The value numbered 0 declares none: it is what an unset field holds.",
    "unknown-reason": "A method names reasons of its own file's catalogues, or of a file that it imports.",
    "name-clash": "No two declarations of a file have one name in Python.",
    "no-message": "An error has a message.",
    "hidden-in-message": "A message uses no metadata that do not leave the server.",
    "unsaid-sensitivity": "A metadata key whose name speaks of a secret says how sensitive it is.",
    "relative-docs": "A docs URL is absolute (AIP-193).",
    "contradictory-retry": "What may never be tried again has no retry delay.",
    "reason-removed": "With --against: no reason vanishes from its domain.",
    "code-changed": "With --against: a reason keeps its status code.",
    "metadata-removed": "With --against: a reason keeps its metadata keys (AIP-193).",
    "metadata-hidden": "With --against: metadata that callers got still leave the server.",
    "method-widened": "With --against: a method that named its errors names no new ones.",
}
"""What each rule demands."""


class Finding(NamedTuple):
    """Something that breaks a rule.

    Attributes:
        rule: see `RULES`.
        place: where.
        sentence: what.
    """

    rule: str
    place: Place
    sentence: str


def check(contract: Contract) -> list[Finding]:
    """Return what is wrong with a contract as it is."""
    found = [finding for file in contract.values() for finding in _check_file(file, contract)]
    return [*found, *_duplicates(contract)]


def _check_file(file: ProtoFile, contract: Contract) -> Iterator[Finding]:
    for catalogue in file.catalogues:
        for entry in catalogue.entries:
            yield from _check_entry(entry)
    for method in file.methods:
        for problem in resolve(method, contract).problems:
            yield Finding("unknown-reason", method.place, problem)
    for clash in clashes(file):
        yield Finding("name-clash", Place(file=file.name, name=file.name), clash)


def _check_entry(entry: Entry) -> Iterator[Finding]:
    if entry.problem:
        yield Finding("invalid-declaration", entry.place, entry.problem)
    elif entry.declaration is None and entry.number:
        yield Finding("undeclared-value", entry.place, "it has no option (faultwire.v1.error)")
    elif entry.declaration is not None and not entry.number:
        yield Finding("declared-zero", entry.place, "give it another number")
    if entry.declaration is not None:
        for rule, judge in _JUDGES.items():
            yield from (Finding(rule, entry.place, sentence) for sentence in judge(entry.declaration))


def _no_message(declaration: Declaration) -> Iterator[str]:
    if not declaration.message:
        yield "its callers get an error without a message"


def _hidden_in_message(declaration: Declaration) -> Iterator[str]:
    used = placeholders(declaration.message)
    for key in declaration.metadata:
        if key.key in used and not key.public:
            yield f"the message uses {key.key}, which does not leave the server"


def _unsaid_sensitivity(declaration: Declaration) -> Iterator[str]:
    for key in declaration.metadata:
        if key.sensitivity is None and speaks_of_secret(key.key):
            yield f"{key.key} sounds like a secret and will be redacted: say its sensitivity"


def _relative_docs(declaration: Declaration) -> Iterator[str]:
    try:
        url = urlsplit(declaration.docs_url)
        absolute = bool(url.scheme and url.netloc)
    except ValueError:
        absolute = False
    if declaration.docs_url and not absolute:
        yield f"{declaration.docs_url} is no absolute URL"


def _contradictory_retry(declaration: Declaration) -> Iterator[str]:
    if declaration.retry_scope is RetryScope.NEVER and declaration.retry_delay is not None:
        yield f"retry_scope says never, retry_delay says after {declaration.retry_delay:g} s"


_JUDGES: dict[str, Callable[[Declaration], Iterator[str]]] = {
    "no-message": _no_message,
    "hidden-in-message": _hidden_in_message,
    "unsaid-sensitivity": _unsaid_sensitivity,
    "relative-docs": _relative_docs,
    "contradictory-retry": _contradictory_retry,
}


def _declared(contract: Contract) -> Iterator[tuple[EnumCatalogue, Entry, Declaration]]:
    for file in contract.values():
        for catalogue in file.catalogues:
            for entry in catalogue.entries:
                if entry.declaration is not None:
                    yield catalogue, entry, entry.declaration


def _duplicates(contract: Contract) -> Iterator[Finding]:
    counted = Counter((one.domain, one.reason) for _, _, one in _declared(contract))
    for _, entry, one in _declared(contract):
        if counted[one.domain, one.reason] > 1:
            times = counted[one.domain, one.reason]
            yield Finding("duplicate-reason", entry.place, f"{one.domain}/{one.reason} is declared {times} times")


def compare(old: Contract, new: Contract) -> list[Finding]:
    """Return what callers of the old contract would miss in the new one."""
    known = {(one.domain, one.reason): (entry, one) for _, entry, one in _declared(new)}
    findings: list[Finding] = []
    for _, was, before in _declared(old):
        if (before.domain, before.reason) not in known:
            findings.append(Finding("reason-removed", was.place, f"{before.domain}/{before.reason} is gone"))
        else:
            entry, after = known[before.domain, before.reason]
            findings += _changed(before, after, entry.place)
    return [*findings, *_widened(old, new)]


def _changed(before: Declaration, after: Declaration, place: Place) -> Iterator[Finding]:
    if before.code != after.code:
        yield Finding("code-changed", place, f"the code was {before.code}, and is {after.code}")
    keys = {key.key: key for key in after.metadata}
    for key in before.metadata:
        if key.key not in keys:
            yield Finding("metadata-removed", place, f"the metadata key {key.key} is gone")
        elif key.public and not keys[key.key].public:
            yield Finding("metadata-hidden", place, f"the metadata key {key.key} no longer leaves the server")


def _widened(old: Contract, new: Contract) -> Iterator[Finding]:
    before = {method.path: method for file in old.values() for method in file.methods}
    for file in new.values():
        for method in file.methods:
            known = before.get(method.path)
            for reason in method.reasons if known is not None else ():
                if known is not None and reason not in known.reasons:
                    yield Finding("method-widened", method.place, f"{reason} is new: callers may not expect it")

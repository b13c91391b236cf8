"""Pages in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator

from grpc_faultwire.cli.pages import Page, Reason, Section

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def write(page: Page) -> str:
    """Return the text of a page."""
    lines = [f"# {text(page.title)}", ""]
    for section in page.sections:
        lines += _section(section)
    return "\n".join(lines).rstrip("\n") + "\n"


def text(plain: str) -> str:
    """Return text of which Markdown makes nothing but text."""
    return _SPECIAL.sub(r"\\\1", plain)


def _section(section: Section) -> Iterator[str]:
    yield from (f"## {text(section.domain)}", "")
    yield from _paragraph(section.description)
    yield from ("| Reason | Status code | Retry |", "|---|---|---|")
    for reason in section.reasons:
        facts = dict(reason.facts)
        yield f"| [{text(reason.reason)}](#{reason.anchor}) | {facts['Status code']} | {_cell(facts['Retry'])} |"
    yield ""
    for reason in section.reasons:
        yield from _reason(reason)


def _reason(reason: Reason) -> Iterator[str]:
    yield from (f'<a id="{reason.anchor}"></a>', "", f"### {text(reason.reason)}", "")
    yield from _paragraph(reason.description)
    yield from (f"* **{name}:** {_cell(value)}" for name, value in reason.facts)
    if reason.methods:
        yield f"* **Methods:** {', '.join(f'`{method}`' for method in reason.methods)}"
    if reason.docs_url:
        yield f"* **More:** <{reason.docs_url.replace('>', '%3E').replace(' ', '%20')}>"
    yield ""
    if reason.metadata:
        yield from ("| Metadata | Who gets it | |", "|---|---|---|")
        yield from (f"| `{key}` | {audience} | {_cell(about)} |" for key, audience, about in reason.metadata)
        yield ""


def _paragraph(description: str) -> Iterator[str]:
    if description:
        yield from (text(description), "")


def _cell(value: str) -> str:
    return text(" ".join(value.split()))

"""Pages in HTML: one file, without scripts, to read or to put into a site."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from grpc_faultwire.cli.pages import Page, Reason, Section

_STYLE = """\
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem }
:root { color-scheme: light dark }
table { border-collapse: collapse } th, td { text-align: left; padding: .2rem 1rem .2rem 0; vertical-align: top }
dl { display: grid; grid-template-columns: max-content auto; gap: .2rem 1rem } dt { font-weight: 600 } dd { margin: 0 }
section section { border-top: 1px solid #8884; margin-top: 1.5rem }"""


def write(page: Page) -> str:
    """Return the text of a page."""
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{escape(page.title)}</title>",
        f"<style>\n{_STYLE}\n</style>",
        "</head>",
        "<body>",
        f"<h1>{escape(page.title)}</h1>",
    ]
    for section in page.sections:
        lines += _section(section)
    return "\n".join([*lines, "</body>", "</html>"]) + "\n"


def _section(section: Section) -> Iterator[str]:
    yield f"<section>\n<h2>{escape(section.domain)}</h2>"
    yield from _paragraph(section.description)
    rows = [
        (
            f'<a href="#{reason.anchor}">{escape(reason.reason)}</a>',
            _fact(reason, "Status code"),
            _fact(reason, "Retry"),
        )
        for reason in section.reasons
    ]
    yield from _table(("Reason", "Status code", "Retry"), rows)
    for reason in section.reasons:
        yield from _reason(reason)
    yield "</section>"


def _fact(reason: Reason, name: str) -> str:
    return escape(dict(reason.facts)[name])


def _reason(reason: Reason) -> Iterator[str]:
    yield f'<section id="{reason.anchor}">\n<h3>{escape(reason.reason)}</h3>'
    yield from _paragraph(reason.description)
    yield "<dl>"
    yield from (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in reason.facts)
    if reason.methods:
        methods = ", ".join(f"<code>{escape(method)}</code>" for method in reason.methods)
        yield f"<dt>Methods</dt><dd>{methods}</dd>"
    if reason.docs_url:
        yield f"<dt>More</dt><dd>{_link(reason.docs_url)}</dd>"
    yield "</dl>"
    if reason.metadata:
        rows = [(f"<code>{escape(key)}</code>", escape(who), escape(about)) for key, who, about in reason.metadata]
        yield from _table(("Metadata", "Who gets it", ""), rows)
    yield "</section>"


def _link(url: str) -> str:
    # Only what a browser opens as a page: a catalogue is no place for scripts.
    safe = url.startswith(("https://", "http://"))
    return f'<a href="{escape(url)}">{escape(url)}</a>' if safe else escape(url)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    yield f"<table>\n<tr>{''.join(f'<th>{name}</th>' for name in head)}</tr>"
    yield from (f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    yield "</table>"


def _paragraph(description: str) -> Iterator[str]:
    if description:
        yield f"<p>{escape(description)}</p>"

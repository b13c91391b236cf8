"""``faultwire lint``: catalogues against the rules, and against what was released."""

from __future__ import annotations

import argparse

from grpc_faultwire.cli.rules import RULES, Finding, check, compare
from grpc_faultwire.cli.sources import load
from grpc_faultwire.cli.terminal import FINE, FOUND, Painter, Problem, complain, say


def run(options: argparse.Namespace) -> int:
    """Check and print."""
    unknown = sorted(set(options.ignore) - set(RULES))
    if unknown:
        raise Problem(f"there is no rule {', '.join(unknown)}; there are {', '.join(RULES)}")
    contract = load(options.source, options.include)
    findings = check(contract)
    if options.against:
        findings += compare(load(options.against, options.include), contract)
    findings = [finding for finding in findings if finding.rule not in options.ignore]
    paint = Painter(options.color)
    for finding in findings:
        say(_json(finding) if options.json else f"{finding.place}: {paint(finding.rule, 'red')}: {finding.sentence}")
    if not options.json:
        reasons = sum(len(catalogue.declarations) for file in contract.values() for catalogue in file.catalogues)
        complain(f"{reasons} reasons in {len(contract)} files, {len(findings)} findings")
    return FOUND if findings else FINE


def _json(finding: Finding) -> str:
    import json  # noqa: PLC0415  # only this output needs it

    place = finding.place
    facts = {"rule": finding.rule, "file": place.file, "line": place.line, "name": place.name}
    return json.dumps(facts | {"sentence": finding.sentence})

"""``faultwire explain``: what a code, a category or a reason means, and what policies do about it."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable
from typing import Any

import grpc

from grpc_faultwire.category import Category, meaning
from grpc_faultwire.cli.pages import meant, retry_advice
from grpc_faultwire.cli.sources import declared, lookup
from grpc_faultwire.cli.tables import table
from grpc_faultwire.cli.terminal import FINE, Painter, Problem, say, tree
from grpc_faultwire.declaration import Declaration
from grpc_faultwire.errors import Origin, error_class
from grpc_faultwire.policies import Health
from grpc_faultwire.presets import Circumstances, classify

CATEGORIES = {
    Category.VALIDATION: "The request is wrong, and stays wrong.",
    Category.AUTHENTICATION: "Who calls is not known: no credentials, or expired ones.",
    Category.AUTHORIZATION: "Who calls is known, and may not do this.",
    Category.NOT_FOUND: "Something that was asked for does not exist.",
    Category.CONFLICT: "Others have changed, or hold, what this would change.",
    Category.PRECONDITION: "The system is not in the state that this needs.",
    Category.QUOTA: "The caller has used up what it may use.",
    Category.OVERLOAD: "The server has more to do than it can.",
    Category.DEPENDENCY: "Something that the server itself calls has failed.",
    Category.TIMEOUT: "It took longer than the time that was left.",
    Category.CANCELLED: "The caller did not want it any more.",
    Category.UNIMPLEMENTED: "The server does not have this method, or not yet.",
    Category.INTERNAL: "Something is wrong with the server: a bug.",
    Category.DATA_LOSS: "Data are lost or damaged for good.",
    Category.TRANSPORT: "The server was not reached, or the connection broke.",
}
"""What each category means."""

_CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
_PREFIX = "category:"
_BREAKER = {
    Health.SUCCESS: "counts as a success: the server answered",
    Health.FAILURE: "counts as a failure",
    Health.NEUTRAL: "counts neither way",
}


def run(options: argparse.Namespace) -> int:
    """Explain and print."""
    paint = Painter(options.color)
    if options.name is None:
        for line in table(("code", "number", "category", "fault", "may be tried again"), _all_codes(), paint):
            say(line)
        return FINE
    found = _find(options.name, declared(lookup(options.descriptors, options.module)))
    for number, (title, facts) in enumerate(found):
        if number:
            say("")
        say(paint(title, "bold"))
        for line in tree(facts, paint):
            say(line)
    return FINE


def _find(name: str, declarations: Iterable[Declaration]) -> list[tuple[str, dict[str, Any]]]:
    wanted = name.upper().replace("-", "_")
    codes = {code.name: code for code in _CODES} | {str(_number(code)): code for code in _CODES}
    reasons = [one for one in declarations if one.reason == wanted]
    category = wanted.removeprefix(_PREFIX.upper())
    if category in Category.__members__ and (
        wanted.startswith(_PREFIX.upper()) or (category not in codes and not reasons)
    ):
        return [_category(Category[category])]
    if wanted in codes and not reasons:
        return [_code(codes[wanted])]
    if reasons:
        return [_reason(one) for one in reasons]
    names = [*codes, *(f"{_PREFIX}{one}" for one in Category.__members__), *(one.reason for one in declarations)]
    close = difflib.get_close_matches(wanted, names, 1)
    hint = f"; did you mean {close[0]}?" if close else "; reasons need --descriptors or --module"
    raise Problem(f"{name} is no status code, no category and no reason that is known here{hint}")


def _number(code: grpc.StatusCode) -> int:
    number: int = code.value[0]
    return number


def _all_codes() -> list[list[str]]:
    rows = []
    for code in _CODES:
        category, scope = meaning(_number(code))
        rows.append([code.name, str(_number(code)), category.name, category.fault.name, scope.name])
    return rows


def _code(code: grpc.StatusCode) -> tuple[str, dict[str, Any]]:
    category, scope = meaning(_number(code))
    return f"{code.name} (status code {_number(code)})", {
        "means": _about(error_class(code)),
        "category": f"{category.name}: {CATEGORIES[category]}",
        "fault": category.fault.name,
        "severity": category.severity.name,
        "may be tried again": scope.name,
        "policies": _policies(code, {}),
    }


def _category(category: Category) -> tuple[str, dict[str, Any]]:
    codes = [code for code in _CODES if meaning(_number(code)).category is category]
    # A category without a code of its own qualifies another code; the breaker looks at the category.
    code = codes[0] if codes else grpc.StatusCode.UNAVAILABLE
    verdict = classify(_received(code, {"category": category}), Circumstances())
    return f"{category.name} (category {category.value})", {
        "means": CATEGORIES[category],
        "fault": category.fault.name,
        "severity": category.severity.name,
        "codes": ", ".join(code.name for code in codes) or "none by itself; errors and catalogues say it",
        "circuit breaker": _BREAKER[verdict.health],
    }


def _reason(one: Declaration) -> tuple[str, dict[str, Any]]:
    category, severity, _ = meant(one)
    known = {"category": one.category, "retry_scope": one.retry_scope, "retry_delay": one.retry_delay}
    facts: dict[str, Any] = {
        "means": one.description,
        "message": one.message,
        "code": one.code,
        "category": f"{category.name}: {CATEGORIES[category]}",
        "fault": category.fault.name,
        "severity": severity.name,
        "may be tried again": retry_advice(one),
        "metadata": {key.key: _about_key(key.description, public=key.public) for key in one.metadata},
        "raised by": list(one.raised_by),
        "docs": one.docs_url,
        "policies": _policies(grpc.StatusCode[one.code], known),
    }
    return f"{one.domain}/{one.reason}", {name: value for name, value in facts.items() if value}


def _about_key(description: str, *, public: bool) -> str:
    return description or "public" if public else f"{description} (does not leave the server)".strip()


def _policies(code: grpc.StatusCode, known: dict[str, Any]) -> dict[str, str]:
    """Say what the policies do with such an error: they are asked."""
    error = _received(code, known)
    plain = classify(error, Circumstances())
    idempotent = classify(error, Circumstances(idempotent=True, cut_short=True))
    if plain.allowed_by(None):
        retry = "sent again"
    elif idempotent.allowed_by(None):
        cut = code is grpc.StatusCode.DEADLINE_EXCEEDED
        retry = f"sent again if the method is idempotent{' and only the attempt ran out of time' if cut else ''}"
    elif classify(_received(code, {**known, "retry_delay": 1.0}), Circumstances(idempotent=True)).allowed_by(None):
        retry = "sent again only if the server says when (RetryInfo)"
    else:
        retry = "not sent again"
    if code is grpc.StatusCode.UNAUTHENTICATED and known.get("retry_scope") is None:
        retry += "; with a refresh hook, once more with new credentials"
    if error.retry_scope.name == "OPERATION":
        retry += "; the whole operation may be (retry_operation)"
    return {"retry": retry, "circuit breaker": _BREAKER[plain.health]}


def _received(code: grpc.StatusCode, known: dict[str, Any]) -> Any:
    error = error_class(code)(**known)
    error.origin = Origin.REMOTE
    return error


def _about(cls: type) -> str:
    return " ".join((cls.__doc__ or "").split())

"""What may be said of where an exception came from: file, line and function, never locals, arguments or source."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import grpc

MAX_FRAMES = 50
"""How many frames of one exception are named: the innermost ones."""
MAX_CHAIN = 8
"""How many exceptions of a chain are looked at."""

MAX_GROUP = 8
"""How many exceptions of a group are described."""
MAX_DESCRIBED = 64
"""How many exceptions are described in all: groups may share their members, and would be told again and again."""

_OWN = os.path.dirname(__file__) + os.sep


def frames(exception: BaseException) -> list[str]:
    """Return "file:line function" for each frame, the innermost first; files are relative to where they import from.

    Faultwire's own frames are left out.
    """
    found = [
        f"{_relative(frame.f_code.co_filename)}:{line} {frame.f_code.co_qualname}"
        for frame, line in traceback.walk_tb(exception.__traceback__)
        if not frame.f_code.co_filename.startswith(_OWN)
    ]
    return found[: -MAX_FRAMES - 1 : -1]


def chain(exception: BaseException) -> list[BaseException]:
    """Return an exception and what it came from, as Python would print them; cycles end it."""
    found = [exception]
    while len(found) < MAX_CHAIN:
        last = found[-1]
        if isinstance(last, grpc.RpcError) and isinstance(last.__cause__, grpc.RpcError):
            break  # grpc's own error of the same failure, in more words
        following = last.__cause__
        if following is None and not last.__suppress_context__:
            following = last.__context__
        if following is None or any(following is one for one in found):
            break
        found.append(following)
    return found


def describe(exception: BaseException) -> str:
    """Return "Type: text" for an exception whose text may itself raise; of a group, its members too."""
    return _describe(exception, 0, iter(range(1, MAX_DESCRIBED)))


def _describe(exception: BaseException, depth: int, left: Iterator[int]) -> str:
    name = type(exception).__qualname__
    try:
        text = _status(exception) if isinstance(exception, grpc.RpcError) else str(exception)
    except Exception:  # noqa: BLE001  # whatever a __str__ raises
        text = "(its text cannot be made)"
    if isinstance(exception, BaseExceptionGroup) and depth < MAX_CHAIN:
        members = zip(exception.exceptions[:MAX_GROUP], left, strict=False)
        text += " [" + "; ".join(_describe(one, depth + 1, left) for one, _ in members) + "]"
    return f"{name}: {text}" if text else name


def _status(error: Any) -> str:
    """Return a status in one line, which the texts of grpc's own errors are not."""
    code = getattr(error, "code", None)
    return str(error) if code is None or "\n" not in str(error) else f"{code().name}: {error.details()}"


def _relative(path: str) -> str:
    roots = sorted((root for root in sys.path if root and path.startswith(root + os.sep)), key=len)
    return path[len(roots[-1]) + 1 :] if roots else os.path.basename(path)

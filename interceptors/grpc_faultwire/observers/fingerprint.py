"""Fingerprints of errors: the same for errors that come from the same place in the same way, and cheap to make.

Of an exception and of those it came from, the type and the frames count: module, function, and the line within the
function, so that an edit elsewhere in a file changes nothing. Texts do not count: they hold ids and values. Frames of
the standard library and of installed packages are left out, unless there are no others.
"""

from __future__ import annotations

import functools
import os
import threading
import traceback
from collections import OrderedDict

from grpc_faultwire import stack
from grpc_faultwire.errors import StatusError

VERSION = "1"
"""Part of every fingerprint; it changes when the way of making them does."""
MAX_KNOWN = 2048
"""How many fingerprints are remembered by the code objects they were made of."""

_OWN = os.path.dirname(os.path.dirname(__file__)) + os.sep

_known: OrderedDict[tuple[object, ...], str] = OrderedDict()
_lock = threading.Lock()


def fingerprint(error: StatusError, exception: BaseException | None = None) -> str:
    """Return 16 hexadecimal digits.

    Args:
        error: what the call ended with.
        exception: what is behind it. None: the error itself.
    """
    chained = stack.chain(exception or error)
    # Enums go by their names: hashing them, and asking for `name`, are calls of Python functions.
    parts: list[object] = [type(error), error.code()._name_, error.reason, error.category._name_]
    for one in chained:
        parts.append(type(one))
        trace, frames = one.__traceback__, 0
        while trace is not None and frames < stack.MAX_FRAMES:
            parts.append(trace.tb_frame.f_code)
            parts.append(trace.tb_lasti)
            trace, frames = trace.tb_next, frames + 1
    key = tuple(parts)
    found = _known.get(key)
    if found is None:
        found = _made(error, chained)
        with _lock:
            _known[key] = found
            if len(_known) > MAX_KNOWN:
                _known.popitem(last=False)
    return found


def _made(error: StatusError, chained: list[BaseException]) -> str:
    parts = [VERSION, error.code().name, error.reason, error.category.name]
    for one in chained:
        parts.append(f"{type(one).__module__}.{type(one).__qualname__}")
        parts.extend(_places(one))
    import hashlib  # noqa: PLC0415  # it loads OpenSSL, and only errors that are new come here

    return hashlib.blake2b("\n".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _places(exception: BaseException) -> list[str]:
    found: list[tuple[bool, str]] = []
    for frame, line in traceback.walk_tb(exception.__traceback__):
        code = frame.f_code
        if not code.co_filename.startswith(_OWN):
            place = f"{frame.f_globals.get('__name__', '')}:{code.co_qualname}+{line - code.co_firstlineno}"
            found.append((not code.co_filename.startswith(_foreign()), place))
    ours = [place for in_app, place in found if in_app]
    return ours or [place for _, place in found]


@functools.cache
def _foreign() -> tuple[str, ...]:
    """Return where the standard library and installed packages are."""
    import sysconfig  # noqa: PLC0415  # as in _made()

    found = map(sysconfig.get_path, ("stdlib", "purelib", "platlib"))
    return tuple({os.path.join(path, "") for path in found if path})

"""Fingerprints: alike for the same failure at the same place, different otherwise, whatever the texts say."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from grpc_faultwire import Internal, NotFound
from grpc_faultwire.observers import fingerprint as module
from grpc_faultwire.observers.fingerprint import fingerprint


def caught(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except BaseException as exception:
        return exception
    raise AssertionError


def here() -> None:
    raise KeyError("1")


def there() -> None:
    raise KeyError("1")


def wrapped() -> None:
    try:
        here()
    except KeyError as error:
        raise ValueError("2") from error


def with_text(text: str) -> Callable[[], object]:
    def raising() -> None:
        raise KeyError(text)

    return raising


def test_texts_do_not_count() -> None:
    """Two ids in the same message are one failure."""
    assert fingerprint(Internal("a"), caught(with_text("1"))) == fingerprint(Internal("b"), caught(with_text("2")))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param((Internal(), here), (Internal(), there), id="place"),
        pytest.param((Internal(), here), (Internal(), wrapped), id="what it came from"),
        pytest.param((Internal(), here), (NotFound(), here), id="code"),
        pytest.param((NotFound(reason="ONE_THING"), here), (NotFound(reason="ANOTHER"), here), id="reason"),
        pytest.param((Internal(), here), (Internal(), lambda: 1 / 0), id="type"),
    ],
)
def test_failures_that_differ(
    one: tuple[Internal, Callable[[], object]], other: tuple[Internal, Callable[[], object]]
) -> None:
    """Place, chain, code, reason and type each make another failure."""
    assert fingerprint(one[0], caught(one[1])) != fingerprint(other[0], caught(other[1]))


def test_lines_count_from_their_function() -> None:
    """An edit above a function changes nothing: the line within it is what counts."""
    source = "def f():\n    raise KeyError('x')\n"
    found = set()
    for gap in ("", "\n\n\n"):
        scope: dict[str, Callable[[], object]] = {}
        exec(compile(gap + source, "/app/shop.py", "exec"), scope)
        found.add(fingerprint(Internal(), caught(scope["f"])))
    assert len(found) == 1


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more fingerprints are remembered than the limit says."""
    monkeypatch.setattr(module, "MAX_KNOWN", 10)
    module._known.clear()
    for number in range(50):
        fingerprint(NotFound(reason=f"REASON_{number}"))
    assert len(module._known) == 10


def test_error_without_traceback() -> None:
    """An error that was never raised has a fingerprint all the same: 16 hexadecimal digits."""
    assert len(fingerprint(NotFound("x"))) == 16
    int(fingerprint(NotFound("x")), 16)

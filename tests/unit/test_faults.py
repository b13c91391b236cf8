"""Faults of users' functions are logged once for each."""

from __future__ import annotations

import gc
import logging
import weakref
from typing import Any

import pytest

from grpc_faultwire.faults import warn_once

LOGGER = logging.getLogger("grpc_faultwire.test")


class Hook:
    """Not hashable, and its repr shows what it should not."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True

    def __repr__(self) -> str:
        return "token=hunter2"

    def method(self) -> None:
        """A hook too: one object with every look."""


@pytest.mark.parametrize("look", [lambda hook: hook, lambda hook: hook.method], ids=["an object", "a method"])
def test_each_function_is_logged_once(look: Any, caplog: pytest.LogCaptureFixture) -> None:
    """By identity; its name is told, and what it holds is not."""
    hooks = Hook(), Hook()
    for _ in range(3):
        for hook in hooks:
            warn_once(LOGGER, look(hook), ValueError("no"), "It failed")
    assert [record.getMessage() for record in caplog.records] == [
        "It failed; further faults of Hook are not logged"
    ] * 2


def test_what_cannot_be_remembered_is_logged_each_time(caplog: pytest.LogCaptureFixture) -> None:
    """Rather than kept alive."""
    for _ in range(2):
        warn_once(LOGGER, 5, ValueError("no"), "It failed")
    assert len(caplog.records) == 2


def test_none_is_kept_alive(caplog: pytest.LogCaptureFixture) -> None:
    """A new one at the same address is logged again."""
    hook = Hook()
    reference = weakref.ref(hook)
    warn_once(LOGGER, hook, ValueError("no"), "It failed")
    del hook
    caplog.clear()
    gc.collect()
    assert reference() is None

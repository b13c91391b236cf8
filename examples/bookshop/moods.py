"""The shop's switch: well, flaky (it turns a fifth of all calls away) or down (it turns all away). It counts both."""

from __future__ import annotations

import collections
import json
import random
import threading
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import grpc

WELL, FLAKY, DOWN = "well", "flaky", "down"
TURNED_AWAY = {WELL: 0.0, FLAKY: 0.2, DOWN: 1.0}
"""The share of calls that find the shop unavailable."""
LUCK = 11
"""The seed of every caller's luck, so that all of them have the same."""


class Moods(grpc.ServerInterceptor):
    """Stands before all else on a server, as a failing proxy would; made for methods with one request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._mood = WELL
        self._luck = collections.defaultdict(lambda: random.Random(LUCK))
        self._attempts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)

    def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Any], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        caller = dict(handler_call_details.invocation_metadata).get("user-agent", "").partition(" ")[0]
        return continuation(handler_call_details) if self._serves(caller) else UNAVAILABLE

    def _serves(self, caller: str) -> bool:
        with self._lock:
            served = self._luck[caller].random() >= TURNED_AWAY[self._mood]
            self._attempts[caller]["attempts"] += 1
            self._attempts[caller]["served"] += served
            return served

    def obey(self, lines: Iterable[str]) -> None:
        """Take a mood from each line (an empty one changes nothing), and answer with what each caller sent so far."""
        for line in lines:
            with self._lock:
                self._mood = line.strip() or self._mood
                print(json.dumps(self._attempts), flush=True)


def turn_away(_request: Any, context: grpc.ServicerContext) -> NoReturn:
    context.abort(grpc.StatusCode.UNAVAILABLE, "The shop is shut.")


UNAVAILABLE = grpc.unary_unary_rpc_method_handler(turn_away)

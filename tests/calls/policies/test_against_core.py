"""The same service config, given to gRPC's core and to us, against the same server: where both agree, and where not.

Core is the oracle for gRFC A6. Each place where we differ on purpose is a named row of `DIFFERENCES`.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from policy_lab import READ, READS, WRITE, WRITES, Act, Flaky, Seen, fail, ok

from grpc_faultwire.policies import Throttle
from grpc_faultwire.service_config import from_service_config
from grpc_faultwire.sync import wrap_channel
from grpc_faultwire.testing import serve

PATHS = {"unary": READ, "response stream": READS, "request stream": WRITES}


class Plain(Flaky):
    """A server that leaves statuses and pushback as they are, as one without our interceptor does."""

    def _status(self, act: Act, context: Any) -> None:
        if act.retry_info is None:
            super()._status(act, context)
            return
        status = status_pb2.Status(code=grpc.StatusCode[act.code].value[0], message=act.message)
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=to_duration(act.retry_info)))
        context.abort_with_status(rpc_status.to_status(status))


def quickest(call: Callable[[], Came], fits: Callable[[Came], bool], times: int = 10) -> Came:
    """Call until it comes in time: the machine may be busy, and an attempt takes time itself; of ten, one tells."""
    for _ in range(times):
        came = call()
        if fits(came):
            break
    return came


def to_duration(seconds: float) -> duration_pb2.Duration:
    """Make a protobuf duration."""
    return duration_pb2.Duration(nanos=round(seconds * 1e9))


def config(
    attempts: int = 4,
    initial: str = "0.02s",
    maximum: str = "0.08s",
    *,
    multiplier: float = 2,
    codes: tuple[str, ...] = ("UNAVAILABLE",),
    throttling: dict[str, Any] | None = None,
) -> str:
    """Return a service config for all methods."""
    retry = {
        "maxAttempts": attempts,
        "initialBackoff": initial,
        "maxBackoff": maximum,
        "backoffMultiplier": multiplier,
        "retryableStatusCodes": list(codes),
    }
    whole: dict[str, Any] = {"methodConfig": [{"name": [{}], "retryPolicy": retry}]}
    if throttling is not None:
        whole["retryThrottling"] = throttling
    return json.dumps(whole)


@dataclass
class Came:
    """What a call came to."""

    code: str
    message: str
    messages: list[bytes]
    seen: list[Seen]
    seconds: float

    @property
    def attempts(self) -> int:
        """How many the server saw."""
        return len(self.seen)

    @property
    def gaps(self) -> list[float]:
        """Seconds between one attempt and the next."""
        return [later.at - earlier.at for earlier, later in zip(self.seen, self.seen[1:], strict=False)]


class Side:
    """Core with a service config, or us with what `from_service_config` makes of it."""

    def __init__(self, name: str, server: Plain, address: str, service_config: str) -> None:
        self.server = server
        if name == "core":
            self.channel = grpc.insecure_channel(address, [("grpc.service_config", service_config)])
        else:
            self.channel = wrap_channel(grpc.insecure_channel(address), from_service_config(service_config))

    def call(self, *acts: Act, shape: str = "unary", path: str = "", timeout: float = 5, size: int = 0) -> Came:
        """Call, and wait for the end."""
        key = self.server.plan(acts)
        options: dict[str, Any] = {"metadata": (("key", key),), "timeout": timeout}
        path = path or PATHS[shape]
        messages: list[bytes] = []
        began, code, message = time.monotonic(), "OK", ""
        try:
            if shape == "unary":
                messages.append(self.channel.unary_unary(path)(b"x" * size, **options))
            elif shape == "response stream":
                messages.extend(self.channel.unary_stream(path)(b"", **options))
            else:
                messages.append(self.channel.stream_unary(path)(iter([b"1", b"2", b"3"]), **options))
        except grpc.RpcError as error:
            code, message = error.code().name, error.details() or ""
        return Came(code, message, messages, self.server.seen(key), time.monotonic() - began)


@pytest.fixture
def sides() -> Iterator[Callable[[str], tuple[Side, Side]]]:
    """Return a function that makes core and us of a service config.

    Each test has a server of its own: core keeps the tokens of an address for the whole process.
    """
    server = Plain()
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(serve([server]))

        def make(service_config: str) -> tuple[Side, Side]:
            both = tuple(Side(name, server, running.address, service_config) for name in ("core", "ours"))
            for side in both:
                stack.callback(side.channel.close)
            return both  # type: ignore[return-value]  # there are two names

        yield make


# Where both agree.

UNAVAILABLE = fail()
AGREEMENTS: dict[str, tuple[tuple[Act, ...], dict[str, Any], tuple[str, int]]] = {
    "one failure": ((UNAVAILABLE, ok()), {}, ("OK", 2)),
    "two failures": ((UNAVAILABLE, UNAVAILABLE, ok()), {}, ("OK", 3)),
    "failures without end": ((UNAVAILABLE,), {}, ("UNAVAILABLE", 4)),
    "another code": ((fail("NOT_FOUND"),), {}, ("NOT_FOUND", 1)),
    "another code after a failure": ((UNAVAILABLE, fail("INTERNAL")), {}, ("INTERNAL", 2)),
    "a method that is not idempotent": ((UNAVAILABLE, ok()), {"path": WRITE}, ("OK", 2)),
    "pushback of 30 ms": ((fail(pushback="30"), ok()), {}, ("OK", 2)),
    "pushback of -1": ((fail(pushback="-1"), ok()), {}, ("UNAVAILABLE", 1)),
    "pushback of -7": ((fail(pushback="-7"), ok()), {}, ("UNAVAILABLE", 1)),
    "pushback that is no number": ((fail(pushback="soon"), ok()), {}, ("UNAVAILABLE", 1)),
    "pushback with decimals": ((fail(pushback="1.5"), ok()), {}, ("UNAVAILABLE", 1)),
    "pushback on a code that is not retried": ((fail("NOT_FOUND", pushback="10"), ok()), {}, ("NOT_FOUND", 1)),
    "pushback does not add attempts": ((fail(pushback="1"),), {}, ("UNAVAILABLE", 4)),
    "a response stream": ((UNAVAILABLE, ok(b"", b"1", b"2")), {"shape": "response stream"}, ("OK", 2)),
    "a first message": (
        (fail("UNAVAILABLE", b"1"), ok(b"", b"2")),
        {"shape": "response stream"},
        ("UNAVAILABLE", 1),
    ),
    "a request stream": ((UNAVAILABLE, ok()), {"shape": "request stream"}, ("OK", 2)),
}


@pytest.mark.parametrize("name", AGREEMENTS)
def test_both_do_the_same(sides: Any, name: str) -> None:
    """The same status, the same number of attempts, the same messages at the caller and at the server."""
    acts, options, expected = AGREEMENTS[name]
    core, ours = (side.call(*acts, **options) for side in sides(config()))
    assert (core.code, core.attempts) == expected, "core is not what the notes say"
    assert (ours.code, ours.attempts) == (core.code, core.attempts)
    assert ours.messages == core.messages
    assert [one.requests for one in ours.seen] == [one.requests for one in core.seen]


@pytest.mark.parametrize("attempts", [2, 3, 5])
def test_the_number_of_attempts(sides: Any, attempts: int) -> None:
    """``maxAttempts`` counts the first."""
    core, ours = (side.call(fail()) for side in sides(config(attempts, "0.005s", "0.005s")))
    assert core.attempts == ours.attempts == attempts


@pytest.mark.parametrize("milliseconds", [40, 90])
def test_pushback_is_exact(sides: Any, milliseconds: int) -> None:
    """Neither comes before the server's delay, nor spreads it, however long the backoff would be."""
    pushed, delay = fail(pushback=str(milliseconds)), milliseconds / 1000

    def both_waited(came: Came) -> bool:
        assert came.attempts == 3
        assert all(delay - 0.002 <= gap for gap in came.gaps), came.gaps
        return all(gap < delay + 0.15 for gap in came.gaps)

    for side in sides(config(3, "10s", "10s")):
        came = quickest(lambda side=side: side.call(pushed, pushed, ok(), timeout=20), both_waited)
        assert both_waited(came), came.gaps


def test_backoffs_start_anew_after_pushback(sides: Any) -> None:
    """After a pushback the next backoff is the initial one."""
    for side in sides(config(5, "0.03s", "10s", multiplier=20)):
        # Without the reset the last gap would be 0.48 s or more.
        acts = fail(), fail(pushback="1"), fail(), ok()
        came = quickest(lambda side=side, acts=acts: side.call(*acts, timeout=20), lambda came: came.gaps[2] < 0.3)
        assert came.attempts == 4
        assert 0.024 - 0.002 <= came.gaps[2] < 0.3, came.gaps


def test_backoffs_are_within_the_same_bounds(sides: Any) -> None:
    """Before attempt n+1 both wait min(initial · multiplier^(n-1), maximum) · U(0.8, 1.2), and both spread it."""
    nominal = (0.03, 0.06, 0.06)
    for side in sides(config(4, "0.03s", "0.06s")):
        gaps = [side.call(fail()).gaps for _ in range(12)]
        for index, seconds in enumerate(nominal):
            waited = [one[index] for one in gaps]
            assert min(waited) >= 0.8 * seconds - 0.002, waited
            # An attempt itself takes time, and the machine may be busy: of twelve, the quicker half tells.
            assert statistics.median(waited) <= 1.2 * seconds + 0.05, waited
            assert max(waited) - min(waited) > 0.05 * seconds, waited


# Throttling.


def test_a_run_of_failures_is_throttled_alike(sides: Any) -> None:
    """Call by call, both make the same number of attempts, until neither makes a second one."""
    counts = [_attempts(side, [fail()] * 8) for side in sides(config(throttling={"maxTokens": 10, "tokenRatio": 0.1}))]
    assert counts[0] == counts[1] == [4, 1, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("maximum", "ratio", "script"),
    [
        (4, 0.5, "ffssssff"),
        (10, 1.0, "fffssssssff"),
        (6, 0.4, "fnnpssssssssf"),
    ],
)
def test_tokens_are_counted_alike(sides: Any, maximum: int, ratio: float, script: str) -> None:
    """Failures take, successes give, codes that are not retried do neither, and a forbidding pushback takes."""
    acts = {"f": fail(), "s": ok(), "n": fail("NOT_FOUND"), "p": fail(pushback="-1")}
    throttling = {"maxTokens": maximum, "tokenRatio": ratio}
    core, ours = (_attempts(side, [acts[letter] for letter in script]) for side in sides(config(throttling=throttling)))
    assert ours == core


def _attempts(side: Side, script: list[Act]) -> list[int]:
    return [side.call(act).attempts for act in script]


def test_the_throttle_is_ours() -> None:
    """The budget of such a policy is A6's throttle, so that the tests above compare it and nothing else."""
    policy = from_service_config(config(throttling={"maxTokens": 10, "tokenRatio": 0.1}))
    assert policy.budget is not None
    assert Throttle(policy.budget).tokens == 10  # type: ignore[arg-type]
    assert policy.breaker is None


# Where we differ, on purpose.


@dataclass
class Difference:
    """A script that the two answer differently."""

    why: str
    acts: tuple[Act, ...]
    core: tuple[str, int]
    ours: tuple[str, int]
    config: str = config()
    timeout: float = 5
    size: int = 0
    shape: str = "unary"
    quick: bool = False
    """Core waits for the whole deadline, we do not."""


DIFFERENCES = {
    "real error kept": Difference(
        "A retry that would come after the deadline is not waited for, and the server's own error is kept.",
        (fail(),),
        core=("DEADLINE_EXCEEDED", 1),
        ours=("UNAVAILABLE", 1),
        config=config(3, "10s", "10s"),
        timeout=1.0,
        quick=True,
    ),
    "pushback beyond the deadline": Difference(
        "The same with a server's delay.",
        (fail(pushback="60000"),),
        core=("DEADLINE_EXCEEDED", 1),
        ours=("UNAVAILABLE", 1),
        timeout=1.0,
        quick=True,
    ),
    "pushback 0": Difference(
        "Retry at once: core never does, and waits for the deadline.",
        (fail(pushback="0"), ok()),
        core=("DEADLINE_EXCEEDED", 1),
        ours=("OK", 2),
        timeout=1.0,
        quick=True,
    ),
    "pushback that is too large a number": Difference(
        "It forbids retries, as what cannot be parsed does in A6: core waits for the deadline.",
        (fail(pushback="99999999999"), ok()),
        core=("DEADLINE_EXCEEDED", 1),
        ours=("UNAVAILABLE", 1),
        timeout=1.0,
        quick=True,
    ),
    "more than 5 attempts": Difference(
        "Core cuts maxAttempts to 5.",
        (fail(),) * 6 + (ok(),),
        core=("UNAVAILABLE", 5),
        ours=("OK", 7),
        config=config(8, "0.005s", "0.005s"),
    ),
    "a unary call that fails after its headers": Difference(
        "Core is committed by headers; a unary caller has seen nothing yet.",
        (fail(headers=True, wait=0.02), ok()),
        core=("UNAVAILABLE", 1),
        ours=("OK", 2),
    ),
    "a stream that fails after its headers": Difference(
        "The same: nothing was delivered to a caller who did not ask for the headers.",
        (fail(headers=True, wait=0.02), ok(b"", b"1")),
        core=("UNAVAILABLE", 1),
        ours=("OK", 2),
        shape="response stream",
    ),
    "a large request": Difference(
        "Core keeps 256 KiB of a call; we keep the one message of a unary call anyway.",
        (fail(), ok()),
        core=("UNAVAILABLE", 1),
        ours=("OK", 2),
        size=1_000_000,
    ),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_we_differ_on_purpose(sides: Any, name: str) -> None:
    """Each difference is a choice, and still one: core has not changed its mind."""
    row = DIFFERENCES[name]
    options: dict[str, Any] = {"timeout": row.timeout, "size": row.size, "shape": row.shape}
    core, ours = (side.call(*row.acts, **options) for side in sides(row.config))
    assert (core.code, core.attempts) == row.core, row.why
    assert (ours.code, ours.attempts) == row.ours, row.why
    if row.quick:
        assert core.seconds >= row.timeout - 0.02
        assert ours.seconds < row.timeout


def test_backoffs_below_a_millisecond(sides: Any) -> None:
    """Core rounds a backoff down to whole milliseconds, and never retries after 0 of them; we retry."""
    core, ours = sides(config(5, "0.001s", "0.001s"))  # jitter makes half of core's backoffs 0
    assert "DEADLINE_EXCEEDED" in [core.call(fail(), timeout=0.2).code for _ in range(4)]
    assert [ours.call(fail(), timeout=20).code for _ in range(4)] == ["UNAVAILABLE"] * 4


def test_a_token_ratio_without_decimals(sides: Any) -> None:
    """Core takes ``"tokenRatio": 1`` for nothing, and stays throttled; ours recovers after six successes."""
    throttling = {"maxTokens": 10, "tokenRatio": 1}
    script = [fail()] * 2 + [ok()] * 6 + [fail()]
    core, ours = (_attempts(side, script) for side in sides(config(throttling=throttling)))
    assert core == [4, 1, 1, 1, 1, 1, 1, 1, 1]
    assert ours == [4, 1, 1, 1, 1, 1, 1, 1, 4]


def test_we_obey_retry_info(sides: Any) -> None:
    """Core does not look at RetryInfo, and is back before the server said."""
    limits = 0.2, 0.2 * 1.2 + 0.15
    core, ours = (
        quickest(lambda side=side: side.call(fail(retry_info=0.2), ok()), lambda came, most=most: came.gaps[0] < most)
        for side, most in zip(sides(config(2, "0.01s", "0.01s")), limits, strict=True)
    )
    assert core.attempts == ours.attempts == 2
    assert core.gaps[0] < 0.2
    assert 0.2 <= ours.gaps[0] < limits[1]

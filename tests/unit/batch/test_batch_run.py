"""The laws of one batch of a caller, whatever its server does and whenever it is cancelled."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grpc_faultwire import InvalidArgument, NotFound, Origin, ResourceExhausted, StatusError, Unavailable, Unknown
from grpc_faultwire.batch.policy import BatchPolicy
from grpc_faultwire.batch.result import BatchResult
from grpc_faultwire.batch.run import BatchRun, Request
from grpc_faultwire.policies import BudgetPolicy, RetryBudget, RetryPolicy
from grpc_faultwire.testing import FakeClock

RICH = BudgetPolicy(capacity=1e9, initial=1e9)
FATES = ("ok", "fatal", "flaky", "twice", "never")


def answer(fate: str, attempt: int) -> StatusError | None:
    """What a deterministic server says of an item, the n-th time that it sees it."""
    if fate == "fatal":
        return NotFound("missing")
    if fate == "never" or (fate == "flaky" and attempt == 1) or (fate == "twice" and attempt <= 2):
        return Unavailable("later", retry_delay=0.2)
    return None


class Server:
    """Answers requests, in the order that a test chooses; keeps what it was sent."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.seen: Counter[int] = Counter()
        self.done: Counter[int] = Counter()
        self.sent: list[list[int]] = []

    def take(self, request: Request) -> None:
        self.sent.append([entry.index for entry in request.entries])
        self.seen.update(entry.index for entry in request.entries)

    def carry_out(self, request: Request) -> None:
        for entry in request.entries:
            self.done[entry.index] += answer(entry.item, self.seen[entry.index]) is None

    def answer(self, run: BatchRun, request: Request, *, lost: bool = False) -> None:
        for position, entry in enumerate(request.entries):
            error = answer(entry.item, self.seen[entry.index])
            self.done[entry.index] += error is None
            if not lost:
                run.acknowledge(request, position, error, None if error else f"value of {entry.index}")
        run.finish(request, self.lost() if lost else None, self.clock(), applied=None if lost else True)

    @staticmethod
    def lost() -> StatusError:
        error = Unavailable("connection reset")
        error.origin = Origin.UNKNOWN
        return error


def play(
    fates: list[str],
    policy: BatchPolicy,
    *,
    pick: Callable[[int], int] = lambda _: 0,
    lose: Callable[[], bool] = lambda: False,
    steps: float = math.inf,
    budget: Any = None,
) -> tuple[BatchResult, Server, BatchRun]:
    clock = FakeClock()
    server = Server(clock)
    run = BatchRun(
        fates, policy, now=clock(), random=lambda: 0.5, budget=budget or RetryBudget(RICH), size=lambda _: 10
    )
    under_way: list[Request] = []
    while steps > 0 and (step := run.next(clock())) is not None:
        steps -= 1
        if isinstance(step, Request):
            server.take(step)
            under_way.append(step)
            assert len(under_way) <= policy.concurrency
        elif under_way:
            server.answer(run, under_way.pop(pick(len(under_way))), lost=lose())
        else:
            clock.advance(step)
    for request in under_way:  # the server carries them out all the same, and nobody hears of it
        server.carry_out(request)
    return run.result(), server, run


policies = st.builds(
    BatchPolicy,
    max_items=st.integers(1, 7),
    max_bytes=st.integers(1, 80),
    concurrency=st.integers(1, 4),
    retry=st.builds(RetryPolicy, max_attempts=st.integers(1, 4)),
    idempotent=st.booleans(),
)
batches = st.lists(st.sampled_from(FATES), max_size=30)


@given(batches, policies, st.data())
@settings(max_examples=100, deadline=None)
def test_every_index_ends_exactly_once(fates: list[str], policy: BatchPolicy, data: st.DataObject) -> None:
    """Whatever is lost and whenever it is cancelled, each index is ok, failed or unknown, and what it says is true."""
    result, server, run = play(
        fates,
        policy,
        pick=lambda count: data.draw(st.integers(0, count - 1)),
        lose=lambda: data.draw(st.booleans()),
        steps=data.draw(st.integers(0, 60)),
    )
    assert result.total == len(fates)
    assert not set(result.failures) & set(result.unknown)
    for index in range(len(fates)):
        state = result.state(index)
        if state == "ok":
            assert server.done[index] >= 1
        if state == "failed":
            assert policy.idempotent or server.done[index] == 0
        assert server.seen[index] <= policy.retry.max_attempts
        assert policy.idempotent or server.done[index] <= 1
    progress = run.progress()
    assert (progress.ok, progress.failed, progress.unknown) == (
        result.succeeded,
        len(result.failures),
        len(result.unknown),
    )
    assert progress.in_flight == progress.waiting == 0


@given(batches, policies, policies, st.data())
@settings(max_examples=60, deadline=None)
def test_results_do_not_depend_on_chunks_and_concurrency(
    fates: list[str], one: BatchPolicy, other: BatchPolicy, data: st.DataObject
) -> None:
    """A deterministic server gives the same result however a batch is split, and in whichever order it answers."""
    attempts = data.draw(st.integers(1, 4))
    results = []
    for policy in (one, other):
        policy = BatchPolicy(
            max_items=policy.max_items,
            max_bytes=policy.max_bytes,
            concurrency=policy.concurrency,
            retry=RetryPolicy(max_attempts=attempts),
        )
        result, _, _ = play(fates, policy, pick=lambda count: data.draw(st.integers(0, count - 1)))
        ends = {index: (type(end.error), end.attempts) for index, end in result.failures.items()}
        results.append((result.values, ends, result.unknown))
    assert results[0] == results[1]


@given(batches, policies)
@settings(max_examples=60, deadline=None)
def test_exactly_the_retryable_are_sent_again(fates: list[str], policy: BatchPolicy) -> None:
    """An item is sent again if and only if its last answer was retryable and it has attempts left."""
    result, server, _ = play(fates, policy)
    most = policy.retry.max_attempts
    wanted = {"ok": 1, "fatal": 1, "flaky": min(2, most), "twice": min(3, most), "never": most}
    assert server.seen == Counter({index: wanted[fate] for index, fate in enumerate(fates)})
    assert result.retried == sum(wanted[fate] - 1 for fate in fates)
    assert result.requests == len(server.sent)


@given(batches, policies)
@settings(max_examples=60, deadline=None)
def test_requests_keep_within_their_limits(fates: list[str], policy: BatchPolicy) -> None:
    """No request has more items or bytes than allowed, but for an item that is too large by itself."""
    _, server, _ = play(fates, policy)
    for indexes in server.sent:
        assert len(indexes) <= policy.max_items
        assert len(indexes) == 1 or 12 * len(indexes) <= policy.max_bytes
    assert [index for indexes in server.sent for index in indexes if indexes].count(0) == server.seen[0]


@given(batches, policies, st.floats(0, 12), st.data())
@settings(max_examples=60, deadline=None)
def test_the_budget_is_never_overdrawn(
    fates: list[str], policy: BatchPolicy, tokens: float, data: st.DataObject
) -> None:
    """Retries take what is there and no more; those that are not sent give it back."""
    lowest = []

    class Watched(RetryBudget):
        def take(self, cost: float, /) -> bool:
            taken = super().take(cost)
            lowest.append(self.tokens)
            return taken

    budget = Watched(BudgetPolicy(initial=tokens))
    steps = data.draw(st.integers(0, 60))
    result, server, _ = play(fates, policy, budget=budget, steps=steps)
    assert all(left >= 0 for left in lowest)
    if not result.retried:
        assert budget.tokens == pytest.approx(tokens)  # what was set aside and not sent is back
    assert sum(count - 1 for count in server.seen.values()) == result.retried


def test_retries_cost_their_share_of_a_request() -> None:
    """Three items of a thousand cost three thousandths of what a request's retry costs."""
    budget = RetryBudget(BudgetPolicy(initial=10))
    result, _, _ = play(["flaky"] * 3 + ["ok"] * 997, BatchPolicy(), budget=budget)
    assert result.ok
    assert budget.tokens == pytest.approx(10 - 5 * 3 / 1000)
    assert result.requests == 2


def test_an_empty_budget_leaves_the_real_error() -> None:
    """Where no retry can be paid, an item ends with what its server said."""
    result, _, _ = play(["flaky"] * 4, BatchPolicy(), budget=RetryBudget(BudgetPolicy(initial=1)))
    assert {type(end.error) for end in result.failures.values()} == {Unavailable}
    assert result.requests == 1


def test_the_longest_delay_counts() -> None:
    """Items that are sent again together wait as long as the one that asks for most."""
    clock = FakeClock()
    run = BatchRun("abc", BatchPolicy(), now=clock(), random=lambda: 0.0, size=lambda _: 1)
    request = run.next(clock())
    assert isinstance(request, Request)
    for position, delay in enumerate((0.5, 3.0, None)):
        run.acknowledge(request, position, Unavailable("later", retry_delay=delay))
    run.finish(request, None, clock())
    assert run.next(clock()) == pytest.approx(3.0)
    clock.advance(2.9)
    assert run.next(clock()) == pytest.approx(0.1)
    clock.advance(0.2)
    again = run.next(clock())
    assert isinstance(again, Request)
    assert [entry.index for entry in again.entries] == [0, 1, 2]


@pytest.mark.parametrize(
    ("idempotent", "state", "requests"),
    [
        pytest.param(False, "unknown", 1, id="never-sent-twice"),
        pytest.param(True, "ok", 2, id="declared-idempotent"),
        pytest.param(lambda item: item == "ok", "ok", 2, id="by-item"),
    ],
)
def test_unacknowledged_items(idempotent: Any, state: str, requests: int) -> None:
    """A request that was lost leaves its items unknown, unless they may be carried out twice."""
    losses = iter([True, False])
    result, _, _ = play(["ok"], BatchPolicy(idempotent=idempotent), lose=lambda: next(losses))
    assert result.state(0) == state
    assert result.requests == requests


def test_a_function_of_idempotence_that_raises_says_no(caplog: pytest.LogCaptureFixture) -> None:
    """The item is not carried out twice, and the fault is logged."""
    result, _, _ = play(["ok"], BatchPolicy(idempotent=lambda item: 1 / 0), lose=lambda: True)
    assert result.state(0) == "unknown"
    assert "ZeroDivisionError" in caplog.text


def test_an_unnamed_failure_is_never_called_success() -> None:
    """Where the answer does not say which items failed, none of them is said to be well."""
    run = BatchRun(["ok", "ok"], BatchPolicy(), now=0.0, random=lambda: 0.5, size=lambda _: 1)
    request = run.next(0.0)
    assert isinstance(request, Request)
    run.acknowledge(request, 0, NotFound("missing"))
    run.finish(request, None, 0.0, applied=None)
    result = run.result()
    assert (result.state(0), result.state(1)) == ("failed", "unknown")
    assert isinstance(result.unknown[1].error, Unknown)


def test_retries_of_several_requests_go_together() -> None:
    """A part of a request waits for the answers under way, which bring more to send along with it."""
    fates = ["flaky", "ok", "ok", "ok"] * 5
    result, server, _ = play(fates, BatchPolicy(max_items=4, concurrency=2))
    assert result.ok
    assert server.sent[5:] == [[0, 4, 8, 12], [16]]


def test_a_part_of_a_request_waits_for_the_answers_under_way() -> None:
    """Even when its time has come: until nothing is under way, or there is a request's worth."""
    clock = FakeClock()
    run = BatchRun("abcd", BatchPolicy(max_items=2), now=clock(), random=lambda: 0.5, size=lambda _: 1)
    first, second = run.next(clock()), run.next(clock())
    assert isinstance(first, Request)
    assert isinstance(second, Request)
    run.acknowledge(first, 0, Unavailable("later"))
    run.finish(first, None, clock(), applied=True)
    clock.advance(60)
    assert run.next(clock()) == math.inf
    run.acknowledge(second, 1, Unavailable("later"))
    run.finish(second, None, clock(), applied=True)
    clock.advance(60)
    again = run.next(clock())
    assert isinstance(again, Request)
    assert [entry.index for entry in again.entries] == [0, 3]


def test_a_second_answer_changes_nothing() -> None:
    """Of two answers to one item the first counts; answers to no item, or after the end, are left alone."""
    run = BatchRun(["ok", "ok"], BatchPolicy(), now=0.0, random=lambda: 0.5, size=lambda _: 1)
    request = run.next(0.0)
    assert isinstance(request, Request)
    run.acknowledge(request, 0, None, "first")
    run.acknowledge(request, 0, None, "second")
    run.acknowledge(request, 0, NotFound("no"))
    run.acknowledge(request, 7, None)
    run.finish(request, None, 0.0, applied=True)
    run.finish(request, Unknown("?"), 0.0)
    run.acknowledge(request, 1, NotFound("no"))
    assert run.progress().ok == 2
    result = run.result()
    assert (result.ok, result.values) == (True, {0: "first"})


def test_the_deadline_is_the_batchs() -> None:
    """Requests get what is left of the batch's time; what does not fit keeps its error, what never went says so."""
    clock = FakeClock()
    policy = BatchPolicy(max_items=1, concurrency=1, timeout=10.0, attempt_timeout=6.0)
    run = BatchRun(["never", "ok", "ok"], policy, now=clock(), random=lambda: 0.5, size=lambda _: 1)
    first = run.next(clock())
    assert isinstance(first, Request)
    assert first.timeout == 6.0
    clock.advance(6.0)
    run.acknowledge(first, 0, Unavailable("later", retry_delay=5.0))
    run.finish(first, None, clock())
    second = run.next(clock())
    assert isinstance(second, Request)
    assert second.timeout == pytest.approx(4.0)
    run.finish(second, None, clock(), applied=True)
    clock.advance(4.0)
    assert run.next(clock()) is None
    result = run.result()
    assert [result.state(index) for index in range(3)] == ["failed", "ok", "failed"]
    assert isinstance(result.failures[0].error, Unavailable)
    assert result.failures[2].attempts == 0
    assert result.failures[2].error.reason == "ITEM_NOT_SENT"


@pytest.mark.parametrize(
    ("error", "state"),
    [
        pytest.param(InvalidArgument("no"), "failed", id="a-refusal-says-that-nothing-was-done"),
        pytest.param(ResourceExhausted("slow down", retry_delay=90.0), "failed", id="longer-than-the-policy-waits"),
        pytest.param(Unknown("?"), "unknown", id="an-unknown-error-says-nothing"),
    ],
)
def test_errors_of_whole_requests(error: StatusError, state: str) -> None:
    """A request's error settles its items only where it says that they were not carried out."""
    error.origin = Origin.REMOTE
    run = BatchRun(["ok"], BatchPolicy(), now=0.0, random=lambda: 0.5, size=lambda _: 1)
    request = run.next(0.0)
    assert isinstance(request, Request)
    run.finish(request, error, 0.0)
    assert run.result().state(0) == state


def test_an_iterable_is_taken_as_it_is_needed() -> None:
    """No more items are held than fill the slots, even if every one is to be sent again."""
    taken = 0

    def endless() -> Any:
        nonlocal taken
        while True:
            taken += 1
            yield "never"

    clock = FakeClock()
    policy = BatchPolicy(max_items=10, concurrency=2, retry=RetryPolicy(max_attempts=10**6))
    run = BatchRun(endless(), policy, now=clock(), random=lambda: 0.5, budget=RetryBudget(RICH), size=lambda _: 1)
    server = Server(clock)
    under_way: list[Request] = []
    for _ in range(200):
        step = run.next(clock())
        if isinstance(step, Request):
            server.take(step)
            under_way.append(step)
        elif under_way:
            server.answer(run, under_way.pop())
        else:
            assert step is not None
            clock.advance(step)
    assert taken <= 10 * 2 * 2 + 1
    result = run.result()
    assert not result.exhausted
    assert result.total == taken


def test_a_faulty_iterable_loses_nothing() -> None:
    """What it raises is told once the items before have ended; none of those is forgotten."""

    def faulty() -> Any:
        yield from ("ok", "fatal", "ok")
        raise OSError("the file has ended")

    result, _, run = play(faulty(), BatchPolicy(max_items=10))  # type: ignore[arg-type]
    assert isinstance(run.fault, OSError)
    assert (result.total, result.succeeded, list(result.failures), result.exhausted) == (3, 2, [1], False)

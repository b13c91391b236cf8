"""Half-open: who may probe, and what becomes of probes that fail, hang, or tell nothing."""

import random
import threading

import pytest

from grpc_faultwire.policies import Breaker, BreakerPolicy, BreakerState, Health

OK, BAD, NEUTRAL = Health.SUCCESS, Health.FAILURE, Health.NEUTRAL
CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


def half_open(**settings):
    """A breaker whose open period is over at 2.0."""
    breaker = Breaker(BreakerPolicy(minimum_calls=1, open_jitter=0.0, **settings), rng=lambda: 0.5)
    breaker.acquire(0.0).record(BAD, 0.0)
    assert not breaker.acquire(1.999)
    return breaker


def test_one_probe_at_a_time():
    """While a probe is out, all others are refused; they are told when its lease ends."""
    breaker = half_open()
    assert breaker.acquire(2.0)
    refusal = breaker.acquire(2.5)
    assert (refusal.state, refusal.retry_after) == (HALF_OPEN, 1.5)


@pytest.mark.parametrize("permits", [1, 2, 5])
def test_not_one_probe_too_many(permits):
    """Exactly as many probes pass as the policy says, also after some have ended."""
    breaker = half_open(half_open_calls=permits, successes_to_close=100)
    for now in (2.0, 2.1):
        probes = [probe for _ in range(permits + 3) if (probe := breaker.acquire(now))]
        assert len(probes) == permits
        for probe in probes:
            probe.record(OK, now)


def test_successes_close_it():
    """Three good probes close the circuit, two do not."""
    breaker = half_open()
    for state in (HALF_OPEN, HALF_OPEN, CLOSED):
        breaker.acquire(2.0).record(OK, 2.0)
        assert breaker.state is state
    assert breaker.snapshot(2.0).calls == 0


def test_a_failure_opens_it_again():
    """One bad probe opens the circuit, whatever the probes before it said, and their successes are forgotten."""
    breaker = half_open()
    breaker.acquire(2.0).record(OK, 2.0)
    breaker.acquire(2.0).record(OK, 2.0)
    breaker.acquire(2.0).record(BAD, 2.0)
    assert breaker.state is OPEN
    breaker.acquire(6.0).record(OK, 6.0)
    assert breaker.state is HALF_OPEN


def test_a_hung_probe_loses_its_slot():
    """When its lease is over, another probe may go; what the first one tells still counts."""
    breaker = half_open()
    hung = breaker.acquire(2.0)
    assert not breaker.acquire(3.999)
    second = breaker.acquire(4.0)
    assert second
    hung.record(OK, 4.5)
    assert not breaker.acquire(4.5)
    second.record(OK, 4.6)
    breaker.acquire(4.7).record(OK, 4.7)
    assert breaker.state is CLOSED


def test_the_lease_is_no_longer_than_the_call():
    """A probe with a timeout of its own loses its slot when that is over."""
    breaker = half_open()
    assert breaker.acquire(2.0, timeout=0.5)
    assert not breaker.acquire(2.4)
    assert breaker.acquire(2.5, timeout=10.0)
    assert not breaker.acquire(4.4)
    assert breaker.acquire(4.5)


def test_an_old_lease_takes_no_slot():
    """A probe with a long lease is forgotten when the circuit changes, and takes no slot the next time."""
    breaker, now = half_open(), 2.0
    for period in (4.0, 8.0, 16.0):
        breaker.acquire(now).record(BAD, now)
        now += period
    assert breaker.acquire(now)
    breaker.force_closed(now)
    breaker.auto(now)
    breaker.acquire(now).record(BAD, now)
    assert breaker.acquire(now + 2.0)


def test_a_released_probe_frees_its_slot():
    """A probe that was cancelled, or never sent, gives the slot back at once and decides nothing."""
    breaker = half_open()
    breaker.acquire(2.0).release()
    assert breaker.state is HALF_OPEN
    assert breaker.acquire(2.0)


def test_neutral_traffic_never_latches_it():
    """Probes that tell nothing widen the door, so that traffic without verdicts is not refused for ever."""
    breaker = half_open()
    passed = []
    for second in range(20):
        probes = [probe for _ in range(1000) if (probe := breaker.acquire(2.0 + second))]
        passed.append(len(probes))
        for probe in probes:
            probe.record(NEUTRAL, 2.0 + second)
    assert passed[0] == 1
    assert passed[-1] == 1000
    assert breaker.state is HALF_OPEN
    breaker.acquire(30.0).record(BAD, 30.0)
    assert breaker.state is OPEN


def test_a_stream_counts_at_its_first_message():
    """A probe that became a long stream frees its slot, and counts, when its first message comes."""
    breaker = half_open()
    streams = []
    for _ in range(3):
        stream = breaker.acquire(2.0)
        stream.healthy(2.1)
        stream.healthy(2.2)
        streams.append(stream)
    assert breaker.state is CLOSED
    for stream in streams:
        stream.record(OK, 9000.0)
    assert breaker.snapshot(9000.0).stale == 3


def test_a_stream_is_healthy_once():
    """Its first message counts; whoever reports each message closes nothing by it."""
    breaker = half_open()
    stream = breaker.acquire(2.0)
    for _ in range(5):
        stream.healthy(2.1)
    assert breaker.state is HALF_OPEN


@pytest.mark.parametrize(
    ("end", "counted"),
    [
        pytest.param(OK, (1, 0), id="ends-well"),
        pytest.param(BAD, (2, 1), id="fails-later"),
        pytest.param(NEUTRAL, (1, 0), id="is-cancelled"),
    ],
)
def test_a_stream_counts_again_only_if_it_fails(end, counted):
    """The end of a stream that was healthy is news only if it is bad; and it is never overdue."""
    breaker = Breaker(rng=lambda: 0.5)
    stream = breaker.acquire(0.0)
    stream.healthy(0.1)
    assert breaker.snapshot(50.0).overdue == 0
    stream.record(end, 50.0)
    snapshot = breaker.snapshot(50.0)
    assert (snapshot.calls, snapshot.failures) == counted


def test_a_probing_stream_that_fails_opens_it_again():
    """A stream that was healthy and then fails while the circuit is half-open opens it."""
    breaker = half_open()
    stream = breaker.acquire(2.0)
    stream.healthy(2.1)
    stream.record(BAD, 2.2)
    assert breaker.state is OPEN


def test_a_thousand_threads_send_one_probe():
    """However many threads come at the same moment, no more pass than there are permits."""
    breaker = half_open(half_open_calls=3)
    barrier, permits = threading.Barrier(1000), []

    def work():
        barrier.wait()
        if permit := breaker.acquire(2.0):
            permits.append(permit)

    threads = [threading.Thread(target=work) for _ in range(1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(permits) == 3
    snapshot = breaker.snapshot(2.0)
    assert (snapshot.probes, snapshot.refused) == (3, 998)


def test_threads_in_a_storm_exceed_nothing():
    """Threads that probe, fail, hang and cancel at random never have more probes out than there are permits."""
    policy = BreakerPolicy(
        minimum_calls=5, open_duration=0.01, max_open_duration=0.01, half_open_calls=2, neutral_probes_to_widen=10**6
    )
    breaker = Breaker(policy, rng=lambda: 0.5)
    clock, lock, out, most = iter(range(10**9)), threading.Lock(), {}, [0]

    def work(seed):
        rng = random.Random(seed)
        for _ in range(500):
            with lock:
                now = next(clock) / 10_000
                permit = breaker.acquire(now)
                if permit in breaker._probes:
                    out[permit] = now + breaker._period
                    peers = [p for p, expiry in out.items() if p.generation == permit.generation and expiry > now]
                    most[0] = max(most[0], len(peers))
            if permit and rng.random() < 0.8:
                with lock:
                    out.pop(permit, None)
                    permit.record(rng.choice([OK, OK, BAD, NEUTRAL]), now)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 2

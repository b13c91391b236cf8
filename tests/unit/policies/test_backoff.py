"""Backoff and its jitter."""

import pytest

from grpc_faultwire.policies.backoff import Jitter, exponential, jittered, lengthened


@pytest.mark.parametrize(
    ("retry", "seconds"),
    [
        pytest.param(1, 0.1, id="first"),
        pytest.param(2, 0.2, id="second"),
        pytest.param(4, 0.8, id="fourth"),
        pytest.param(5, 1.0, id="capped"),
        pytest.param(100_000, 1.0, id="beyond-what-a-float-holds"),
    ],
)
def test_exponential(retry, seconds):
    """Each backoff is the multiplier times the one before, up to the maximum."""
    assert exponential(retry, initial=0.1, maximum=1.0, multiplier=2.0) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("jitter", "u", "seconds"),
    [
        pytest.param(Jitter.GRPC, 0.0, 0.8, id="grpc-least"),
        pytest.param(Jitter.GRPC, 0.5, 1.0, id="grpc-middle"),
        pytest.param(Jitter.GRPC, 1.0, 1.2, id="grpc-most"),
        pytest.param(Jitter.FULL, 0.0, 0.0, id="full-least"),
        pytest.param(Jitter.FULL, 0.5, 0.5, id="full-middle"),
    ],
)
def test_jitter(jitter, u, seconds):
    """The random number spreads the delay as gRFC A6 or as full jitter does."""
    assert jittered(1.0, u, jitter) == pytest.approx(seconds)


@pytest.mark.parametrize(("u", "seconds"), [(0.0, 2.0), (0.5, 2.2), (1.0, 2.4)])
def test_a_servers_delay_is_never_cut(u, seconds):
    """Jitter of a delay that the server asked for only adds."""
    assert lengthened(2.0, u) == pytest.approx(seconds)

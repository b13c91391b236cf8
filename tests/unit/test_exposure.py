"""Who may see stacks."""

from types import SimpleNamespace

import pytest

from grpc_faultwire.exposure import Exposure

INSIDE = SimpleNamespace(auth_context=lambda: {"x509_common_name": [b"inside"]})
OUTSIDE = SimpleNamespace(auth_context=dict)


def inside(auth):
    return auth.get("x509_common_name") == [b"inside"]


@pytest.mark.parametrize(
    ("exposure", "to_inside", "to_outside"),
    [
        pytest.param(Exposure(), False, False, id="off-by-default"),
        pytest.param(Exposure(stacks="everyone"), True, True, id="everyone"),
        pytest.param(Exposure(stacks="trusted", trusted=inside), True, False, id="trusted"),
    ],
)
def test_who_may_see_stacks(exposure, to_inside, to_outside):
    """Stacks are shown to nobody, to trusted peers, or to everyone."""
    assert exposure.allows(INSIDE) is to_inside
    assert exposure.allows(OUTSIDE) is to_outside


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        pytest.param({"stacks": "all"}, "stacks is 'all'; it must be 'off', 'trusted' or 'everyone'", id="word"),
        pytest.param(
            {"stacks": "trusted"}, "a predicate for trusted peers goes with stacks='trusted'", id="no-predicate"
        ),
        pytest.param({"stacks": "everyone", "trusted": inside}, "a predicate for trusted peers", id="predicate-unused"),
        pytest.param({"trusted": inside}, "a predicate for trusted peers", id="predicate-alone"),
    ],
)
def test_wrong_settings(arguments, sentence):
    """A setting that makes no sense is refused with a sentence."""
    with pytest.raises(ValueError, match=sentence):
        Exposure(**arguments)


def test_a_predicate_that_raises_says_no(caplog):
    """A faulty predicate shows nothing, and the server's log says so."""

    def faulty(_auth):
        raise KeyError("x")

    assert Exposure(stacks="trusted", trusted=faulty).allows(INSIDE) is False
    assert "the predicate for trusted peers raised" in caplog.text

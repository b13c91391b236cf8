"""Verdicts, and whether they let a request be sent again."""

import pytest

from grpc_faultwire.category import Category, RetryScope
from grpc_faultwire.policies import OK, Health, Verdict

UNAVAILABLE = Verdict("UNAVAILABLE", Category.OVERLOAD, retryable=True, health=Health.FAILURE)


def test_the_default_is_a_success():
    """A verdict made of nothing is the one on a success."""
    assert Verdict() == OK
    assert (OK.code, OK.category, OK.health, OK.retryable) == ("OK", None, Health.SUCCESS, False)


@pytest.mark.parametrize(
    ("change", "codes", "allowed"),
    [
        pytest.param({}, None, True, id="the-classifier-says-yes"),
        pytest.param({"retryable": False}, None, False, id="the-classifier-says-no"),
        pytest.param({"retryable": False}, {"UNAVAILABLE"}, True, id="naming-the-code-is-consent"),
        pytest.param({}, {"INTERNAL"}, False, id="another-code-is-named"),
        pytest.param({}, set(), False, id="no-code-is-named"),
        pytest.param({"stop": True}, {"UNAVAILABLE"}, False, id="the-server-forbids"),
        pytest.param({"scope": RetryScope.NEVER}, {"UNAVAILABLE"}, False, id="never-beats-consent"),
        pytest.param({"scope": RetryScope.OPERATION}, None, False, id="only-the-whole-operation"),
        pytest.param({"scope": RetryScope.AFTER_REFRESH}, None, False, id="only-with-new-credentials"),
        pytest.param({"scope": RetryScope.REQUEST}, None, True, id="declared-for-the-request"),
        pytest.param({"delay": 1.0, "retryable": False}, None, False, id="retry-info-overrules-no-denial"),
    ],
)
def test_who_allows_a_retry(change, codes, allowed):
    """The server's word beats the policy's codes, which beat the classifier."""
    assert UNAVAILABLE._replace(**change).allowed_by(None if codes is None else frozenset(codes)) is allowed

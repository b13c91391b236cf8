"""Recovery strategies of callers, without a call."""

from __future__ import annotations

import pytest

from faultwire.testing.v1 import scripted_pb2 as pb
from grpc_faultwire import Category, Internal, NotFound, Unavailable, fallback
from grpc_faultwire.fallback import UNANSWERED, Failed


def failed(request: object = b"r", now: float = 0.0) -> Failed:
    return Failed(Unavailable(), "/shop.Shop/Get", request, now)


def test_what_a_fallback_covers() -> None:
    """Outages unless told otherwise; codes alone leave the usual categories out."""
    assert fallback.value(1).covers(Unavailable())
    assert fallback.value(1).covers(Internal())
    assert not fallback.value(1).covers(NotFound())
    assert fallback.value(1, codes=["NOT_FOUND"]).covers(NotFound())
    assert not fallback.value(1, codes=["NOT_FOUND"]).covers(Unavailable())
    assert fallback.value(1, categories=[Category.NOT_FOUND]).covers(NotFound())
    assert fallback.value(1, codes=["INTERNAL"], categories=[Category.NOT_FOUND]).covers(Internal())


def test_value_and_function() -> None:
    """The one answers always the same, the other what it makes of the request."""
    assert fallback.value("same").answer(failed()) == "same"
    assert fallback.function(lambda told: told.request * 2).answer(failed(b"r")) == b"rr"


def test_the_last_good_answer_of_the_same_request() -> None:
    """Until it is too old, or too many others came."""
    kept = fallback.last_good(max_age=10, capacity=2)
    assert kept.answer(failed()) is UNANSWERED
    kept.learn("/shop.Shop/Get", b"r", "good", 100.0)
    assert kept.answer(failed(now=110.0)) == "good"
    assert kept.answer(failed(now=110.1)) is UNANSWERED
    assert kept.answer(failed(b"other", now=100.0)) is UNANSWERED
    for request in (b"1", b"2"):
        kept.learn("/shop.Shop/Get", request, "new", 100.0)
    assert kept.answer(failed(now=100.0)) is UNANSWERED


def test_requests_are_told_apart_by_their_bytes_or_by_a_key() -> None:
    """Equal protobuf messages are one request."""
    kept = fallback.last_good()
    kept.learn("/shop.Shop/Get", pb.Request(step="a"), "good", 0.0)
    assert kept.answer(failed(pb.Request(step="a"))) == "good"
    by_key = fallback.last_good(key=lambda request: request.step)
    by_key.learn("/shop.Shop/Get", pb.Request(step="a", count=1), "good", 0.0)
    assert by_key.answer(failed(pb.Request(step="a", count=2))) == "good"


def test_wrong_settings() -> None:
    """Fail when they are made."""
    with pytest.raises(ValueError, match="max_age is 0"):
        fallback.last_good(max_age=0)
    with pytest.raises(TypeError, match="code: no setting"):
        fallback.value(1, code="INTERNAL")

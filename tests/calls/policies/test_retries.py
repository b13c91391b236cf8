"""Retries, from both worlds."""

from __future__ import annotations

from policy_lab import Caller, fail, ok

from grpc_faultwire.config import ClientPolicy


def test_a_read_succeeds_at_the_third_attempt(caller: Caller) -> None:
    """Two failures, then the answer; its caller notices nothing."""
    got = caller.connect(ClientPolicy()).unary(fail(), fail(), ok(b"3"))
    assert (got.value, got.error, len(got.seen)) == (b"3", None, 3)
    assert caller.ledger.said("retry", "decision") == ["retried", "retried"]

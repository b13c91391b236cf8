"""The settings that server interceptors of both worlds share."""

import pytest

import grpc_faultwire.aio
import grpc_faultwire.sync


@pytest.mark.parametrize("world", [grpc_faultwire.sync, grpc_faultwire.aio], ids=["sync", "aio"])
@pytest.mark.parametrize("budget", [0, 1023, 8193])
def test_a_budget_out_of_range_is_refused(world, budget):
    """A budget in which not even an id fits, or that no transport lets through, fails when it is given."""
    with pytest.raises(ValueError, match=f"budget is {budget}; it must be 1024 to 8192 bytes"):
        world.ServerInterceptor(budget=budget)

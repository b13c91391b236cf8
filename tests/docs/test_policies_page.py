"""What the page about policies shows can be run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from grpc_faultwire import config, operation, policy_file, service_config
from grpc_faultwire.config import ClientPolicy
from grpc_faultwire.policies import BreakerPolicy, BudgetPolicy
from grpc_faultwire.sync.operation import retry_operation

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "policies.md").read_text()


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
def test_python_on_the_page_runs(block: str) -> None:
    """Each block, as it stands."""
    names: dict[str, object] = {}
    exec(block, names)
    names["channel"].close()


def test_figures_on_the_page_are_the_defaults() -> None:
    """The page would lie if a default changed and it did not."""
    budget, breaker = BudgetPolicy(), BreakerPolicy()
    assert (budget.initial, budget.capacity, budget.credit) == (10, 100, 1)
    assert (breaker.minimum_calls, breaker.window, breaker.failure_ratio) == (20, 10, 0.5)
    assert (breaker.open_duration, breaker.max_open_duration, breaker.successes_to_close) == (2, 30, 3)


def test_names_on_the_page_exist() -> None:
    """Each function and attribute that is named."""
    for where, name in (
        (config, "calling"),
        (policy_file, "load_policy"),
        (service_config, "from_service_config"),
        (service_config, "to_service_config"),
        (operation, "deadline_from"),
    ):
        assert hasattr(where, name)
    assert callable(retry_operation)
    for name in re.findall(r"`ClientPolicy\.(\w+)`", PAGE):
        assert name in ClientPolicy.__dataclass_fields__

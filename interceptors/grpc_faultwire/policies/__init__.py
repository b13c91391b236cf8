"""What a caller does about failures. Pure: told the time and given random numbers, it knows no gRPC.

verdict    what one attempt means to all of them          budget    what retries and hedges may spend
retry      whether and when to send again                 backoff   the delays between
breaker    stops calls to a server that fails             circuit   its settings, states and snapshots
registry   breakers by key                                window    the calls it judges; notices: its listener
hedge      a second attempt beside a slow first           deadline  the time a call has, and an attempt
checks     what settings check

Order: deadline( retry or hedge( budget → breaker.acquire → attempt timeout → wire )).
"""

from grpc_faultwire.policies.backoff import Jitter
from grpc_faultwire.policies.breaker import Breaker, Permit
from grpc_faultwire.policies.budget import Budget, BudgetPolicy, RetryBudget, Throttle, ThrottlePolicy
from grpc_faultwire.policies.circuit import (
    BreakerMode,
    BreakerPolicy,
    BreakerSnapshot,
    BreakerState,
    Refusal,
    Transition,
)
from grpc_faultwire.policies.deadline import Deadline, had_fair_time
from grpc_faultwire.policies.hedge import HedgePolicy, HedgeState, HedgeStep, Latencies
from grpc_faultwire.policies.registry import BreakerRegistry
from grpc_faultwire.policies.retry import Decision, Reason, RetryPolicy, RetryState
from grpc_faultwire.policies.verdict import OK, RETRY_COST, TIMEOUT_COST, Health, Verdict

__all__ = [
    "OK",
    "RETRY_COST",
    "TIMEOUT_COST",
    "Breaker",
    "BreakerMode",
    "BreakerPolicy",
    "BreakerRegistry",
    "BreakerSnapshot",
    "BreakerState",
    "Budget",
    "BudgetPolicy",
    "Deadline",
    "Decision",
    "Health",
    "HedgePolicy",
    "HedgeState",
    "HedgeStep",
    "Jitter",
    "Latencies",
    "Permit",
    "Reason",
    "Refusal",
    "RetryBudget",
    "RetryPolicy",
    "RetryState",
    "Throttle",
    "ThrottlePolicy",
    "Transition",
    "Verdict",
    "had_fair_time",
]

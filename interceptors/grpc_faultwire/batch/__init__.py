"""Batches: many errors in one answer, partial success, and retrying only what failed.

collector, methods, items    a server collects what items raise     report, overall, undone  and says it in one answer
fields                       where messages keep outcomes           reading, streams         a caller reads them, typed
policy, splitting, verdicts  how a batch is sent, and sent again    run, ledger              one batch, without I/O
answers, result              what comes back, and what is left      sync, aio                carry it out
events                       what observers are told of a batch    progress                how far it is, on a terminal
"""

from grpc_faultwire.batch.collector import ErrorCollector, Item
from grpc_faultwire.batch.methods import collects_errors
from grpc_faultwire.batch.policy import BatchPolicy
from grpc_faultwire.batch.progress import ProgressBar
from grpc_faultwire.batch.reading import BatchError, ItemFailure, Report, batch_report
from grpc_faultwire.batch.result import BatchResult, ItemEnd, Progress
from grpc_faultwire.batch.streams import StreamReport

__all__ = [
    "BatchError",
    "BatchPolicy",
    "BatchResult",
    "ErrorCollector",
    "Item",
    "ItemEnd",
    "ItemFailure",
    "Progress",
    "ProgressBar",
    "Report",
    "StreamReport",
    "batch_report",
    "collects_errors",
]

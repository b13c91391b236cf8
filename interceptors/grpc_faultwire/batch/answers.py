"""What the answer to a request says of its items: told to a `BatchRun` in one way, whatever the shape of the method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf.message import Message

from grpc_faultwire.batch import fields
from grpc_faultwire.batch.overall import DOMAIN, ROLLED_BACK
from grpc_faultwire.batch.reading import Report, batch_report
from grpc_faultwire.batch.run import BatchRun, Request
from grpc_faultwire.batch.streams import StreamReport
from grpc_faultwire.errors import Aborted, StatusError

Values = Callable[[Any], "Sequence[Any] | Mapping[int, Any]"]
"""From a response to the values of its items: a sequence for all of them, or for those that are well, in their order;
or a mapping from positions in the request."""
Read = Callable[[Any], Report]
"""From a response to the outcome of its items, by position in the request."""


class Answers:
    """Reads the answers of one method.

    Args:
        values: from a response to the values of its items. None: responses hold none. Of a response stream, from one
            response to the value of the one item, or of all the items, that it is about.
        read: from a response to its outcome. None: the field is found by type; a response without one says that all
            items are well.
    """

    def __init__(self, values: Values | None = None, read: Read | None = None) -> None:
        self._values = values
        self._read = read

    def responded(self, run: BatchRun, request: Request, response: Any, now: float) -> None:
        """Tell a run of a response to a whole request. One that cannot be read leaves its items unknown."""
        try:
            report = self._report(response)
            _check(report, len(request.entries))
            values = self._by_position(request, response, report)
        except Exception as fault:  # noqa: BLE001  # whatever a user's function raises: nobody can know then
            run.finish(request, None, now, cause=fault)
            return
        for failure in report.failures:
            run.acknowledge(request, failure.index, failure.error)
        well = not report.unnamed
        if well:
            for position, value in values.items():
                run.acknowledge(request, position, None, value)
        # Where failures were counted and not named, no other item can be said to be well.
        run.finish(request, None, now, applied=True if well else None)

    def _report(self, response: Any) -> Report:
        if self._read is not None:
            return self._read(response)
        if isinstance(response, Message) and fields.has(response, fields.is_outcome):
            return batch_report(response)
        return Report(())

    def _by_position(self, request: Request, response: Any, report: Report) -> Mapping[int, Any]:
        if self._values is None:
            return {}
        values = self._values(response)
        failed = {failure.index for failure in report.failures}
        if isinstance(values, Mapping):
            return {position: value for position, value in values.items() if position not in failed}
        everyone = range(len(request.entries))
        well = [position for position in everyone if position not in failed]
        if len(values) == len(everyone):
            return {position: values[position] for position in well}
        if len(values) == len(well):
            return dict(zip(well, values, strict=True))
        raise ValueError(f"{len(values)} values for {len(everyone)} items, {len(well)} of which are well")

    def streamed(self, run: BatchRun, request: Request, report: StreamReport, response: Any) -> None:
        """Tell a run of one response of a stream."""
        value = self._values(response) if self._values is not None else None
        for position, error in report.read(response):
            run.acknowledge(request, position, error, value)

    def failed(self, run: BatchRun, request: Request, error: StatusError, now: float) -> None:
        """Tell a run that the RPC failed; its error may say more of the items."""
        if error.batch is None:
            run.finish(request, error, now)
            return
        report = batch_report(error)
        for failure in report.failures:
            run.acknowledge(request, failure.index, failure.error)
        if report.atomic and not report.unnamed:
            # Nothing was kept, and whoever is not named did nothing wrong.
            for position in range(len(request.entries)):
                run.spare(request, position, _rolled_back(error))
        run.finish(request, error, now, applied=False)


def _check(report: Report, sent: int) -> None:
    """Refuse a report that is about another request than was sent: to be silent of an item would call it well."""
    last = max((failure.index for failure in report.failures), default=-1)
    if last >= sent or report.total not in (None, 0, sent):
        raise ValueError(f"{sent} items were sent; the report is on {report.total}, and names item {last}")


def _rolled_back(error: StatusError) -> StatusError:
    spared = Aborted("The item was not kept, because others failed.", reason=ROLLED_BACK, domain=DOMAIN)
    spared.__cause__ = error
    return spared

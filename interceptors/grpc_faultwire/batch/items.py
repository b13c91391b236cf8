"""From what an item raised to the google.rpc.Status that leaves: a server's own translator, redactor and exposure."""

from __future__ import annotations

import random
import time
from typing import Any, NamedTuple

from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from faultwire.v1 import errors_pb2
from grpc_faultwire import stack
from grpc_faultwire.audience import Audience
from grpc_faultwire.batch.events import item_event
from grpc_faultwire.category import Severity, meaning
from grpc_faultwire.details import pack, type_name
from grpc_faultwire.errors import Internal, StatusError
from grpc_faultwire.exposure import Exposure
from grpc_faultwire.observers.fingerprint import fingerprint
from grpc_faultwire.observers.logging import LoggingObserver
from grpc_faultwire.observers.repeats import Repeats
from grpc_faultwire.records import CallInfo, Kind, Outcome, Side
from grpc_faultwire.redaction import Redactor
from grpc_faultwire.server_call import Settings, call_of
from grpc_faultwire.status import DETAILS_KEY, encode
from grpc_faultwire.translation import MASKED, Translator
from grpc_faultwire.truncation import BUDGET

_REPORT = errors_pb2.ErrorReport.DESCRIPTOR.full_name
_REQUEST = error_details_pb2.RequestInfo.DESCRIPTOR.full_name


class ItemStatus(NamedTuple):
    """What became of an item's exception.

    Attributes:
        error: what leaves, as an error.
        status: what leaves, as it travels.
    """

    error: StatusError
    status: status_pb2.Status


class ItemTranslator:
    """Translates what items raise as the interceptor around the handler would translate it if it were the handler's.

    Statuses bear no time and no id, so that equal failures are equal. Where an exception is masked, the id under which
    the server's log has it is there; all of a batch that come from the same place share one.

    Args:
        context: the handler's. None, or one that no interceptor of ours has wrapped: the defaults decide.
        translator: in place of the interceptor's.
        redactor: in place of the interceptor's.
    """

    def __init__(
        self, context: Any = None, *, translator: Translator | None = None, redactor: Redactor | None = None
    ) -> None:
        self.call = call_of(context)
        given = self.call.settings if self.call is not None else _defaults()
        self._translator = translator or given.translator
        self._redactor = redactor or given.redactor
        self._settings = given
        self._context = self.call.context if self.call is not None else context
        self._info = self.call.info if self.call is not None else _NOWHERE
        self._hidden: dict[str, StatusError] = {}
        self._log = LoggingObserver(redactor=self._redactor, clock=given.clock)
        self._repeats = Repeats()

    @property
    def budget(self) -> int:
        """The bytes that an error of this server may take as it travels."""
        return self._settings.budget

    def translate(self, exception: BaseException) -> ItemStatus:
        """Return what leaves for an item's exception. Never raises."""
        translation = self._translator.translate(exception, _ItemCall(self, exception))
        # An item has no grpc that an exception could be left to.
        error = translation.error or Internal(MASKED)
        hidden = translation.exception is not None
        if hidden or error.severity >= Severity.ERROR:
            kind = fingerprint(error, exception)
            if hidden:
                error = self._hidden.setdefault(kind, error)
            if self._repeats.turn(kind, 0.0).say:
                self._log_once(error, exception if hidden else None)
        if self.call is not None:
            self.call.event(item_event(error, exception if hidden else None))
        return ItemStatus(error, self._encoded(error, exception, hidden=hidden))

    def _log_once(self, error: StatusError, exception: BaseException | None) -> None:
        outcome = Outcome(code=error.code(), error=error, seconds=0.0, how="done", exception=exception)
        self._log.on_end(self._info, outcome)

    def _encoded(self, error: StatusError, exception: BaseException, *, hidden: bool) -> status_pb2.Status:
        settings = self._settings
        reply = encode(
            error,
            service=self._info.service,
            method=self._info.method,
            redactor=self._redactor,
            now=0.0,
            domain=self._translator.domain,
            stack=stack.frames(exception) if settings.exposure.allows(self._context) else (),
            budget=settings.budget,
        )
        found = next(value for key, value in reply.trailers if key == DETAILS_KEY and isinstance(value, bytes))
        status = status_pb2.Status.FromString(found)
        return _lean(status, error.error_id, hidden=hidden)


class _ItemCall:
    """The call at hand, as handlers and transformers of a Translator see it while an item is translated."""

    def __init__(self, items: ItemTranslator, exception: BaseException) -> None:
        self._items = items
        self.context = items._context
        self.exception: BaseException | None = exception

    @property
    def service(self) -> str:
        return self._items._info.service

    @property
    def method(self) -> str:
        return self._items._info.method

    @property
    def expired(self) -> bool:
        return self._items.call is not None and self._items.call.expired

    @property
    def cancelled(self) -> bool:
        return self._items.call is not None and self._items.call.cancelled


def _lean(status: status_pb2.Status, error_id: str, *, hidden: bool) -> status_pb2.Status:
    """Take out what is said once for the whole batch, or follows from the code."""
    kept = [lean for detail in status.details if (lean := _lean_detail(detail, status.code, error_id, hidden))]
    return status_pb2.Status(code=status.code, message=status.message, details=kept)


def _lean_detail(detail: any_pb2.Any, code: int, error_id: str, hidden: bool) -> any_pb2.Any | None:  # noqa: FBT001  # internal
    name = type_name(detail)
    if name == _REQUEST and not hidden:
        return None if error_details_pb2.RequestInfo.FromString(detail.value).request_id == error_id else detail
    if name != _REPORT:
        return detail
    report = errors_pb2.ErrorReport.FromString(detail.value)
    for field in ("occurred_at", "service", "method") if hidden else ("occurred_at", "service", "method", "error_id"):
        report.ClearField(field)
    usual = meaning(code).category
    if report.severity == usual.severity.value:
        report.ClearField("severity")
    if report.category == usual.value:
        report.ClearField("category")
    return pack(report) if report.ByteSize() else None


def _defaults() -> Settings:
    return Settings(
        translator=Translator(),
        audience=Audience(),
        redactor=Redactor(),
        exposure=Exposure(),
        budget=BUDGET,
        clock=time.monotonic,
        wall_clock=time.time,
        random=random.random,
    )


_NOWHERE = CallInfo(service="", method="", kind=Kind.UNARY, side=Side.SERVER)

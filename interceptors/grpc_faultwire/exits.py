"""What an adapter does when a handler has left."""

from __future__ import annotations

from typing import NamedTuple

from grpc_faultwire.errors import StatusError
from grpc_faultwire.handlers import Recovery
from grpc_faultwire.status import Reply


class Recoverable(NamedTuple):
    """Answer with what one of these gives (`ServerCall.recovered`), or give up (`ServerCall.unrecovered`)."""

    recoveries: tuple[Recovery, ...]
    error: StatusError


class Reraise(NamedTuple):
    """Let the exception go on to grpc."""

    exception: BaseException


class Withdrawal(NamedTuple):
    """Try to send the reply: a task may have cancelled itself. If its caller has gone, let the exception go on."""

    exception: BaseException
    error: StatusError
    reply: Reply


Exit = Reply | Recoverable | Reraise | Withdrawal | None
"""What an adapter does at a handler's exit; None: send what the handler returned."""

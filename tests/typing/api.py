"""Never run: what users write, as the type checkers must see it."""

from __future__ import annotations

from typing import assert_type

import grpc
import grpc.aio
from google.rpc import error_details_pb2

import grpc_faultwire.aio
import grpc_faultwire.sync
from bookshop.v1 import bookshop_faultwire, bookshop_pb2
from grpc_faultwire import (
    Catalogue,
    Category,
    Exposure,
    Fault,
    NotFound,
    Origin,
    Outcome,
    Redactor,
    RetryScope,
    Severity,
    StatusError,
    Translator,
    from_rpc_error,
)
from grpc_faultwire.config import ClientPolicy, calling
from grpc_faultwire.policies import HedgePolicy, RetryPolicy
from grpc_faultwire.state import PolicyState


def errors(error: StatusError) -> None:
    assert_type(error.code(), grpc.StatusCode)
    assert_type(error.message, str)
    assert_type(error.category, Category)
    assert_type(error.severity, Severity)
    assert_type(error.fault, Fault)
    assert_type(error.retry_scope, RetryScope)
    assert_type(error.retry_delay, float | None)
    assert_type(error.origin, Origin)
    assert_type(error.find(error_details_pb2.BadRequest), error_details_pb2.BadRequest | None)
    assert_type(NotFound("It is missing.").replace(message="Other."), NotFound)


def raising() -> None:
    raise NotFound(
        "No book.", reason="BOOK_NOT_FOUND", domain="shop.example.com", metadata={"isbn": 1}, retry_delay=1.5
    )


def declared() -> None:
    raise bookshop_faultwire.BookNotFound(isbn="9780441172719")


def run_time() -> None:
    assert_type(Catalogue.of(bookshop_pb2.BookshopError)["BOOK_NOT_FOUND"], type[StatusError])


def server() -> None:
    translator = Translator("shop.example.com", maps=["stdlib"], catalogues=[bookshop_faultwire.BOOKSHOP_ERROR])
    translator.map(KeyError, NotFound, reason="MISSING", metadata=lambda error: {"key": error.args[0]})

    @translator.handler(OSError)
    def on_os_error(error: OSError, _call: object) -> StatusError | None:
        return NotFound() if error.errno == 2 else None

    grpc_faultwire.sync.ServerInterceptor(translator, exposure=Exposure(stacks="everyone"), redactor=Redactor())
    grpc_faultwire.aio.ServerInterceptor(translator, budget=4096)


def caller(channel: grpc.Channel, aio_channel: grpc.aio.Channel) -> None:
    policy = ClientPolicy(timeout=5.0, retry=RetryPolicy(max_attempts=4)).override(
        {"service": "shop.v1.Shop", "method": "GetBook"}, hedge=HedgePolicy()
    )
    wrapped: grpc.Channel = grpc_faultwire.sync.wrap_channel(channel, policy, state=PolicyState())
    aio_wrapped: grpc.aio.Channel = grpc_faultwire.aio.wrap_channel(aio_channel, policy)
    with calling(idempotent=True):
        wrapped.unary_unary("/shop.v1.Shop/PlaceOrder")
    aio_wrapped.unary_unary("/shop.v1.Shop/PlaceOrder")


def decoding(error: grpc.RpcError) -> None:
    assert_type(from_rpc_error(error), StatusError)


class Watching:
    def on_end(self, token: object, outcome: Outcome) -> None:
        assert_type(outcome.error, StatusError | None)

"""The names of attributes follow OTEL_SEMCONV_STABILITY_OPT_IN."""

from __future__ import annotations

import runpy
from typing import Any

import grpc
import pytest

from grpc_faultwire.observers import semconv
from grpc_faultwire.observers.exceptions import Signals
from grpc_faultwire.observers.semconv import STATUS_CODE, Conventions, is_error
from grpc_faultwire.records import CallInfo, Kind, Side

CALL = CallInfo(service="shop.v1.Shop", method="GetBook", kind=Kind.UNARY, side=Side.SERVER)
OLD = {"rpc.system": "grpc", "rpc.service": "shop.v1.Shop", "rpc.method": "GetBook", "rpc.grpc.status_code": 0}
NEW = {"rpc.system.name": "grpc", "rpc.method": "shop.v1.Shop/GetBook"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("", OLD, id="none"),
        pytest.param("http", OLD, id="another"),
        pytest.param("rpc", NEW, id="rpc"),
        pytest.param("http, rpc/dup", OLD | NEW, id="both"),
        pytest.param("rpc,rpc/dup", OLD | NEW, id="dup wins"),
    ],
)
def test_opt_in(value: str, expected: dict[str, Any]) -> None:
    """Old names without the opt-in, new ones with it, both with dup; the code's name is always there."""
    conventions = Conventions.chosen({"OTEL_SEMCONV_STABILITY_OPT_IN": value})
    assert conventions.of_call(CALL) == expected | {STATUS_CODE: "OK"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", Signals(spans=True, logs=False)),
        ("logs", Signals(spans=False, logs=True)),
        ("other, logs/dup", Signals(spans=True, logs=True)),
        ("logs,logs/dup", Signals(spans=True, logs=True)),
    ],
)
def test_signals_of_exceptions(value: str, expected: Signals, caplog: pytest.LogCaptureFixture) -> None:
    """Events of spans by default, log records instead or as well on request; where they cannot be written, a line."""
    environ = {"OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN": value}
    assert Signals.chosen(environ) == expected
    assert not caplog.records
    assert Signals.chosen(environ, capable=False) == Signals(spans=True, logs=False)
    assert len(caplog.records) == bool(value)


def test_unknown_methods() -> None:
    """What a server does not have is _OTHER, with the original beside it."""
    call = CallInfo(service="made.Up", method="Probe", kind=Kind.UNARY, side=Side.SERVER, known=False)
    attributes = Conventions(old=False, new=True).of_call(call)
    assert attributes["rpc.method"] == "_OTHER"
    assert attributes["rpc.method_original"] == "made.Up/Probe"


@pytest.mark.parametrize(
    ("target", "address"),
    [
        ("shop:443", {"server.address": "shop", "server.port": 443}),
        ("dns:///shop.example.com:443", {"server.address": "shop.example.com", "server.port": 443}),
        ("[::1]:50051", {"server.address": "::1", "server.port": 50051}),
        ("unix:/run/shop.sock", {"server.address": "unix:/run/shop.sock"}),
        ("", {}),
    ],
)
def test_address(target: str, address: dict[str, Any]) -> None:
    """Host and port are taken from what a channel was made for."""
    call = CallInfo(service="a.B", method="C", kind=Kind.UNARY, side=Side.CLIENT, target=target)
    found = Conventions(old=False, new=True).of_call(call)
    assert {key: value for key, value in found.items() if key.startswith("server.")} == address


def test_errors_by_side() -> None:
    """A client's error is any code but OK; a server's is one of six."""
    assert sum(is_error(Side.CLIENT, code) for code in grpc.StatusCode) == 16
    assert sum(is_error(Side.SERVER, code) for code in grpc.StatusCode) == 6


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        pytest.param({}, "rpc.response.status_code", id="neither"),
        pytest.param({"RPC_RESPONSE_STATUS_CODE": "before"}, "before", id="before"),
        pytest.param({"RPC_RESPONSE_STATUS_CODE": "before", "RPC_STATUS_CODE": "now"}, "now", id="now"),
    ],
)
def test_the_name_of_the_code(known: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the installed package's; the oldest that is supported (0.51b0) has none."""
    rpc_attributes = pytest.importorskip("opentelemetry.semconv._incubating.attributes.rpc_attributes")
    for name in ("RPC_STATUS_CODE", "RPC_RESPONSE_STATUS_CODE"):
        monkeypatch.delattr(rpc_attributes, name, raising=False)
    for name, value in known.items():
        monkeypatch.setattr(rpc_attributes, name, value, raising=False)
    assert runpy.run_path(str(semconv.__file__))["STATUS_CODE"] == expected

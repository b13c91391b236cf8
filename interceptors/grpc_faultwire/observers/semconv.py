"""OpenTelemetry's names for attributes of RPCs: the old ones, the new ones, or both, as the environment says.

``OTEL_SEMCONV_STABILITY_OPT_IN`` is a list: "rpc" asks for the new names alone, "rpc/dup" for both. Without either they
are the old ones, which opentelemetry-instrumentation-grpc emits, so that spans are alike whoever made them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import grpc

from grpc_faultwire.observers import names
from grpc_faultwire.records import CallInfo, Side

try:
    from opentelemetry.semconv._incubating.attributes import rpc_attributes
except ImportError:  # only the instrumentation package depends on it
    STATUS_CODE = names.RPC_STATUS_CODE
else:
    # Renamed upstream in August 2026 (semantic-conventions#3921); the oldest packages have neither name.
    _OLDER = getattr(rpc_attributes, "RPC_RESPONSE_STATUS_CODE", names.RPC_STATUS_CODE)
    STATUS_CODE = getattr(rpc_attributes, "RPC_STATUS_CODE", _OLDER)

SERVER_ERRORS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
"""Codes that make a server's span an error; a client's is one with any code but OK."""

OPT_IN = "OTEL_SEMCONV_STABILITY_OPT_IN"

Attributes = dict[str, Any]


class Conventions(NamedTuple):
    """Which names are used.

    Attributes:
        old: those of before the stable conventions.
        new: those of the release candidate.
    """

    old: bool
    new: bool

    @classmethod
    def chosen(cls, environ: Mapping[str, str] = os.environ) -> Conventions:
        """Return what the environment asks for."""
        asked = {word.strip() for word in environ.get(OPT_IN, "").split(",")}
        if "rpc/dup" in asked:
            return cls(old=True, new=True)
        return cls(old="rpc" not in asked, new="rpc" in asked)

    def of_call(self, call: CallInfo) -> Attributes:
        """Return what is known of a call when it begins; the code is overwritten if it ends with another."""
        attributes: Attributes = {}
        if self.old:
            attributes |= {names.RPC_SYSTEM: "grpc", names.RPC_SERVICE: call.service, names.RPC_METHOD: call.method}
        if self.new:
            attributes |= {names.RPC_SYSTEM_NAME: "grpc", names.RPC_METHOD: call.full_method}
            if not call.known:
                attributes |= {names.RPC_METHOD: names.OTHER, names.RPC_METHOD_ORIGINAL: call.full_method}
        if call.side is Side.CLIENT:
            attributes |= _address(call.target)
        return attributes | self.of_code(grpc.StatusCode.OK)

    def of_code(self, code: grpc.StatusCode) -> Attributes:
        """Return what says how a call ended."""
        attributes: Attributes = {STATUS_CODE: code.name}
        if self.old:
            attributes[names.RPC_GRPC_STATUS_CODE] = code.value[0]
        return attributes


def is_error(side: Side, code: grpc.StatusCode) -> bool:
    """Tell whether a span or a measurement with this code is one of an error."""
    return code._name_ in SERVER_ERRORS if side is Side.SERVER else code is not grpc.StatusCode.OK


def _address(target: str) -> Attributes:
    """Return host and port of a target such as "dns:///shop.example.com:443"."""
    host, _, port = target.rpartition("/")[2].rpartition(":")
    if not host or not port.isdigit():
        return {names.SERVER_ADDRESS: target} if target else {}
    return {names.SERVER_ADDRESS: host.strip("[]"), names.SERVER_PORT: int(port)}

"""The types of a method: from the server's reflection, or from what the caller has."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor

from grpc_faultwire.cli.sources import pools
from grpc_faultwire.cli.terminal import Problem


def method_of(
    channel: grpc.Channel, service: str, method: str, descriptors: Sequence[str], modules: Sequence[str]
) -> MethodDescriptor:
    """Return the descriptor of a method.

    Raises:
        Problem: the service or the method is unknown, or the server has no reflection.
        grpc.RpcError: the server cannot be asked.
    """
    candidates = pools(descriptors, modules) or [_reflected(channel)]
    for pool in candidates:
        try:
            found = pool.FindServiceByName(service).methods_by_name
        except KeyError:
            continue
        except grpc.RpcError as error:
            if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise Problem("the server has no reflection: give --descriptors or --module") from error
            raise
        if method not in found:
            raise Problem(f"{service} has no method {method}; it has {', '.join(found)}")
        return found[method]
    raise Problem(f"no service is called {service}")


def _reflected(channel: grpc.Channel) -> descriptor_pool.DescriptorPool:
    try:
        from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (  # type: ignore[import-untyped]  # noqa: PLC0415  # an extra, without annotations
            ProtoReflectionDescriptorDatabase,
        )
    except ImportError:
        raise Problem(
            "reflection needs grpcio-reflection: pip install 'grpc-faultwire[cli]'; or give --descriptors or --module"
        ) from None
    return descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))

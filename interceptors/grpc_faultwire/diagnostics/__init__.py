"""What a process knows of its errors and policies over time, and the admin service that shows it.

space_saving   the most frequent kinds in bounded memory   groups       an observer that counts errors by fingerprint
desk           what the admin service answers              sync, aio    `DiagnosticsServicer`, off unless it is added
"""

from grpc_faultwire.diagnostics.desk import Authorise, Desk
from grpc_faultwire.diagnostics.groups import ErrorGroup, ErrorGroups, Sample
from grpc_faultwire.diagnostics.space_saving import SpaceSaving

__all__ = ["Authorise", "Desk", "ErrorGroup", "ErrorGroups", "Sample", "SpaceSaving"]

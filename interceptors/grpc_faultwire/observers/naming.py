"""What `names` is written with: metrics, fields and events."""

from __future__ import annotations

from typing import Literal, NamedTuple

# The buckets that OpenTelemetry advises for rpc.server.call.duration; also prometheus_client's default.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Upper bounds of the buckets of durations, in seconds."""


class Metric(NamedTuple):
    """A metric.

    Attributes:
        name: in full.
        type: "counter", "gauge" or "histogram".
        help: one sentence.
        labels: their names; of OpenTelemetry's, the keys of attributes.
        mode: of a gauge, prometheus_client's multiprocess mode.
        buckets: of a histogram.
    """

    name: str
    type: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    mode: Literal["livesum", "livemax", "livemin"] = "livesum"
    buckets: tuple[float, ...] = SECONDS


class Field(NamedTuple):
    """An attribute of a span or an event, or a field of a log line."""

    name: str
    type: str
    help: str


class EventName(NamedTuple):
    """An event that a policy tells of.

    Attributes:
        name: `Event.name`; on a span, "faultwire." comes before it.
        help: when it is told.
        fields: the keys of `Event.attributes`; on a span, "faultwire." comes before them. Others are left out.
    """

    name: str
    help: str
    fields: tuple[Field, ...]

"""Write docs/telemetry.md from `grpc_faultwire.observers.names`; with --check, fail if it is not up to date."""

import sys
from collections.abc import Iterable
from pathlib import Path

from grpc_faultwire.observers import names, naming
from grpc_faultwire.observers.naming import Field, Metric

PAGE = Path(__file__).parents[1] / "docs" / "telemetry.md"
HEAD = """# Telemetry: every metric, label, attribute, event and field

This page is made from `grpc_faultwire/observers/names.py` by `scripts/telemetry.py`; edit those.

```python
from grpc_faultwire.observers import LoggingObserver, OpenTelemetryObserver, PrometheusObserver
from grpc_faultwire.sync import ServerInterceptor, wrap_channel

shop = shop_pb2.DESCRIPTOR.services_by_name["Shop"]
observers = [PrometheusObserver(services=[shop]), OpenTelemetryObserver()]
server = grpc.server(pool, interceptors=[ServerInterceptor(observers=observers)])
channel = wrap_channel(grpc.insecure_channel("shop:443"), observers=[*observers, LoggingObserver()])
```

A server logs by itself. Each RPC is one record, whatever its path: an exception, an abort, a cancelled or expired
call, an unknown method, a refused connection, an open circuit, a stream that its caller dropped. Rules, alerts and a
dashboard are in `ops/`.
"""
PROMETHEUS = """
`PrometheusObserver` makes these. The first five of each side have go-grpc-middleware's names and label values, so that
dashboards made for it work unchanged; `label_style="python"` gives py-grpc-prometheus's values ("UNARY", "NOT_FOUND").

Labels stay few whatever comes: a server's unknown methods are `_OTHER`, and so are methods beyond the first 500,
reasons that no catalogue declares, types of exceptions beyond the first 64, breakers and targets beyond the first 100.
`grpc_telemetry_overflow_total` counts what was replaced.

Always true: started = handled + in flight; the errors' sum = handled - OK; attempts = calls that were sent + retries +
hedges. A refused call is handled, and is no attempt.

Breakers change outside calls too, so their listener tells of it: `PolicyState.listen(observer.on_transition)`.
"""
PROCESSES = """
Python serves from one core; several processes that listen on one port (`grpc.so_reuseport`, on Linux) serve from more.
`python -m examples.reuseport_server` is such a server, and its metrics add up. In short:

1. The parent sets `PROMETHEUS_MULTIPROC_DIR` to an empty folder before anybody imports `prometheus_client`, and keeps
   the port: it binds it with `SO_REUSEPORT` and does not listen.
2. It spawns the workers; forked, a process that has run gRPC or threads is not safe. Each makes its own server, with
   `options=[("grpc.so_reuseport", 1)]`, and its own `PrometheusObserver()`.
3. The parent shows the sum: a `MultiProcessCollector` in a registry of its own, and `start_http_server`.
4. When a worker has ended it calls `mark_process_dead(pid)`: the worker's counts stay, its gauges go.

Counters and histograms are added up, and so are calls in flight. Of a circuit's state the greatest of the living
processes is taken (open in one shows as open), of a budget's tokens the least: breakers and budgets belong to one
process. There are no exemplars, as prometheus_client has none in this mode.
"""
OPENTELEMETRY = f"""
`OpenTelemetryObserver` makes or completes one span for each call.

| `tracing` | where another instrumentation records this call | where none does |
|---|---|---|
| `"auto"` | its span is completed | an own span |
| `"enrich"` | its span is completed | none |
| `"own"` | an own span | an own span |
| `"off"` | none | none |

With `"auto"` the trace has the same shape with opentelemetry-instrumentation-grpc and without it, in sync and aio,
whichever is outside: one SERVER span, one CLIENT span over all attempts. Limits: that instrumentation still formats the
artificial exception of every abort (about 0.4 ms; `"own"` without it costs a tenth) and repeats the code in the status
description. Behind interceptors of grpc.aio, grpc itself keeps a stream that its caller drops: it goes on to its end or
its deadline, and that is what is recorded; `cancel()` ends it.

A server's span is an error for UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE and DATA_LOSS, a
client's for every code but OK. The event `exception` is added once, for exceptions behind errors of severity ERROR and
above, with type and stack; their text is in the server's log under the same error id. With
`OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN=logs` it is a log record of OpenTelemetry instead, named
`{names.EXCEPTION_LOGS["server"]}`, of severity ERROR and with the span's ids; with `logs/dup` it is both. That needs
opentelemetry-api 1.38 or newer.

`OTEL_SEMCONV_STABILITY_OPT_IN` chooses the names: without it the old ones, as that instrumentation has them; `rpc`
gives the new ones, `rpc/dup` both.
"""
LOGS = f"""
`LoggingObserver` writes one line of `name=value` for each error; the same fields are in the record's `extra`, with
`{names.LOG_PREFIX}` before their names.

Of errors with one fingerprint, the first five show their stack, then the 8th, 16th, 32nd, …, and one a minute. A line
with an error id that a caller was given is always written, and a text that differs from the last one is always shown.
`suppressed` says how many were left out; `LoggingObserver.flush()` tells what is left at the end.
"""


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines) + "\n"


def code(*words: str) -> str:
    return ", ".join(f"`{word}`" for word in words)


def fields(found: Iterable[Field], prefix: str = "") -> str:
    return table(("name", "type", "meaning"), ((code(prefix + one.name), one.type, one.help) for one in found))


def metrics(found: Iterable[Metric]) -> str:
    return table(
        ("name", "type", "labels", "meaning"),
        ((code(one.name), one.type, code(*one.labels), one.help) for one in found),
    )


def events() -> str:
    return table(
        ("name", "attributes", "when"),
        (
            (code(names.NAMESPACE + one.name), code(*(names.NAMESPACE + field.name for field in one.fields)), one.help)
            for one in names.EVENTS
        ),
    )


def attributes_of_events() -> str:
    known = {f"{names.NAMESPACE}{field.name}": field for event in names.EVENTS for field in event.fields}
    return table(("name", "type", "meaning"), ((code(key), one.type, one.help) for key, one in sorted(known.items())))


def page() -> str:
    parts = [
        HEAD,
        "## Prometheus",
        PROMETHEUS,
        "### Servers",
        metrics(names.SERVER_METRICS.values()),
        "### Clients",
        metrics(names.CLIENT_METRICS.values()),
        "### Both",
        metrics(names.COMMON_METRICS.values()),
        "### Labels",
        table(("label", "values"), ((code(one.name), one.help) for one in names.LABELS)),
        f"Buckets of durations, in seconds: {', '.join(f'{one:g}' for one in naming.SECONDS)}.\n",
        "### Several processes",
        PROCESSES,
        "## OpenTelemetry",
        OPENTELEMETRY,
        "### Attributes of spans",
        fields(names.SPAN_ATTRIBUTES),
        "### Events of spans",
        events(),
        attributes_of_events(),
        "### Metrics",
        "Made if the observer is given a `meter_provider`; `grpc.*` not where grpcio-observability makes its own.\n",
        metrics(names.OPENTELEMETRY_METRICS),
        "## Logs",
        LOGS,
        fields(names.LOG_FIELDS),
    ]
    return "\n".join(part.strip("\n") + "\n" for part in parts)


def main() -> int:
    made = page()
    if "--check" in sys.argv:
        if PAGE.read_text() == made:
            return 0
        print(f"{PAGE.name} is not up to date: run python scripts/telemetry.py", file=sys.stderr)
        return 1
    PAGE.write_text(made)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

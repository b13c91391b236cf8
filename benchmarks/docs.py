"""Write docs/benchmarks.md, its plot and the README's figures from the committed run: `python -m benchmarks.docs`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.promises import TIMES, promises
from benchmarks.record import RESULTS

ROOT = Path(__file__).resolve().parents[1]
COMMITTED = RESULTS / "full.json"
PAGE, PLOT, README = ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "benchmarks.svg", ROOT / "README.md"
FIGURES = re.compile(r"(?<=<!-- figures of the committed run -->\n).*?(?=<!-- end of figures -->)", re.DOTALL)

INTRODUCTION = """# What it costs

This page is made by `python -m benchmarks.docs` from `benchmarks/results/full.json`; run that, do not edit this.

```sh
make bench         # a look: unary calls that succeed or fail with every stack, the parts; under 90 seconds
make bench-full    # everything below, and this page; half an hour; goes on where it was cut
make scale         # load, methods, breaker keys, and the soak alone
make bench-check   # what CI runs: calls of functions and bytes for each kind of RPC, against committed budgets
```

**How it is measured.** Server and client are processes of their own, and so is every stack; calls go over loopback,
one after another. The figure is the CPU time of the process that has the stack, for one RPC; wall time on a shared
machine says little. All stacks are measured in turn (A B C … A B C …), many rounds; an overhead is the median over the
rounds of the difference to bare grpc in the same round, with the middle half of the rounds behind it. What is smaller
than that spread is noise. Messages are bytes, so that protobuf's time is in none of it.

**What is compared.** Peers with their usual settings, retries and breakers set alike. Of a rich error ours, and the
sums, read reason and details; the others look at the code. *sum* is what a user would put together today: on a server
grpc-interceptor, py-grpc-prometheus and a `google.rpc.Status` made by hand; around a client's call tenacity and
circuitbreaker, py-grpc-prometheus on its channel, details read with grpc-status. *sum, cheapest parts* has
google-api-core's Retry in place of tenacity; *sum with OpenTelemetry* adds OpenTelemetry's instrumentation. Spans are
sampled, and dropped by the exporter. *ours: all on* is errors, policies (on clients) and Prometheus; *own span* adds
`OpenTelemetryObserver`. An open circuit is held against a bare call that succeeds.
"""

ENDING = """## Counts

`benchmarks/budgets.json` has, for each kind of RPC and each part, how many functions are called and how much memory is
held, and what the budget is. Counts are the same on a busy machine and on an idle one, so `make bench-check` can be
strict; `python -m benchmarks.budgets --update` writes them anew after a change that is meant.

## Free-threaded and newest CPython

grpcio 1.85.1 has wheels for CPython 3.11 to 3.15, and none for the free-threaded builds (`pip download grpcio
--only-binary :all: --abi cp314t` finds nothing; cp313t and cp315t likewise): grpc needs the GIL inside, see
[grpc#38762](https://github.com/grpc/grpc/issues/38762) and [grpc#41461](https://github.com/grpc/grpc/issues/41461).
A grpcio built from source turns the GIL on again when it is imported. Faultwire is pure Python; it is measured with the
CPython named above, and with no other.
"""


def report(results: Mapping[str, Any]) -> str:
    """Return every table that the results have figures for."""
    sections = results["sections"]
    lines = [about(results["about"]), *promised(sections)]
    for name, samples in sections.get("cpu", {}).items():
        lines += rpc_table(name, samples)
    for name, title in TITLES.items():
        if name in sections.get("parts", {}):
            lines += simple(title, "ns", sections["parts"][name])
    if "wire" in sections:
        lines += simple("The worst trailers that fit the transport, every detail read", "µs", first(sections["wire"]))
    if "batches" in sections:
        lines += [first(sections["batches"]).replace("### ", "## ")]
    if "cancel" in sections:
        lines += cancel_table(first(sections["cancel"]))
    if "imports" in sections:
        lines += simple("Importing, once grpc has been imported", "ms", sections["imports"]["imports"])
        lines += heaviest_table(sections["imports"].get("heaviest", {}))
    for name, loads in sections.get("scale", {}).items():
        lines += scale_table(name, loads)
    if "soak" in sections:
        lines += soak_table(first(sections["soak"]))
    return "\n".join(lines)


TITLES = {"parts": "The parts of a call", "breakers": "Breakers around a call", "retries": "Retries around a call"}


def first(section: Mapping[str, Any]) -> Any:
    return next(iter(section.values()))


def about(facts: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    return (
        f"Run of {facts['date']} (code {facts['revision']}) on {facts['system']}, load {facts['load']} at the end; "
        f"CPython {facts['python']}, {packages}.\n"
    )


def promised(sections: Mapping[str, Any]) -> list[str]:
    rows = [(one.text, one.limit, one.measured, "yes" if one.kept else "**no**") for one in promises(sections)]
    return table("What was promised", ("", "at most", "measured", "kept"), rows) if rows else []


def overheads(samples: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """Return the differences to bare in each round."""
    bare = samples["bare"]
    return {
        name: [one - base for one, base in zip(values, bare, strict=True)]
        for name, values in samples.items()
        if name != "bare"
    }


def rpc_table(name: str, samples: Mapping[str, list[float]]) -> list[str]:
    base = median(samples["bare"])
    rows = [("bare", f"{base:.0f}", "", "")]
    for stack, values in overheads(samples).items():
        more = median(values)
        rows.append(
            (stack, f"{base + more:.0f}", f"{more:+.0f} ({spread(values, '+.0f')})", f"{1 + more / base:.2f}{TIMES}")
        )
    return table(name, ("stack", "µs CPU", "against bare (middle half)", "ratio"), rows)


def simple(title: str, unit: str, samples: Mapping[str, list[float]]) -> list[str]:
    rows = [(name, number(median(values)), spread(values)) for name, values in samples.items()]
    return table(title, ("", unit, "middle half"), rows)


def cancel_table(samples: Mapping[str, list[float]]) -> list[str]:
    rows = [(name, f"{median(values):.0f}", f"{quantiles(values, n=100)[98]:.0f}") for name, values in samples.items()]
    return table("Cancelling, until the caller goes on (wall time)", ("during", "p50 µs", "p99 µs"), rows)


def heaviest_table(modules: Mapping[str, float]) -> list[str]:
    rows = [(f"`{name}`", number(milliseconds)) for name, milliseconds in modules.items()]
    return table("The modules that take the longest to import", ("", "ms by itself"), rows)


def scale_table(name: str, loads: Mapping[str, Mapping[str, list[float]]]) -> list[str]:
    rows = []
    for load, stacks in loads.items():
        (bare, *_), (ours, rate, p50, p99) = stacks["bare"], stacks["ours"]
        figures = (f"{bare:.0f}", f"{ours:.0f}", f"{ours / bare:.2f}{TIMES}", f"{rate:.0f}", f"{p50 / 1000:.1f}")
        rows.append((load, *figures, f"{p99 / 1000:.1f}"))
    heads = ("load", "bare µs CPU", "all on", "ratio", "calls/s", "p50 ms", "p99 ms")
    return table(f"Scale, {name} (a client and a server on the cores above)", heads, rows)


def soak_table(soak: Mapping[str, Any]) -> list[str]:
    heads = ("calls", "MB", "Python's kB", "threads", "files", "tasks")
    rows = [tuple(number(value) for value in state.values()) for state in soak["states"]]
    grown = "; ".join(soak["grown"]) or "nothing has grown"
    return table(f"Soak of {soak['seconds']:.0f} s, both worlds, all kinds of calls: {grown}", heads, rows)


def table(title: str, heads: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    heads = tuple(heads)
    lines = [f"## {title}", "", f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def spread(values: list[float], form: str = "") -> str:
    low, _, high = quantiles(values, n=4)
    return f"{low:{form}} to {high:{form}}" if form else f"{number(low)} to {number(high)}"


def number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def page(results: Mapping[str, Any]) -> str:
    plot = "![What each stack adds to a unary call that succeeds](benchmarks.svg)\n"
    return "\n".join([INTRODUCTION, plot, report(results), ENDING])


def summary(results: Mapping[str, Any]) -> str:
    """Return the figures that the README shows."""
    cpu = results["sections"]["cpu"]
    rows = []
    for side in ("client", "server"):
        for world in ("sync", "aio"):
            samples = cpu[f"{side} {world}: OK"]
            more = {name: median(values) for name, values in overheads(samples).items()}
            names = ("ours: all on", "sum", "ours: all on, own span", "sum with OpenTelemetry")
            figures = [f"{median(samples['bare']):.0f}", *(f"{more[name]:+.0f}" for name in names)]
            rows.append((f"{world} {side}", *figures))
    heads = ("µs CPU for an RPC", "bare grpc", "all on", "today's sum", "all on, own span", "sum with OpenTelemetry")
    return "\n".join(table("", heads, rows)[2:])


def plot(results: Mapping[str, Any]) -> None:
    """Draw what each stack adds to a unary call that succeeds."""
    import matplotlib as mpl  # noqa: PLC0415  # only in the benchmarks' own environment

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "faultwire"
    from matplotlib import pyplot as plt  # noqa: PLC0415  # as above

    figure, panels = plt.subplots(2, 2, figsize=(12, 9), layout="constrained")
    names = [f"{side} {world}" for side in ("client", "server") for world in ("sync", "aio")]
    for panel, name in zip(panels.flat, names, strict=True):
        found = overheads(results["sections"]["cpu"][f"{name}: OK"])
        stacks = list(reversed(found))
        panel.barh(stacks, [median(found[one]) for one in stacks], color=[colour(one) for one in stacks])
        panel.set_title(name)
        panel.set_xlabel("µs CPU more than bare")
        panel.tick_params(labelsize=8)
    figure.savefig(PLOT, metadata={"Date": None})


def colour(stack: str) -> str:
    return "#c0392b" if stack.startswith("ours") else "#2c3e50" if stack.startswith("sum") else "#95a5a6"


def main() -> None:
    results = json.loads(COMMITTED.read_text())
    PAGE.write_text(page(results))
    README.write_text(FIGURES.sub(lambda _: summary(results), README.read_text()))
    plot(results)
    print(
        f"{PAGE.relative_to(ROOT)}, {PLOT.relative_to(ROOT)} and the README's figures are those of the committed run."
    )


if __name__ == "__main__":
    main()

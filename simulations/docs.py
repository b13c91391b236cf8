"""Write docs/simulations.md and its plots from the committed results: ``python -m simulations.docs``."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path

from .cases import Case
from .plot import plot
from .record import Record, Records, cases_of, read
from .report import demand, shown, verdicts

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, FOLDER = DOCS / "simulations.md", DOCS / "simulations"
COMMITTED = FOLDER / "results.json"

INTRODUCTION = """# What the policies do in an outage

This page is made by `python -m simulations.docs` from `docs/simulations/results.json`; run that, do not edit this.

```sh
make simulate                               # all of it, and this page: under three minutes on two cores
python -m simulations --case overload       # one case
python -m simulations --loopback            # the main case, small, with real gRPC processes: half a minute
```

A server that is overloaded for some seconds can stay down for good when its callers retry: each call that times out
is sent again, so the load that keeps it down is of their own making. One call does not show whether policies prevent
that. So `simulations/` runs the *production* objects (`RetryPolicy`, `RetryBudget`, `Breaker`) under a virtual clock:
calls arrive at random (an open loop: nobody waits for anybody), go through retry, budget, breaker and attempt timeout
(1 s), and reach a server that has a queue, or one that errs. Time and chance come from the simulation alone, so a
seed is a run.

Each figure is the median of the runs, with the least and the most behind it. Where something is demanded there are 20
runs, elsewhere 5. Every run has to keep what is demanded, unless chance alone makes runs differ; then their average
has to.

| policies | |
|---|---|
| no retries | one attempt |
| naive, 4 attempts | four attempts, 100 ms doubling to 1 s, as service configs usually say |
| gRFC A6 throttle 10/0.1 | the same, with gRPC's `retryThrottling` |
| Finagle 20 % + 10/s | the same, with a retry budget by *requests* |
| AWS bucket 500/5 | the same, with the token bucket of AWS's SDKs, full at first |
| 5 failures in a row | no retries; a breaker that opens for a minute after five in a row (pybreaker, gobreaker) |
| faultwire: budget | our retries and budget as they come |
| faultwire: breaker | our breaker as it comes, no retries |
| faultwire: budget + breaker | `ClientPolicy(attempt_timeout=1.0)` |
| faultwire, server drops expired | the same, and the server drops requests whose deadline has passed |
| faultwire, DEPENDENCY is neutral | the same, and servers say when a failure is that of another service |
| faultwire, breaker per shard | the same, with a `breaker_key` |

| figure | |
|---|---|
| recovery | seconds from the end of the trouble until five seconds in a row (in `tiers` three) have 95 % success each |
| success | share of the calls that succeed in the end; `after` the trouble, or of the `healthy` shards |
| load | attempts sent for each call begun; `during` or `after` the trouble, or to the `bad` shard |
| amplification | attempts that reach the last of the three services, for each call begun, while it is down |
"""

ENDING = """## What this does not show

One topology at a time, with service times that chance draws; what others do is their published rules in our words,
not their code. `python -m simulations --loopback`, which `make test-all` runs too, repeats the main case with real
servers, channels and clocks, at a twentieth of the load.
"""


def page(records: Records) -> str:
    """Return the page."""
    return "\n".join([INTRODUCTION, *(section(case, records[case.name]) for case in cases_of(records)), ENDING])


def section(case: Case, records: Mapping[str, Record]) -> str:
    """Return what there is to say about a case."""
    figures = list(next(iter(records.values())).figures)
    lines = [f"## {case.name}: {case.title}", ""]
    lines += [f"| policies | {' | '.join(name.replace('_', ' ') for name in figures)} | runs |"]
    lines += ["|---|" + "---|" * (len(figures) + 1)]
    for name, record in records.items():
        cells = " | ".join(cell(record.figures[figure]) for figure in figures)
        lines.append(f"| {name} | {cells} | {len(record.figures[figures[0]])} |")
    lines += ["", "| demanded | | measured | kept |", "|---|---|---|---|"]
    for bound, measured, kept in verdicts(case, records):
        demanded = f"{bound.figure.replace('_', ' ')} {demand(bound)}".replace(">= never", "never")
        lines.append(f"| {bound.stack.name} | {demanded} | {measured} | {'yes' if kept else '**no**'} |")
    return "\n".join([*lines, "", f"![{case.title}: goodput and load over time](simulations/{case.name}.svg)", ""])


def cell(values: list[float]) -> str:
    """Return the median, and the range if there is one."""
    least, median, most = (shown(value) for value in (min(values), statistics.median(values), max(values)))
    return median if least == most else f"{median} ({least} to {most})"


def main() -> None:
    """Write the page and the plots."""
    records = read(COMMITTED)
    PAGE.write_text(page(records))
    for case in cases_of(records):
        (FOLDER / f"{case.name}.svg").write_text(plot(case.title, records[case.name], case.trouble))
    print(f"docs/{PAGE.name} and docs/{FOLDER.name}/ are those of the committed results.")


if __name__ == "__main__":
    main()

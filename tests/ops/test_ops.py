"""Rules, alerts and the dashboard use names that the code has, and do what they say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from grpc_faultwire.category import Category, Fault
from grpc_faultwire.observers import names
from grpc_faultwire.policies import BreakerState, Reason

OPS = Path(__file__).parents[2] / "ops"
PROMETHEUS = OPS / "prometheus"
METRICS = {
    metric.name: metric
    for group in (names.SERVER_METRICS, names.CLIENT_METRICS, names.COMMON_METRICS)
    for metric in group.values()
}
SERIES = {
    name + suffix: metric
    for name, metric in METRICS.items()
    for suffix in (("_bucket", "_sum", "_count") if metric.type == "histogram" else ("",))
}
WORDS = {
    "category": {category.name.lower() for category in Category},
    "fault": {fault.name.lower() for fault in Fault},
    "decision": {reason.value for reason in Reason},
    "state": {state.value for state in BreakerState},
    "to_state": {state.value for state in BreakerState},
    "attempt": {"first", "retry", "hedge"},
    "grpc_code": set(names.GO_CODES.values()),
}
LABELS = {label for metric in METRICS.values() for label in metric.labels} | {"le"}


def without_comments(path: Path) -> str:
    return "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))


def dashboard() -> dict[str, Any]:
    return json.loads((OPS / "grafana" / "faultwire.json").read_text())


def expressions() -> dict[str, str]:
    """Return every file's or panel's PromQL."""
    found = {path.name: without_comments(path) for path in (PROMETHEUS / "rules.yml", PROMETHEUS / "alerts.yml")}
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    return found


def recorded() -> set[str]:
    return set(re.findall(r"record: (\S+)", (PROMETHEUS / "rules.yml").read_text()))


@pytest.mark.parametrize("where", expressions())
def test_names_exist(where: str) -> None:
    """Every metric, label and value of a label with a fixed vocabulary is one that the code has."""
    text = expressions()[where]
    plain = re.sub(r"[\w]+(?::\w+)+", lambda found: "" if found[0] in recorded() else f"unknown_{found[0]}", text)
    used = set(re.findall(r"\bgrpc_(?:server|client|telemetry)_\w+", plain))
    assert not used - set(SERIES)
    assert "unknown_" not in plain
    matchers = re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', text)
    for label, _, values in matchers:
        assert label in LABELS | {"alertname", "alertstate"}
        assert "$" in values or label not in WORDS or set(values.split("|")) <= WORDS[label], (label, values)
    for group in re.findall(r"\b(?:by|without) \(([^)]*)\)", text):
        assert {label.strip() for label in group.split(",")} <= LABELS


def test_labels_belong_to_their_metric() -> None:
    """A matcher asks a metric only for labels that it has."""
    for where, text in expressions().items():
        for name, matchers in re.findall(r"\b(grpc_(?:server|client|telemetry)_\w+)\{([^}]*)\}", text):
            asked = set(re.findall(r'(\w+)(?:=~|!~|!=|=)"', matchers))
            assert asked <= set(SERIES[name].labels), (where, name)


def test_every_metric_is_shown() -> None:
    """No metric is made that neither a rule nor a panel uses, but for a few that other dashboards know."""
    text = " ".join(expressions().values())
    known_elsewhere = {"grpc_client_msg_received_total", "grpc_client_msg_sent_total", "grpc_server_started_total"}
    known_elsewhere |= {"grpc_client_started_total", "grpc_client_in_flight", "grpc_client_call_retries"}
    known_elsewhere |= {"grpc_client_retry_delay_seconds", "grpc_client_circuit_calls_total"}
    assert {name for name in METRICS if name not in text} == known_elsewhere


def test_every_alert_is_tested() -> None:
    """Each alert has a case where it fires and one where it does not."""
    alerts = re.findall(r"alert: (\w+)", (PROMETHEUS / "alerts.yml").read_text())
    tests = "".join(path.read_text() for path in PROMETHEUS.glob("*_test.yml"))
    for alert in alerts:
        assert re.search(rf"alertname: {alert}\n\s+exp_alerts:\n", tests), f"{alert} never fires"
        assert re.search(rf"alertname: {alert}, exp_alerts: \[\]", tests), f"{alert} is never silent"


def test_dashboard_is_whole() -> None:
    """Panels have ids of their own and lie on the grid without gaps or overlaps."""
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


def promtool(*arguments: str) -> None:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed (Debian's package prometheus has it): the rules were not tried")
    done = subprocess.run([tool, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_are_valid() -> None:
    """Prometheus accepts the rules."""
    promtool("check", "rules", "rules.yml", "alerts.yml")


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_an_alert_at_work() -> None:
    """A real Prometheus scrapes a server under load; an alert fires and resolves; its counts are the callers' own."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed (Debian's package of that name has it): no alert was seen to fire")
    program = OPS.parent / "scripts" / "show_alert.py"
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for line in ("GrpcErrorBudgetBurnsFast fires", "is over", "query results equal what the callers counted"):
        assert line in done.stdout


def test_rules_do_what_they_say() -> None:
    """Alerts fire when they should, and not otherwise."""
    promtool("test", "rules", "rules_test.yml", "long_test.yml")

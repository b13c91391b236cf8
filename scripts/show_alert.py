"""Show the alerts at work: a real Prometheus scrapes a server under load; an alert fires and resolves; counts agree.

    python scripts/show_alert.py

Needs Debian's package prometheus. The rules are those of ops/, with their windows made shorter, so that it takes about
a minute.
"""

import json
import logging
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from prometheus_client import CollectorRegistry, start_http_server

from faultwire.testing.v1 import scripted_pb2 as pb
from faultwire.testing.v1 import scripted_pb2_grpc
from grpc_faultwire import NotFound
from grpc_faultwire.observers import PrometheusObserver
from grpc_faultwire.observers.names import GO_CODES
from grpc_faultwire.sync import ServerInterceptor, wrap_channel
from grpc_faultwire.testing import ScriptedServicer, serve

OPS = Path(__file__).parents[1] / "ops" / "prometheus"
ALERT = "GrpcErrorBudgetBurnsFast"
SHORTER = {"5m": "5s", "10m": "10s", "30m": "8s", "1h": "15s", "2h": "20s", "6h": "12s", "1d": "40s", "3d": "60s"}
CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [rules.yml, alerts.yml]
scrape_configs:
  - {{job_name: shop, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}
"""


class Load:
    """Callers in threads; while `broken` is set, one call in ten meets a bug."""

    def __init__(self, address: str) -> None:
        self.broken = threading.Event()
        self.stopped = threading.Event()
        self.codes: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._channel = wrap_channel(grpc.insecure_channel(address))
        self._stub = scripted_pb2_grpc.ScriptedStub(self._channel)
        self._threads = [threading.Thread(target=self._run) for _ in range(4)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        number = 0
        while not self.stopped.wait(0.02):
            number += 1
            name = "missing" if number % 7 == 0 else "bug" if self.broken.is_set() and number % 10 == 0 else "ok"
            code = "OK"
            try:
                self._stub.UnaryUnary(pb.Request(step=name), timeout=5)
            except grpc.RpcError as error:
                code = error.code().name
            with self._lock:
                self.codes[code] += 1

    def stop(self) -> None:
        self.stopped.set()
        for thread in self._threads:
            thread.join()
        self._channel.close()


class Prometheus:
    """A real one, in a folder of its own."""

    def __init__(self, folder: Path, scraped: int, port: int) -> None:
        for name in ("rules.yml", "alerts.yml"):
            text = re.sub(r"\[(\w+)\]", lambda found: f"[{SHORTER[found[1]]}]", (OPS / name).read_text())
            text = re.sub(r"offset (\w+)", lambda found: f"offset {SHORTER[found[1]]}", text)
            (folder / name).write_text(re.sub(r"for: \w+", "for: 2s", text))
        (folder / "prometheus.yml").write_text(CONFIG.format(port=scraped))
        self.url = f"http://127.0.0.1:{port}/api/v1/"
        command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
        self.process = subprocess.Popen(command)

    def ask(self, path: str, **arguments: str) -> Any:
        try:
            with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(arguments)}", timeout=5) as answer:
                return json.load(answer)["data"]
        except OSError:
            return None

    def state(self) -> str:
        alerts = (self.ask("alerts") or {"alerts": []})["alerts"]
        return next((alert["state"] for alert in alerts if alert["labels"]["alertname"] == ALERT), "inactive")

    def counts(self) -> dict[str, int]:
        found = self.ask("query", query="sum by (grpc_code) (grpc_server_handled_total) > 0") or {"result": []}
        return {one["metric"]["grpc_code"]: int(one["value"][1]) for one in found["result"]}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait(what: str, condition: Callable[[], bool], timeout: float = 60) -> float:
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > timeout:
            raise SystemExit(f"{what}: not within {timeout:.0f} s")
        time.sleep(0.2)
    print(f"{time.monotonic() - started:5.1f} s  {what}", flush=True)
    return time.monotonic() - started


def missing(_context: Any) -> None:
    raise NotFound("No book.")


def bug(_context: Any) -> None:
    raise KeyError("a bug")


def show(folder: Path, registry: CollectorRegistry) -> bool:
    httpd, _ = start_http_server(0, "127.0.0.1", registry)
    observer = PrometheusObserver(registry)
    logging.getLogger("grpc_faultwire").addHandler(logging.NullHandler())  # else its lines go to standard error
    steps = {"ok": lambda _context: None, "missing": missing, "bug": bug}
    with serve([ScriptedServicer(steps)], [ServerInterceptor(observers=[observer])]) as server:
        prometheus = Prometheus(folder, httpd.server_port, free_port())
        load = Load(server.address)
        try:
            wait("Prometheus scrapes; one call in seven is NOT_FOUND", lambda: "NotFound" in prometheus.counts())
            time.sleep(6)
            if prometheus.state() != "inactive":
                raise SystemExit("a caller's mistakes burnt the budget")
            load.broken.set()
            wait(f"{ALERT} fires: one call in ten meets a bug", lambda: prometheus.state() == "firing")
            load.broken.clear()
            wait(f"{ALERT} is over", lambda: prometheus.state() == "inactive")
            load.stop()
            expected = {GO_CODES[code]: count for code, count in load.codes.items()}
            wait("query results equal what the callers counted", lambda: prometheus.counts() == expected, 10)
            print(json.dumps(expected))
        finally:
            load.stop()
            prometheus.process.terminate()
            prometheus.process.wait()
            httpd.shutdown()
            httpd.server_close()
    return True


def main() -> int:
    if shutil.which("prometheus") is None:
        print("prometheus is not installed (Debian's package of that name has it)", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        return 0 if show(Path(folder), CollectorRegistry()) else 1


if __name__ == "__main__":
    raise SystemExit(main())

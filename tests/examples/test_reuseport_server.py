"""Several processes on one port: what is scraped from all of them is what the callers counted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bookshop.v1 import bookshop_pb2, bookshop_pb2_grpc
from grpc_faultwire import sync
from grpc_faultwire.observers.names import GO_CODES

ROOT = Path(__file__).parents[2]


class Example:
    """The running example, and its lines."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "examples.reuseport_server", "0", "0", "2"]
        environment = {key: value for key, value in os.environ.items() if key != "PROMETHEUS_MULTIPROC_DIR"}
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._lines: Queue[str] = Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.url = self.next(r"metrics on (\S+)")[1]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)

    def next(self, pattern: str) -> re.Match[str]:
        found = re.search(pattern, self._lines.get(timeout=20))
        assert found is not None
        return found

    def worker(self) -> tuple[int, str]:
        found = self.next(r"worker (\d+) serves on (\S+)")
        return int(found[1]), found[2]

    def scraped(self, name: str) -> Counter[str]:
        with urllib.request.urlopen(self.url, timeout=5) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        counts: Counter[str] = Counter()
        for family in families:
            for sample in family.samples:
                if sample.name == name and sample.value:
                    counts[sample.labels.get("grpc_code", "")] += int(sample.value)
        return counts

    def must_count(self, name: str, counts: Counter[str]) -> None:
        # A server counts a call after its caller has the answer.
        for _ in range(100):
            if self.scraped(name) == counts:
                return
            threading.Event().wait(0.02)
        assert self.scraped(name) == counts

    def close(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(30)
        self._reader.join(30)
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture
def example() -> Iterator[Example]:
    if sys.platform != "linux":
        pytest.skip("only Linux spreads connections over the processes that share a port")
    running = Example()
    yield running
    running.close()


def run(address: str, counts: Counter[str]) -> None:
    """Make calls over connections of their own, and count how they end."""
    request = bookshop_pb2.GetBookRequest(isbn="1")
    for isbn in ("1", "9780141439518") * 8:
        channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        request.isbn = isbn
        with sync.wrap_channel(channel) as wrapped:
            stub = bookshop_pb2_grpc.BookshopStub(wrapped)
            for _ in range(3):
                with pytest.raises(grpc.RpcError) as raised:
                    stub.GetBook(request, timeout=5)
                counts[GO_CODES[raised.value.code().name]] += 1


@pytest.mark.timeout(180)  # four interpreters start one after the other: on a busy machine that takes long
def test_metrics_add_up(example: Example) -> None:
    """Over two processes, and after one was killed and another has taken its place; nothing is left in flight."""
    first, address = example.worker()
    example.worker()
    counts: Counter[str] = Counter()
    run(address, counts)
    assert set(counts) == {"NotFound", "Internal"}
    example.must_count("grpc_server_handled_total", counts)
    os.kill(first, signal.SIGKILL)
    example.worker()
    run(address, counts)
    example.must_count("grpc_server_handled_total", counts)
    example.must_count("grpc_server_errors_total", counts)
    example.must_count("grpc_server_started_total", Counter({"": counts.total()}))
    example.must_count("grpc_server_in_flight", Counter())

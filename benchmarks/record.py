"""What a run has found: saved after each part, so that a run that was cut goes on where it stopped."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")
PACKAGES = (
    "grpcio", "protobuf", "prometheus-client", "opentelemetry-sdk", "opentelemetry-instrumentation-grpc",
    "grpc-interceptor", "py-grpc-prometheus", "py-async-grpc-prometheus", "google-api-core", "tenacity", "stamina",
    "pybreaker", "circuitbreaker", "purgatory",
)  # fmt: skip


class Record:
    """The figures of one run, by section and name.

    Args:
        name: of its file.
    """

    def __init__(self, name: str) -> None:
        self._path = RESULTS / f"{name}.json"
        self._partial = RESULTS / f"{name}.partial.json"
        self._revision = revision()
        self.sections: dict[str, dict[str, Any]] = {}
        if self._partial.exists():
            found = json.loads(self._partial.read_text())
            if found["about"]["revision"] == self._revision:
                self.sections = found["sections"]

    def has(self, section: str, name: str) -> bool:
        return name in self.sections.get(section, {})

    def add(self, section: str, name: str, figures: Any) -> None:
        """Keep a figure, and save all there are."""
        self.sections.setdefault(section, {})[name] = rounded(figures)
        self._save(self._partial)

    def finish(self) -> Path:
        """Save everything where it stays, and return where that is."""
        self._save(self._path)
        self._partial.unlink(missing_ok=True)
        return self._path

    def _save(self, path: Path) -> None:
        RESULTS.mkdir(exist_ok=True)
        written = path.with_suffix(".new")
        written.write_text(json.dumps({"about": about(self._revision), "sections": self.sections}) + "\n")
        written.replace(path)


def rounded(figures: Any) -> Any:
    if isinstance(figures, float):
        return round(figures, 2)
    if isinstance(figures, dict):
        return {name: rounded(value) for name, value in figures.items()}
    return [rounded(value) for value in figures] if isinstance(figures, list) else figures


def about(code: str) -> dict[str, Any]:
    """Return where and with what a run was made."""
    return {
        "revision": code,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1),
        "packages": {name: version for name in PACKAGES if (version := version_of(name))},
    }


def version_of(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def revision() -> str:
    """Return the commit of what is measured; "" outside a repository."""
    command = ["git", "log", "-1", "--format=%h", "--", "interceptors"]
    shown = subprocess.run(command, check=False, capture_output=True, text=True, cwd=RESULTS.parent.parent)
    return shown.stdout.strip()

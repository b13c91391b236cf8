"""The other processes: bookshop servers with their logs, and suppliers that do not answer."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self


class Log:
    """The lines that a server writes, as they come."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._lines)

    def append(self, line: str) -> None:
        with self._changed:
            self._lines.append(line)
            self._changed.notify_all()

    def find(self, fits: Callable[[str], bool], *, since: int = 0, timeout: float = 10.0) -> str:
        """Return the first line that fits, waiting for it: a server may log after its caller has gone. "": none."""

        def found() -> str:
            return next(filter(fits, self._lines[since:]), "")

        with self._changed:
            return self._changed.wait_for(found, timeout)


class Server:
    """A bookshop in a process of its own. `ready` waits until it serves.

    Args:
        world: "sync" or "aio".
        options: more arguments of examples.bookshop.server.
    """

    def __init__(self, world: str, *options: str) -> None:
        self.log = Log()
        self.address = ""
        command = [sys.executable, "-m", "examples.bookshop.server", "--world", world, "--until-eof", *options]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, encoding="utf-8")
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def ready(self) -> Self:
        self.address = self._process.stdout.readline().strip()
        if not self.address:
            self._reader.join()
            raise RuntimeError("a server did not start: " + self.log.find(bool, since=max(0, len(self.log) - 1)))
        return self

    def tell(self, mood: str = "") -> dict[str, dict[str, int]]:
        """Put a ``--moody`` shop in a mood, if one is named; return what each caller has sent it so far."""
        print(mood, file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            stream.close()

    def _read_log(self) -> None:
        for line in self._process.stderr:
            self.log.append(line.rstrip("\n"))


@contextlib.contextmanager
def absent_supplier() -> Iterator[str]:
    """Give an address that refuses every connection: the port is taken, and nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@contextlib.contextmanager
def silent_supplier() -> Iterator[str]:
    """Give an address that takes every connection, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"

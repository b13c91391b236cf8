"""The thread that waits out backoffs, in a process that forks: the child has no threads but the one that forked."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

FORKS = """
import os, signal, threading
from grpc_faultwire.sync.timer import TIMER

signal.alarm(20)  # for the parent; a child does not inherit it

def rings():
    rang = threading.Event()
    TIMER.after(0.0, rang.set)
    posted = threading.Event()
    TIMER.post(posted.set)
    return rang.wait(5) and posted.wait(5)

def threads():
    return [thread.name for thread in threading.enumerate()].count("faultwire-timer")

{before}
child = os.fork()
if child == 0:
    signal.alarm(20)
    before, rang, after = threads(), rings(), threads()
    print("child", before, rang, after, inherited, flush=True)
    os._exit(0)
os.waitpid(child, 0)
{after}
print("parent", rings(), threads())
"""


def told(before: str, after: str = "") -> list[str]:
    """Run a process that does something, forks, and tells what became of the timer in child and parent."""
    script = FORKS.format(before=f"inherited = []\n{before}", after=after)
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=40, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def test_the_timer_starts_anew_in_a_child() -> None:
    """Its thread stays behind at the fork: the next alarm starts another, and the parent's goes on."""
    assert told("rings()") == ["child 0 True 1 []", "parent True 1"]


def test_a_lock_that_was_held_at_the_fork_is_replaced() -> None:
    """Whoever was just starting the timer is not there any more to let its lock go."""
    assert told("TIMER._lock.acquire()", "TIMER._lock.release()") == ["child 0 True 1 []", "parent True 1"]


def test_the_parent_s_alarms_do_not_ring_in_a_child() -> None:
    """They belong to calls of the parent; a child that rang them would send those again."""
    before = "TIMER._running = True  # no thread: the alarm waits until after the fork\n"
    before += "TIMER.after(0.0, lambda: inherited.append('rang'))"
    after = "TIMER._running = False"
    assert told(before, after) == ["child 0 True 1 []", "parent True 1"]

"""Processes as /proc shows them. An ended one that nobody has reaped yet counts as gone."""

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    pid: int
    parent: int
    uid: int
    name: str  # at most 15 bytes of it: proc_pid_comm(5)


def find(pid: int) -> Process | None:
    """The process, or None once it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    if fields["State"][0] in "ZX":
        return None
    return Process(pid, int(fields["PPid"]), int(fields["Uid"].split()[0]), fields["Name"])


def everyone() -> Iterator[Process]:
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (process := find(int(entry))):
            yield process


def descendants(pids: Iterable[int]) -> list[Process]:
    """The children of these, their children, and so on; the nearest first."""
    all_of_them, found, parents = list(everyone()), list[Process](), set(pids)
    while parents:
        born = [process for process in all_of_them if process.parent in parents]
        found += born
        parents = {process.pid for process in born}
    return found


def kill(pids: Iterable[int], timeout: float = 5.0) -> None:
    """KILL each and wait until none is left. Raises TimeoutError."""
    left = set(pids)
    deadline = time.monotonic() + timeout
    while left:
        if time.monotonic() > deadline:
            raise TimeoutError(f"still there after KILL: {sorted(left)}")
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        left = {pid for pid in left if find(pid)}
        time.sleep(0.01)


def running(words: str) -> list[int]:
    """The processes whose command line holds these words, in containers too."""
    found = []
    for process in everyone():
        with suppress(FileNotFoundError, ProcessLookupError):
            line = Path(f"/proc/{process.pid}/cmdline").read_bytes().replace(b"\0", b" ")
            if words.encode() in line and process.pid != os.getpid():
                found.append(process.pid)
    return found

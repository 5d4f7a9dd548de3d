"""Limits of the system's that are met: of processes, and of open files."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from testbed import needs, processes, run, through

_serial = count(1)


class ProcessLimit:
    """At first there is none. It counts for root, too, and counts threads as the kernel does."""

    def __init__(self, cgroup: Path) -> None:
        self._cgroup = cgroup

    def target(self, python: str | Path | None = None) -> str:
        """A target under the limit. ``python`` is called python3 by name."""
        join = 'echo $$ >"$0" && exec "$@"'
        return through.target(["sh", "-c", join, self._cgroup / "cgroup.procs"], python)

    def take(self, pid: int) -> None:
        """Have a process that runs already under the limit, and whatever it starts later."""
        (self._cgroup / "cgroup.procs").write_text(str(pid))

    def set(self, most: int) -> None:
        """So many processes, those that run among them; over it none is ended, nor started."""
        (self._cgroup / "pids.max").write_text(str(most))

    def hold(self, more: int = 0) -> None:
        """So many more than run now."""
        self.set(int((self._cgroup / "pids.current").read_text()) + more)

    def lift(self) -> None:
        (self._cgroup / "pids.max").write_text("max")

    def pids(self) -> list[int]:
        return [int(line) for line in (self._cgroup / "cgroup.procs").read_text().splitlines()]

    def close(self) -> None:
        """KILL all that is under it."""
        while pids := self.pids():
            processes.kill(pids)
        # Zombies count until they are reaped, and a directory with them stays.
        with suppress(OSError):
            self._cgroup.rmdir()


@contextmanager
def process_limit() -> Iterator[ProcessLimit]:
    needs.root("a process limit for root")
    parent = next((path for path in run.CGROUPS if _counts_processes(path)), None)
    if parent is None:
        needs.missing("there are no control groups that count processes")
    cgroup = parent / f"remit-testbed-{os.getpid()}-{next(_serial)}"
    cgroup.mkdir()
    limit = ProcessLimit(cgroup)
    try:
        yield limit
    finally:
        limit.close()


def _counts_processes(cgroup: Path) -> bool:
    """Whether the groups that are made in it do."""
    controllers = cgroup / "cgroup.subtree_control"
    if controllers.exists():
        if "pids" not in controllers.read_text().split():
            with suppress(OSError):
                controllers.write_text("+pids")
        return "pids" in controllers.read_text().split()
    return (cgroup / "cgroup.procs").exists()


def descriptor_limit(soft: int, hard: int | None = None, python: str | Path | None = None) -> str:
    """A target where a process may have so many files open; ``hard`` is what it may raise it to,
    and is the same unless given. ``python`` is called python3 by name."""
    argv = [needs.tool("prlimit"), f"--nofile={soft}:{hard or soft}", "--"]
    return through.target(argv, python)

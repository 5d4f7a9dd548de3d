"""Who is who among the processes of a play.

All of them run an interpreter whose path is the play's own, so that path in a command line tells
them from any others on this computer, in containers too.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from testbed import processes
from testbed.processes import Process

_NONCE = re.compile(r"[0-9a-f]{16}")
_AGENT_WORDS = 6  # python -I -S -c STAGE0 NONCE


def words(pid: int) -> list[str]:
    """The command line; empty once the process has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    return []


def everyone(python: str) -> list[Process]:
    """All processes with that interpreter's path in their command lines, the client's included."""
    return [
        process
        for process in processes.everyone()
        if any(python in word for word in words(process.pid))
    ]


def of_job(python: str, mark: str) -> list[Process]:
    """The processes of the job with that mark, what it left behind among them."""
    return [process for process in everyone(python) if mark in words(process.pid)]


class Cast:
    """A look at the processes of one play."""

    def __init__(self, python: str) -> None:
        self.all = everyone(python)
        self.remits = [process for process in self.all if _is_remit(python, words(process.pid))]

    def agents(self) -> list[int]:
        """Only they wait by epoll."""
        return [process.pid for process in self.remits if _has_open(process.pid, "[eventpoll]")]

    def attended(self) -> list[int]:
        """Agents that have their janitors. One that lost it is about to leave; what it would leave
        behind if it were killed as well, nobody promises to end."""
        janitors = self.janitors()
        agents = self.agents()
        return [p.pid for p in self.remits if p.pid in agents and p.parent in janitors]

    def janitors(self) -> list[int]:
        parents = {process.parent for process in self.remits if process.pid in self.agents()}
        return [process.pid for process in self.remits if process.pid in parents]

    def forkservers(self) -> list[int]:
        """Supervisors are children of an agent, too, where it adopts orphans; they have left its
        session."""
        agents = self.agents()
        return [
            process.pid
            for process in self.remits
            if process.name == "remit-keep"
            and process.parent in agents
            and _session(process.pid) == _session(process.parent)
        ]

    def clients(self, program: str) -> list[int]:
        return [process.pid for process in self.all if process.name == program]


def supervisors(state: Path) -> Iterator[tuple[str, int]]:
    """Job id and pid (in the namespace of who wrote it) of each job that is not over."""
    for path in sorted(state.glob("jobs/*/process.json")):
        if not (path.parent / "outcome.json").exists():
            with suppress(FileNotFoundError, ValueError, KeyError):
                yield path.parent.name, json.loads(path.read_text())["supervisor"]["pid"]


def here(pids: Iterable[Process], inner: int) -> int | None:
    """The pid on this computer of the process that its own namespace calls ``inner``."""
    for process in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            status = Path(f"/proc/{process.pid}/status").read_text(errors="replace")
            for line in status.splitlines():
                if line.startswith("NSpid:") and int(line.split()[-1]) == inner:
                    return process.pid
    return None


def _is_remit(python: str, argv: list[str]) -> bool:
    return len(argv) == _AGENT_WORDS and argv[0] == python and bool(_NONCE.fullmatch(argv[-1]))


def _session(pid: int) -> int:
    """0 once the process is gone."""
    with suppress(ProcessLookupError):
        return os.getsid(pid)
    return 0


def _has_open(pid: int, what: str) -> bool:
    directory = f"/proc/{pid}/fd"
    with suppress(FileNotFoundError, ProcessLookupError):
        for fd in os.listdir(directory):
            with suppress(FileNotFoundError):
                if what in os.readlink(f"{directory}/{fd}"):
                    return True
    return False

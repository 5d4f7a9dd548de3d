"""The processes of a kept job, as its supervisor finds them. Standard library only, Python 3.6."""

from __future__ import annotations

import os

from remit._agent.base import process_tree
from remit._agent.base.subreaper import become_subreaper
from remit._jobdir import proc


class Processes:
    def __init__(self) -> None:
        self.me = 0  # the supervisor's pid
        self.adopts = False  # orphans among the job's processes
        self.pid = 0  # the job's first process; 0 where it could not be started
        self._start = 0  # its start time, once somebody asked
        self._is_reaped = False
        self._id = b""

    def begin(self, job_id: bytes) -> None:
        """In the supervisor, before the first process is there."""
        self._id = job_id
        self.me = os.getpid()
        self.adopts = become_subreaper()

    def reaped(self) -> None:
        """The first process has been: its pid may be anybody's from now on."""
        self._is_reaped = True

    def roots(self) -> list[tuple[int, int]]:
        if not self._start and not self._is_reaped:
            self._start = proc.start_time(self.pid) or 0
        return [(self.pid, self._start)]

    def search(self) -> process_tree.Search:
        """Where orphans are adopted all that is the job's descends from us; else sessions tell."""
        adopted = self._adopted if self.adopts else None
        return process_tree.Search({self._id: self.roots()}, adopted, by_session=not self.adopts)

    def left(self) -> list[str]:
        """Those that are left, described."""
        if self.adopts and not _has_children():
            return []
        return process_tree.named(self.search())

    def are_gone(self) -> bool:
        """Whether none is left that a request could be about."""
        return (self.adopts and not _has_children()) or not self.search()()

    def _adopted(self, everyone: dict[int, proc.Process]) -> list[int]:
        """Our children, but for supervisors of other jobs, which were started from within this."""
        return [
            process.pid
            for process in everyone.values()
            if process.ppid == self.me and not process_tree.is_supervisor(process.pid)
        ]


def _has_children() -> bool:
    """Whether any child, ours or adopted, is left; an ended one that was not reaped counts."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True

"""Orphans: processes whose parents have ended. They come to the agent, else to the janitor.

For that a process declares itself their reaper. It takes ctypes, which Debian's python3-minimal
lacks. There they go to init and are found by their environment, or by the session of one that is.
Elsewhere one that left its session, dropped its environment and lost its parent is ended with the
jobs whose it can only be: `remit._agent.base.news`.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING

from remit._agent.base import process_tree
from remit._agent.base.news import now
from remit._jobdir import proc

if TYPE_CHECKING:
    from typing import Any, Callable, Collection, Iterable, Mapping

    from remit._agent.base.children import Children
    from remit._agent.base.news import Lifetimes

_PR_SET_CHILD_SUBREAPER = 36
# What those bear whose job is not told: nothing, or the id of the job within which we run.
_NOBODY = (None, os.environb.get(process_tree.VARIABLE))


@lru_cache(None)
def load() -> Any:
    """What `become_subreaper` calls, or None; found once, so that forks may share it."""
    try:
        import ctypes

        return ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return None


def become_subreaper() -> bool:
    """Makes orphans among our descendants our children; whether that works here."""
    prctl = load()
    return prctl is not None and not prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def runs_this_program(pid: int) -> bool:
    """Whether that is a fork of this program: a supervisor, or a helper about to end.

    The nonce makes our command line nobody else's.
    """
    return _command(pid) == _command("self")


def _command(pid: int | str) -> bytes:
    try:
        with open("/proc/%s/cmdline" % pid, "rb") as file:
            return file.read()
    except OSError:
        return b""


class Subreaper:
    """What the agent adopted: a quick way to see that an ended job has left nothing."""

    def __init__(self, children: Children, lifetimes: Lifetimes) -> None:
        self._children = children
        self._lifetimes = lifetimes
        self.adopting = become_subreaper()
        self.has_any = False  # of any job, at the last look

    def may_be_of(self, job_id: str) -> bool:
        """Whether a job whose first process has ended may have left something behind.

        False is certain: whatever it left would have become our child.
        """
        self.has_any = True
        if not self.adopting:
            return True
        try:
            with open("/proc/self/task/%d/children" % os.getpid()) as file:
                pids = {int(word) for word in file.read().split()}
        except OSError:
            return True  # a kernel without that list
        found = [proc.look(pid) for pid in pids - self._children.known]
        living = [one for one in found if one is not None and one.state not in "ZX"]
        self.has_any = bool(living)
        return any(self._may_have(job_id, process) for process in living)

    def _may_have(self, job_id: str, orphan: proc.Process) -> bool:
        bears = process_tree.job_of(orphan.pid)
        if bears not in _NOBODY:
            return bears == job_id.encode()
        may = self._lifetimes.may_only_be_of([job_id], orphan.start)
        return may and not runs_this_program(orphan.pid)

    def search(
        self, jobs: Mapping[str, Iterable[tuple[int, int]]], *others: str
    ) -> process_tree.Search:
        """For a helper process: finds what is of these jobs, by ids with their roots, strays that
        can be nobody's but theirs or of those ``others`` included."""
        ids = {job_id.encode(): roots for job_id, roots in jobs.items()}
        if not self.adopting:
            return process_tree.Search(ids)
        whose = {*jobs, *others}
        return process_tree.Search(
            ids, strays(self._lifetimes, whose, self._children.known, now() or 0)
        )


def strays(
    lifetimes: Lifetimes, job_ids: Collection[str], known: Collection[int], until: int | None = None
) -> Callable[[dict[int, proc.Process]], list[int]]:
    """Finds those whom the calling process has adopted, of which nothing but the time tells that
    they are of these jobs. ``known``: its children that are something else, as they were
    ``until`` then, in ticks."""
    adopter = os.getpid()

    def find(everyone: dict[int, proc.Process]) -> list[int]:
        found = [
            process.pid
            for process in everyone.values()
            if process.ppid == adopter
            and process.pid not in known
            and process.state not in "ZX"
            # Children that the adopter has made since then may be anything.
            and (until is None or process.start <= until)
            and lifetimes.may_only_be_of(job_ids, process.start)
            and not runs_this_program(process.pid)
            and not process_tree.is_supervisor(process.pid)
        ]
        return [pid for pid in found if process_tree.job_of(pid) in _NOBODY]

    return find

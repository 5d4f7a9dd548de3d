"""Pruning: finished kept jobs that are old, or that take too much room, are removed.

Runs in a helper process of the agent. Standard library only, Python 3.6.
"""

from __future__ import annotations

import os
import stat
import time
from collections import namedtuple
from typing import TYPE_CHECKING

from remit._agent.base import scan
from remit._agent.kept import control, lookup
from remit._jobdir import files, liveness, removal, views
from remit._jobdir.statedir import State
from remit._wire import states
from remit._wire.names import is_job_id
from remit._wire.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

# Jobs removed for one answer, which has to fit into a frame.
_MOST = 1000
# st_blocks counts in these, whatever the file system's own blocks are: stat(2)
_BLOCK = 512

# One directory in jobs/. size int: bytes of disk it takes; view: the job map, or None where nobody
# may remove it; ended float: when the job ended, or its directory last changed where it is LOST.
Found = namedtuple("Found", "id size view ended")


def prune(
    path: bytes,
    older_than: float | None,
    max_total: int | None,
    dry_run: bool,
    after: tuple[float, str] | None,
) -> dict[str, Any]:
    """``{jobs, next}``: what was removed, or would be, and where to go on. Raises Refused.

    ``older_than`` is seconds since a job's end; of what is left the oldest go until all that is
    kept takes ``max_total`` bytes of disk at most. ``after`` is the ``next`` of an earlier answer.
    """
    state = State(path)
    try:
        jobs_fd = state.open_jobs()
    except FileNotFoundError:
        return {"jobs": [], "next": None}
    found = []
    for name, told in scan.each(lambda each: list(_look(jobs_fd, each)), os.listdir(jobs_fd)):
        found.append(Found(name, 0, None, 0.0) if told is scan.Hanging else Found(*told))
    due = chosen(found, time.time(), older_than, max_total)
    if after is not None:
        due = [each for each in due if _order(each) > tuple(after)]
    removed = []
    gone_fd = -1 if dry_run else state.open_gone(create=True)
    for each in due[:_MOST]:
        if dry_run or _remove(jobs_fd, gone_fd, each):
            job = {"id": each.id, "name": each.view["name"], "state": each.view["state"]}
            removed.append(dict(job, finished=each.ended, size=each.size))
    if not dry_run:
        control.forget_old_seals(gone_fd)
    last = due[_MOST - 1] if len(due) > _MOST else None
    return {"jobs": removed, "next": None if last is None else [last.ended, last.id]}


def chosen(
    found: Iterable[Found],
    now: float,
    older_than: float | None,
    max_total: int | None,
) -> list[Found]:
    """Which of them are to go, the oldest first. Pure.

    A job whose end was not recorded (LOST) goes for its age only.
    """
    total = 0
    due = []
    ended = []
    for each in found:
        if each.view is not None and older_than is not None and each.ended <= now - older_than:
            due.append(each)
            continue
        total += each.size
        if each.view is not None and each.view["state"] != states.LOST:
            ended.append(each)
    for each in sorted(ended, key=_order):
        if max_total is None or total <= max_total:
            break
        due.append(each)
        total -= each.size
    return sorted(due, key=_order)


def _order(each: Found) -> tuple[float, str]:
    return each.ended, each.id


def _look(jobs_fd: int, name: str) -> Found:
    """Only what is a job's directory, and known to be over, has a view."""
    dir_fd = None
    try:
        if is_job_id(name):
            dir_fd = lookup.open_job(jobs_fd, name)
    except Refused:
        pass  # not ours alone: it is left alone
    if dir_fd is None:
        return Found(name, 0, None, 0.0)
    try:
        view = views.job_map(dir_fd, name)
        size = _disk_use(dir_fd)
        if not _is_over(dir_fd, view):
            return Found(name, size, None, 0.0)
        ended = view["finished"]
        return Found(name, size, view, os.fstat(dir_fd).st_mtime if ended is None else ended)
    except OSError:
        return Found(name, 0, None, 0.0)  # removed as we looked
    finally:
        os.close(dir_fd)


def _is_over(dir_fd: int, view: dict[str, Any]) -> bool:
    """Whether its end is known here, nothing of it runs, and no open session has a claim on it."""
    if view["state"] not in states.FINISHED or view["outcome"] is None:
        return False  # it runs, may run elsewhere, or is no job that can be read
    try:
        if liveness.alive(dir_fd):
            return False
    except OSError:
        # No locks here; an outcome says that the job is over, and what it left behind.
        if view["state"] == states.LOST or view["outcome"]["left_behind"]:
            return False
    if view["lifetime"] != "session":
        return True
    try:
        return not lookup.session_lives(files.read_json(dir_fd, files.JOB))
    except (FileNotFoundError, files.Unreadable):
        return False


def _disk_use(dir_fd: int) -> int:
    size = os.fstat(dir_fd).st_blocks * _BLOCK
    for name in os.listdir(dir_fd):
        status = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        size += status.st_blocks * _BLOCK
        if stat.S_ISDIR(status.st_mode):
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=dir_fd)
            try:
                size += sum(
                    os.stat(each, dir_fd=fd, follow_symlinks=False).st_blocks * _BLOCK
                    for each in os.listdir(fd)
                )
            finally:
                os.close(fd)
    return size


def _remove(jobs_fd: int, gone_fd: int, each: Found) -> bool:
    """Whether it was we who removed it, and it still was what was chosen."""
    try:
        dir_fd = lookup.open_job(jobs_fd, each.id)
        if dir_fd is None:
            return False
        try:
            if not _is_over(dir_fd, views.job_map(dir_fd, each.id)):
                return False
            removal.remove(jobs_fd, gone_fd, each.id, dir_fd)
            return True
        finally:
            os.close(dir_fd)
    except (Refused, OSError):
        return False  # somebody else was faster, or it cannot be removed: it is not listed

"""How a kept job ended, in the words of ``outcome.json``, and writing that down, now or later.

Until it stands there the job is not over. Standard library only, Python 3.6.
"""

from __future__ import annotations

import errno
import os
import time
from collections import namedtuple
from typing import TYPE_CHECKING

from remit._agent.base import oom, process_tree
from remit._jobdir import files
from remit._wire.ended import of_status

if TYPE_CHECKING:
    from typing import Any

    from remit._agent.kept.trouble import Log


try:
    import resource  # noqa: F401

    _KNOWS_USAGE = True
except ImportError:  # python3-minimal: os.wait4 fails, and the status it took is lost
    _KNOWS_USAGE = False


# How the first process ended: wait status (None where it never was), rusage (or None), and when.
End = namedtuple("End", "status usage time")


def wait() -> tuple[int, int, Any]:
    """The pid, status and rusage (None where that cannot be had) of a child that has ended."""
    if not _KNOWS_USAGE:
        return (*os.waitpid(-1, os.WNOHANG), None)
    return os.wait4(-1, os.WNOHANG)


def how_it_ended(end: End) -> dict[str, Any]:
    if end.status is None:
        return {"exit_status": None, "signal": None, "reason": "start-failed"}
    how = of_status(end.status)
    return {
        "exit_status": how.exit_status,
        "signal": how.signal,
        "reason": "exited" if how.signal is None else "signalled",
        "core": how.core,
        "rusage": None if end.usage is None else _rusage(end.usage),
    }


def _rusage(usage: Any) -> dict[str, float]:
    return {
        "user": usage.ru_utime,
        "system": usage.ru_stime,
        "max_rss": usage.ru_maxrss * 1024,
    }


def note(end: End, left: list[str], open_pipes: set[int], by_itself: bool) -> str | None:
    """What else is to be said. ``open_pipes`` are the inodes of pipes that were not drained."""
    if open_pipes:
        holders = process_tree.holders(open_pipes)
        return "output held open by %s" % (", ".join(holders) or "a process out of sight")
    if left:
        return "left running: %s" % ", ".join(left)
    if of_status(end.status).signal == "SIGKILL" and by_itself:
        return oom.NOTE if oom.look() else None
    return None


def words_of(exc: Exception) -> str:
    """What is said of an exception to whoever asked for what failed."""
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc) or type(exc).__name__


# Seconds between two tries: at first, doubled each time, and at most.
_RETRY = 0.1
_LONGEST_RETRY = 5.0
# What is said of a directory that is not there any more, by a server of files or by a mount whose
# server is dead, and the seconds for which it may come back all the same.
_GONE = (errno.ESTALE, errno.ENOENT, errno.ENOTCONN)
_GONE_PATIENCE = 300.0


class Recorder:
    def __init__(self, log: Log) -> None:
        self.due = 0.0  # when the next try may be, by the monotonic clock
        self._log = log
        self._retry = _RETRY
        self._gone_since: float | None = None  # when the directory was first said to be gone

    def write(self, dir_fd: int, outcome: dict[str, Any]) -> bool:
        """Tries it; whether no other try is of use, since it stands there, or nobody is left who
        could read it."""
        try:
            files.write_outcome(dir_fd, outcome)
        except Exception as exc:
            self._log.note(exc)
            self.due = time.monotonic() + self._retry
            self._retry = min(2 * self._retry, _LONGEST_RETRY)
            return self._is_gone(dir_fd, exc)
        return True

    def _is_gone(self, dir_fd: int, exc: Exception) -> bool:
        """Whether the directory in which nothing can be written is gone for good."""
        try:
            if not os.fstat(dir_fd).st_nlink:
                return True
        except OSError as why:
            exc = why
        if not isinstance(exc, OSError) or exc.errno not in _GONE:
            self._gone_since = None
            return False
        now = time.monotonic()
        if self._gone_since is None:
            self._gone_since = now
        return now - self._gone_since >= _GONE_PATIENCE

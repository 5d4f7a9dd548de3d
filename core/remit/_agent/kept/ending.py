"""How a kept job ended, in the words of ``outcome.json``. Standard library only, Python 3.6."""

from __future__ import annotations

import os
from collections import namedtuple
from typing import TYPE_CHECKING

from remit._agent.base import oom, process_tree
from remit._wire.ended import of_status

try:
    import resource  # noqa: F401

    _KNOWS_USAGE = True
except ImportError:  # python3-minimal: os.wait4 fails, and the status it took is lost
    _KNOWS_USAGE = False

if TYPE_CHECKING:
    from typing import Any

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

"""Orphans: processes whose parents have ended. They come to the agent, else to the janitor.

For that a process declares itself their reaper. It takes ctypes, which Debian's python3-minimal
lacks. There they go to init and are found by session and environment alone, so one that left its
session, dropped its environment and lost its parent is not found, neither by a stop nor at the
session's end; and each look at what a job left behind is one through the whole of /proc.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from remit.agent import tree

if TYPE_CHECKING:
    from typing import Any

    from remit.agent.children import Children

_PR_SET_CHILD_SUBREAPER = 36


_prctl: list[Any] = []


def load() -> Any:
    """What `become_subreaper` calls, or None; found once, so that forks may share it."""
    if not _prctl:
        try:
            import ctypes

            _prctl.append(ctypes.CDLL(None).prctl)
        except (ImportError, OSError, AttributeError):
            _prctl.append(None)
    return _prctl[0]


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


class Orphans:
    """What the agent adopted: a quick way to see that an ended job has left nothing."""

    def __init__(self, children: Children) -> None:
        self._children = children
        self._adopting = become_subreaper()

    def may_be_of(self, job_id: bytes) -> bool:
        """Whether a job whose first process has ended may have left something behind.

        False is certain: whatever it left would have become our child.
        """
        if not self._adopting:
            return True
        try:
            with open("/proc/self/task/%d/children" % os.getpid()) as file:
                pids = {int(word) for word in file.read().split()}
        except OSError:
            return True  # a kernel without that list
        return any(
            _lives(pid) and tree.job_of(pid) in (job_id, None) and not runs_this_program(pid)
            for pid in pids - self._children.known
        )


def _lives(pid: int) -> bool:
    process = tree.look(pid)
    return process is not None and process.state not in "ZX"

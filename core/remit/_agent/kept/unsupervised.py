"""Supervisors that give no answer, and what becomes of their jobs. For helper processes: it blocks.

A job may stop its own supervisor (SIGSTOP), by mistake or not; it may take away the files by which
that one is asked. Standard library only, Python 3.6.
"""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from remit._agent.base import process_tree
from remit._jobdir import liveness, proc

if TYPE_CHECKING:
    from typing import Any

    Root = tuple[int, int]  # pid and start time

_POLL = 0.01
# Seconds between two looks whether a supervisor is stopped, and how often it may be found so.
_LOOK = 0.1
_MOST_STOPS = 50


def root(process: object) -> Root | None:
    """The pid and start time that stand in this part of process.json."""
    if not isinstance(process, dict):
        return None
    pid, start = process.get("pid"), process.get("start_time")
    return (pid, start) if type(pid) is int and type(start) is int else None


class Watch:
    """Keeps a supervisor going, as long as somebody waits for it."""

    def __init__(self, supervisor: Root | None) -> None:
        self._supervisor = supervisor
        self._look_at = 0.0
        self._stops = 0

    def look(self) -> bool:
        """To be called often. False once it was found stopped so often that it is no use."""
        if self._supervisor is not None and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK
            self._stops += process_tree.wake(*self._supervisor)
        return self._stops <= _MOST_STOPS


def supervisor_of(process: dict[str, Any]) -> Root | None:
    """Where a signal would reach it."""
    return root(process.get("supervisor")) if liveness.reachable(process) else None


def runs(process: dict[str, Any]) -> bool:
    """Whether the first process or its supervisor still runs here."""
    roots = [root(process), supervisor_of(process)]
    return liveness.reachable(process) and any(each and proc.lives(*each) for each in roots)


def end(job_id: str, process: dict[str, Any], grace: float, patience: float) -> list[str]:
    """Ends a job whose supervisor is gone, or could not be asked. What survived, described.

    ``process`` is its process.json, empty where nothing in there can be believed any more.
    ``patience``: seconds that a supervisor gets which lives and could not be asked.
    """
    roots = [each for each in (root(process),) if each is not None]
    supervisor = supervisor_of(process)
    if supervisor is not None and proc.lives(*supervisor):
        # A signal takes neither a file nor an answer.
        process_tree.kill(*supervisor, signum=signal.SIGTERM)
        watch = Watch(supervisor)
        until = time.monotonic() + patience
        while proc.lives(*supervisor) and time.monotonic() < until and watch.look():
            time.sleep(_POLL)
        # What lost its parent is known as the child of its supervisor alone.
        roots += [
            (each.pid, each.start)
            for each in proc.processes().values()
            if each.ppid == supervisor[0] and proc.lives(*supervisor)
        ]
        if process_tree.wake(*supervisor):
            process_tree.kill(*supervisor)
    return process_tree.stop(job_id.encode(), roots, grace)

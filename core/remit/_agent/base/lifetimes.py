"""When the jobs of a session ran: whose an orphan may be that bears no job's name. Pure.

A process that left its session, dropped its environment and lost its parent says of itself only
when it began. It is ended with a job only where no other can have been the one that started it.
Standard library only, Python 3.6.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Iterable

_BOOTTIME = 7  # the clock of start times in proc(5); Python before 3.7 has no name for it


def now() -> int | None:
    """In clock ticks since boot, as start times are; None where that cannot be told."""
    try:
        return int(time.clock_gettime(_BOOTTIME) * os.sysconf("SC_CLK_TCK"))
    except OSError:
        return None


class Lifetimes:
    """Of jobs, and of whatever else in the session starts processes, by ids."""

    def __init__(self) -> None:
        self._running: dict[str, int] = {}
        # When the first of those began that left something running, which may start more.
        self._left_since: int | None = None

    @property
    def running(self) -> set[str]:
        return set(self._running)

    def began(self, job_id: str, at: int | None) -> None:
        """To be called before it starts; twice is quiet."""
        self._running.setdefault(job_id, 0 if at is None else at)

    def ended(self, job_id: str, left: bool) -> None:
        """``left``: whether anything that it started may run on. Twice is quiet."""
        began = self._running.pop(job_id, None)
        if began is not None and left:
            before = self._left_since
            self._left_since = began if before is None else min(before, began)

    def may_only_be_of(self, job_ids: Iterable[str], start: int) -> bool:
        """Whether what began at ``start`` was started by one of these, if by any job at all."""
        if self._left_since is not None and self._left_since <= start:
            return False
        candidates = {job_id for job_id, began in self._running.items() if began <= start}
        return bool(candidates) and candidates <= set(job_ids)

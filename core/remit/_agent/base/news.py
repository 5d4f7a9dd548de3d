"""What the janitor is told of a session: it ends what the agent leaves behind. And when the jobs of
the session ran: whose an orphan may be that bears no job's name.

A process that left its session, dropped its environment and lost its parent says of itself only
when it began. It is ended with a job only where no other can have been the one that started it.
"""

from __future__ import annotations

import os
import time
from binascii import hexlify
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Iterable

    from remit._agent.base.loop import Loop, Timer


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


# Seconds after which it is told what can wait.
_DELAY = 1.0
# How ids begin that stand for entered terminals.
TERMINAL = "terminal"


class News:
    """Lines on the pipe to the janitor, and the same in the session's own lifetimes."""

    def __init__(self, loop: Loop, fd: int, lifetimes: Lifetimes) -> None:
        self.terminals: set[str] = set()  # the ids that stand for them
        self._loop = loop
        self._fd = fd
        self._lifetimes = lifetimes
        self._untold = b""
        self._timer: Timer | None = None

    def job(self, job_id: str, alive: bool, left: bool = False) -> None:
        """Tells it of a session-bound job: before it is started, and when it is over.

        ``left``: whether anything that it started may run on. Twice is quiet.
        """
        if alive:
            at = now()
            self._lifetimes.began(job_id, at)
            self._tell("+%s %d\n" % (job_id, -1 if at is None else at))
        else:
            self._lifetimes.ended(job_id, left)
            self._tell("-%s %d\n" % (job_id, left))
        if alive or left:
            # What is started before the janitor knows might be left behind, and what runs on
            # without its job be taken for one's that runs.
            self.send()

    def root(self, job_id: str, root: tuple[int, int]) -> None:
        """Tells it of the first process of a job, by pid and start time."""
        self._tell("=%s %d %d\n" % ((job_id, *root)))

    def terminal(self, pid: int, root: tuple[int, int]) -> str:
        """Tells it of a terminal's first process; the id that stands for the terminal, for `job`
        once that has ended."""
        job_id = "%s%d" % (TERMINAL, pid)
        self.terminals.add(job_id)
        # It is told of after it began, and may have started somebody before now.
        self._lifetimes.began(job_id, root[1] or None)
        self.job(job_id, True)
        # No job's id is in its environment: where orphans are not adopted nothing else tells it.
        self.root(job_id, root)
        self.send()
        return job_id

    def remove_at_end(self, directory: bytes) -> None:
        """Has it remove that directory of a control socket, should the agent be killed before that
        is done."""
        self._tell("/%s\n" % hexlify(directory).decode())
        self.send()

    def _tell(self, line: str) -> None:
        self._untold += line.encode()
        if self._timer is None:
            self._timer = self._loop.call_later(_DELAY, self.send)

    def send(self) -> None:
        """Tells it at once what it has not been told."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            self._untold = self._untold[os.write(self._fd, self._untold) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self._untold = b""  # nobody is left to be told
        if self._untold:
            self._timer = self._loop.call_later(_DELAY, self.send)

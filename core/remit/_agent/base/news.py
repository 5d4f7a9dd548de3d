"""What the janitor is told of a session: it ends what the agent leaves behind."""

from __future__ import annotations

import os
from binascii import hexlify
from typing import TYPE_CHECKING

from remit._agent.base.lifetimes import now

if TYPE_CHECKING:
    from remit._agent.base.lifetimes import Lifetimes
    from remit._agent.base.loop import Loop, Timer

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

"""The agent's parent, which outlives it and ends what it leaves behind.

The agent tells it, over a pipe, which session-bound jobs run. However the agent ends, also by
SIGKILL, the janitor then ends what is left of those jobs. What a job left behind that had ended by
itself runs on. Kept jobs are none of its business: they and their supervisors are left alone.
"""

from __future__ import annotations

import os
import select
import signal
from binascii import unhexlify
from typing import TYPE_CHECKING

from remit._agent.base import fds
from remit._agent.base.news import Lifetimes
from remit._jobdir import proc
from remit._wire.ended import shell_status

if TYPE_CHECKING:
    from typing import Callable, NoReturn

# Seconds between TERM and KILL for what the agent left behind.
GRACE = 3.0


def boot() -> NoReturn:
    """Forks: the child becomes the agent, on fds 0 and 1, and this process its janitor."""
    fds.close_all({0, 1, 2})
    news, tell = os.pipe()
    agent = os.fork()
    _part(agent)
    if not agent:
        os.close(news)
        from remit._agent import main

        main.run(tell)
    os.close(tell)
    # The caller sees the end of the link when the agent is gone, not when we are.
    fds.point_at_null(0, 1)
    _Janitor(agent, news).work()


def _part(agent: int) -> None:
    """Gives the agent a process group of its own: whoever kills ours, as transports do, must not
    leave the jobs to nobody. An agent that is stopped (SIGSTOP) goes on once its janitor is gone:
    the kernel continues process groups that become orphans. To be called on both sides of the
    fork."""
    if os.isatty(0):
        return  # of which a process group in the background may read nothing
    try:
        os.setpgid(agent, agent)
    except OSError:
        pass  # it has ended


class _Janitor:
    def __init__(self, agent: int, news: int) -> None:
        self._agent = agent
        self._news = news
        self._roots: dict[
            str, list[tuple[int, int]]
        ] = {}  # by id, as remit._agent.base.process_tree wants them
        self._lifetimes = Lifetimes()
        self._directories: list[bytes] = []  # of control sockets, to be removed
        self._unread = b""
        self._status: int | None = None  # the agent's, as waitpid tells it

    def work(self) -> NoReturn:
        # Not before the fork: the agent comes up meanwhile, and may need neither.
        from remit._agent.base import process_tree, subreaper

        woken, wake = os.pipe()
        for fd in (woken, wake, self._news):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._end_agent)
        for signum in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
            signal.signal(signum, signal.SIG_IGN)
        subreaper.become_subreaper()
        watched = [woken, self._news]
        self._reap()
        while self._status is None:
            ready = select.select(watched, [], [])[0]
            if woken in ready:
                os.read(woken, 512)
                self._reap()
            if self._news in ready and not self._read_news():
                watched.remove(self._news)
        self._read_news()
        process_tree.end(self._searching(), GRACE)  # most often a look, and nothing is left
        self._remove_directories()
        status = self._status
        os._exit(shell_status(status))

    def _end_agent(self, *_: object) -> None:
        if self._status is None:
            os.kill(self._agent, signal.SIGTERM)
            os.kill(self._agent, signal.SIGCONT)  # else one that is stopped would not heed it

    def _reap(self) -> None:
        """Also of orphans that became our children: nobody else would."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self._agent:
                self._status = status

    def _read_news(self) -> bool:
        """Takes what the agent told; False at the end of the pipe."""
        while True:
            try:
                data = os.read(self._news, 1 << 16)
            except BlockingIOError:
                return True
            if not data:
                return False
            lines = (self._unread + data).split(b"\n")
            self._unread = lines.pop()
            for line in lines:
                self._take(line)

    def _take(self, line: bytes) -> None:
        """``+ID TICKS`` (it begins), ``=ID PID START`` (its root), ``-ID LEFT`` (it is over);
        ``/DIRECTORY`` in hexadecimal."""
        words = line[1:].split()
        if line.startswith(b"/"):
            self._directories.append(unhexlify(words[0]))
            return
        job_id, numbers = words[0].decode(), [int(word) for word in words[1:]]
        if line.startswith(b"-"):
            self._roots.pop(job_id, None)
            self._lifetimes.ended(job_id, bool(numbers[0]))
        elif line.startswith(b"="):
            self._roots.setdefault(job_id, []).append((numbers[0], numbers[1]))
        else:
            self._roots.setdefault(job_id, [])
            self._lifetimes.began(job_id, None if numbers[0] < 0 else numbers[0])

    def _remove_directories(self) -> None:
        if self._directories:
            from remit._jobdir import statedir

            for directory in self._directories:
                statedir.remove_flat(directory)

    def _searching(self) -> Callable[[], dict[int, proc.Process]]:
        """What ran when the link ended: jobs with all that is theirs, and what leads a terminal's
        session, which the kernel has told of the hang-up. What ended by itself took nothing with
        it, and kept jobs have supervisors."""
        from remit._agent.base import process_tree, subreaper

        leaders = {root for name in self._roots if _is_terminal(name) for root in self._roots[name]}
        jobs = {name: roots for name, roots in self._roots.items() if not _is_terminal(name)}
        ids = {name.encode(): roots for name, roots in jobs.items()}
        search = process_tree.Search(ids, subreaper.strays(self._lifetimes, jobs, ()))

        def find() -> dict[int, proc.Process]:
            self._reap()
            found = search() if jobs else {}
            for pid, start in leaders:
                leader = proc.look(pid)
                if leader is not None and proc.lives(pid, start):
                    found[pid] = leader
            return found

        return find


def _is_terminal(name: str) -> bool:
    return name.startswith("terminal")

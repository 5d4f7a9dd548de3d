"""The first process of a return job that is a program, from its start to its end."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from remit._agent.base import process_tree
from remit._agent.base.spawn import SpawnError, failure, spawn_soon
from remit._jobdir import proc
from remit._wire.streams import STDERR, STDOUT

if TYPE_CHECKING:
    from typing import Any, Callable, Protocol

    from remit._agent.base.services import Place, Session
    from remit._agent.returned.record import Wanted
    from remit._wire.records import Spotter

    class Job(Protocol):
        """Who is told of the first process."""

        def begun(self) -> None:
            """It runs what it is to run. `Root.watch` tells the rest."""

        def never_ran(self, error: str) -> None: ...

        def ended(self, status: int | None) -> None:
            """``status``: as waitpid tells it; None where nobody can tell."""


class Root:
    """The first process of a job, whatever it runs, and those that come of it."""

    streams: tuple[int, ...] = (STDOUT, STDERR)
    # Whether the job's time runs from the start on: to get to the program may take for ever.
    is_timed = True
    spotter: Spotter | None = None

    def __init__(self, session: Session, job_id: str) -> None:
        self.pid = 0
        self._session = session
        self._id = job_id
        self._orphans = session.orphans  # from before it starts: it may leave some at once
        self._start = 0  # its start time, once somebody asked
        self._reaped = False

    def start(self, fds: list[int], job: Job) -> bool:
        """Starts it with these as its stdin and ``streams``, which it closes in any case.

        Whether the job has begun; otherwise it is told later. Raises SpawnError where it cannot,
        and OSError or Refused where there is no room for it.
        """
        raise NotImplementedError

    def watch(self, job: Job) -> None:
        """Has the job told of its end; to be called once it has begun."""
        raise NotImplementedError

    def look(self) -> None:
        """Takes the news there are of its beginning."""

    def take(self, data: bytes) -> None:
        """What comes from the caller on the stream TASK."""

    def give_up(self) -> None:
        """Nobody waits for it any more: nothing is to run. Quiet once that runs, and twice."""

    # -- those that come of it

    @property
    def places(self) -> list[tuple[int, int]]:
        """As `remit._agent.base.process_tree` wants the roots of a job."""
        # Asked for late: it costs, and for a short job nobody needs it. Until the process has
        # been reaped its pid is its own; afterwards no start time fits, and its session does.
        if not self.pid:
            return []
        if not self._start and not self._reaped:
            self._start = proc.start_time(self.pid) or 0
        return [(self.pid, self._start)]

    def report(self) -> None:
        """Tells the janitor of it."""
        for place in self.places:
            self._session.news.root(self._id, place)

    def search(self) -> process_tree.Search:
        return self._orphans.search({self._id: self.places})

    def ending(self, grace: float) -> process_tree.Steps[list[str]]:
        """How they are ended."""
        return process_tree.ending(self.search(), grace)

    @property
    def may_have_left(self) -> bool:
        """Whether it may have left something behind that runs; False is certain."""
        return self._orphans.may_be_of(self._id)

    def judge(self, outcome: dict[str, Any]) -> dict[str, Any]:
        """The outcome with what else is known of the end."""
        return outcome if self.spotter is None else self.spotter.judge(outcome)

    def over(self, took_all: bool) -> None:
        """Nothing runs any more that the job is to be held to."""
        left = not took_all and self._orphans.has_any
        self._session.news.job(self._id, False, left=left)

    def _telling(self, job: Job) -> Callable[[int | None], object]:
        def ended(status: int | None) -> None:
            self._reaped = status is not None
            job.ended(status)

        return ended


class Program(Root):
    def __init__(self, session: Session, wanted: Wanted) -> None:
        super().__init__(session, wanted.id)
        self._wanted = wanted
        self._entry: Entry | None = None

    def start(self, fds: list[int], job: Job) -> bool:
        wanted = self._wanted
        stdin, stdout, stderr = fds
        try:
            pid, report = spawn_soon(
                wanted.id.encode(), wanted.command, wanted.cwd, wanted.env, stdin, stdout, stderr
            )
        finally:
            close_all(fds)
        wanted.env = {}  # it may be large, and the job long
        if report < 0:
            self.pid = pid
            return True

        def entered(_: Entry, failed: SpawnError | None) -> None:
            if failed is not None:
                job.never_ran(failed.message)
            else:
                self.pid = pid
                job.begun()

        self._entry = Entry(self._session, pid, report, entered)
        return False

    def watch(self, job: Job) -> None:
        ended = self._telling(job)
        if self._entry is not None and self._entry.status is not None:
            ended(self._entry.status)  # that was quicker than the news of its beginning
        else:
            self._session.children.watch(self.pid, ended)

    def look(self) -> None:
        if self._entry is not None:
            self._entry.look()

    def give_up(self) -> None:
        if self._entry is not None:
            self._entry.give_up()


class Entry:
    """A process on its way to be a job's first one: into a directory, and to a program. Either may
    take as long as a file system does. ``status``: it has ended, before or after."""

    def __init__(
        self,
        place: Place,
        pid: int,
        report: int,
        done: Callable[[Entry, SpawnError | None], object],
    ) -> None:
        self.pid = pid
        self.status: int | None = None
        self._place = place
        self._fd = report
        self._done = done
        self._report = b""
        place.children.watch(pid, self._ended)
        place.loop.watch_fd(report, self.look)

    def look(self) -> None:
        """Takes the news there are."""
        try:
            if self._fd < 0:
                return
            data = os.read(self._fd, 4096)
        except BlockingIOError:
            return
        self._report += data
        if not data:
            done = self._done
            self._close()
            done(self, failure(self._report) if self._report else None)

    def _ended(self, status: int) -> None:
        self.status = status

    def give_up(self) -> None:
        """Nobody waits for it any more: nothing is to run. Quiet once that runs."""
        if self._fd >= 0:
            self._close()
            if self.status is None:
                os.kill(self.pid, signal.SIGKILL)

    def _close(self) -> None:
        self._place.loop.unwatch_fd(self._fd)
        os.close(self._fd)
        self._fd = -1
        # The job holds this, and not the other way as well: that would leave both to the collector.
        del self._done


def close_all(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())

"""The supervisor: the process that owns a kept job, and the only writer of its output.

It runs beside the agent and outlives it. It reads the job's pipes into the job's files, stops the
job when asked or when time or space is over, and writes down how it ended. While processes that the
job left behind live, it stays, so that they can be stopped by the job's id. Nothing that goes wrong
ends it before: `remit._agent.kept.barrier` stands round all it does once the job may run, and what
it does needs no process of its own. What can happen to it, and when, is a table:
`remit._agent.kept.phases`. Standard library only, Python 3.6.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from collections import namedtuple
from typing import TYPE_CHECKING

from remit._agent.base import process_tree
from remit._agent.base.spawn import SpawnError, spawn_prepared
from remit._agent.kept import barrier, ending, phases, trouble
from remit._agent.kept.barrier import Turns
from remit._agent.kept.ending import Recorder
from remit._agent.kept.processes import Processes
from remit._agent.kept.requests import GRACE, Requests
from remit._agent.kept.spool import Inputs, Spool
from remit._agent.kept.stopping import Limits, Stopping
from remit._jobdir import files, liveness, proc
from remit._wire import msgpack

if TYPE_CHECKING:
    from typing import Any, Union

    Data = Union[bytes, bytearray]

# What is to be run. id bytes, timeout float or None, lease float or None, max_output int or None,
# truncate bool: whether the newest max_output bytes are kept, or the job is stopped; merge bool,
# clean bool: whether what it leaves behind is stopped
Work = namedtuple("Work", "id timeout lease max_output truncate merge clean")

# How long after the first process's end its pipes may stay open.
DRAIN = 2.0
# How often a supervisor that cannot adopt orphans looks for processes left behind.
_LOOK_AROUND = 2.0


class Given:
    """What a job is given to read; each is let go of once it has been passed on.

    ``command``: packed [command dict, cwd bytes or None, env {bytes: bytes}], which the first
    process alone unpacks; ``script``: of a function what its interpreter reads as descriptor 3,
    else nothing; ``stdin``.
    """

    def __init__(self, command: Data, script: Data, stdin: Data) -> None:
        self.command = command
        self.script = script
        self.stdin = stdin


def live(
    supervisor: Supervisor,
    work: Work,
    given: Given,
    dir_fd: int,
    reporter: int,
    death_pipe: int | None,
) -> None:
    """The life of a supervisor, for a fork of the forkserver that is to be nothing else.

    The descriptors are its own: the job's directory, which is claimed; a pipe, on which it reports
    ``+`` once the job runs or its start has failed and that stands in the outcome, or words where
    it could not do its part; and a pipe whose end means that the job's session is over.
    """
    try:
        supervisor.start(work, given, dir_fd, death_pipe)
    except Exception as exc:
        report(reporter, ending.words_of(exc))
        raise
    report(reporter, "+")
    os.close(reporter)
    supervisor.run()


def report(reporter: int, words: str) -> None:
    """Tells whoever ordered the supervisor; quiet where that one is gone."""
    try:
        os.write(reporter, words.encode("utf-8", "replace"))
    except OSError:
        pass


class Supervisor:
    """Made in the forkserver, once, and shared by all: what it is made of takes memory there
    alone."""

    def __init__(self) -> None:
        self.phase = phases.STARTS
        self._dir_fd = -1
        self._work = Work(b"", None, None, None, False, False, False)
        self._log = trouble.Log()
        self._turns = Turns(self._log.note)
        self._spool = Spool(self._take_no_more)
        self._inputs = Inputs(self._turns)
        self._processes = Processes()
        self._stopping = Stopping()
        self._requests = Requests(self._log, self._processes, self._stop)
        self._limits = Limits()
        self._recorder = Recorder(self._log)
        self._started: float | None = None
        self._drained = 0.0  # when the pipes are waited for no longer; monotonic
        self._end: ending.End | None = None
        self._reason: str | None = None  # why the job did not end by itself
        self._error: str | None = None
        self._outcome: dict[str, Any] | None = None

    def _go(self, event: str) -> None:
        self.phase = phases.move(self.phase, event)

    # -- the beginning

    def start(self, work: Work, given: Given, dir_fd: int, death_pipe: int | None) -> None:
        """Takes the job's place, writes that down, and runs the job's first process.

        Raises OSError where the place could not be taken; the job was not run then. A program or
        directory that is missing is no error here: that is how the job ended.
        """
        self._work = work
        self._dir_fd = self._log.dir_fd = dir_fd
        self._processes.begin(work.id)
        liveness.take(dir_fd)
        watched = [(self._requests.open(dir_fd), self._requests.read)]
        watched.append((barrier.open_pipe(), self._read_signals))
        self._spool.open(dir_fd, work.max_output, work.truncate)
        pipes = self._open_pipes(given)
        if work.lease is not None:
            countdown = self._limits.open_lease(dir_fd, work.lease)
            watched.append((countdown.fd, countdown.look))
        if death_pipe is not None:
            watched.append((death_pipe, self._session_is_over))
        watched += [(fd, self._take) for fd in self._spool.sources]
        for fd, handler in watched:
            self._turns.watch(fd, select.POLLIN, handler)
        self._started = time.time()
        try:
            self._processes.pid = spawn_prepared(lambda: self._prepare(given.command, pipes))
        except (SpawnError, OSError) as exc:
            if isinstance(exc, SpawnError) and exc.what == "beforehand":
                raise OSError(exc.errno, exc.message) from exc
            self._never_ran(exc)
        else:
            self._go(phases.STARTED)
        # From here on the job may run: nothing below may fail but in turns.
        given.command = bytearray()
        for fd in set(pipes):
            os.close(fd)
        self._limits.begin(work.timeout)

    def _prepare(self, command: Data, pipes: tuple[int, ...]) -> tuple[Any, ...]:
        """What the first process does before it becomes the job's program; what `spawn` is told."""
        own, supervisor = os.getpid(), self._processes.me
        process: dict[str, Any] = dict(
            liveness.here(),
            pid=own,
            start_time=proc.start_time(own),
            started=self._started,
            supervisor={"pid": supervisor, "start_time": proc.start_time(supervisor)},
        )
        # From here on nobody else runs this job: what dies before this line has not run it.
        files.write_json(self._dir_fd, files.PROCESS, process)
        files.unclaim(self._dir_fd)
        if os.getppid() != supervisor:
            raise OSError(errno.ESRCH, "the supervisor was killed")  # then nobody hears it
        words: Any = msgpack.unpack(bytes(command))
        return (self._work.id, *words, *pipes)

    def _never_ran(self, exc: Exception) -> None:
        """Before the answer to the start, which tells of this end where it can be written."""
        self._started = None
        self._reason = "start-failed"
        self._error = ending.words_of(exc)
        self._end = ending.End(None, None, time.time())
        for fd in list(self._spool.sources):
            self._turns.unwatch(fd)
            os.close(fd)
        self._spool.sources.clear()
        self._go(phases.FAILED)
        self._log.attempt(self._is_recorded, None)  # it is tried again in turns

    def _open_pipes(self, given: Given) -> tuple[int, ...]:
        """What the first process gets as stdin, stdout and stderr, and of a function its script
        and where its records go; the other ends stay here."""
        stdout = self._spool.open_stream(b"stdout")
        stderr = stdout if self._work.merge else self._spool.open_stream(b"stderr")
        if given.stdin:
            stdin = self._inputs.open(given.stdin)
            given.stdin = bytearray()
        else:
            stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        if not given.script:
            return stdin, stdout, stderr
        script = self._inputs.open(given.script)
        given.script = bytearray()
        return stdin, stdout, stderr, script, self._spool.open_stream(b"records")

    # -- the loop

    def run(self) -> None:
        """Until the job has ended, that stands in the outcome, and nothing of it is left."""
        steps = (
            self._requests.look_again,
            self._reap,
            self._look_at_the_clock,
            self._go_on_stopping,
            self._go_on,
        )
        quiet = self.phase == phases.RUNS and self._limits.lease is None
        self._turns.run(
            steps, self._limits.timeout if quiet else 0.0, lambda: self.phase == phases.OVER
        )

    def _reap(self) -> None:
        """Orphans that we adopted included: nobody else would."""
        while True:
            try:
                pid, status, usage = ending.wait()
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self._processes.pid and self.phase == phases.RUNS:
                self._end = ending.End(status, usage, time.time())
                self._drained = time.monotonic() + DRAIN
                self._processes.reaped()
                self._go(phases.ENDED)

    def _look_at_the_clock(self) -> float | None:
        if self.phase != phases.RUNS:
            return None
        for reason in self._limits.due():
            self._stop(reason, GRACE)
        return self._limits.next

    def _go_on(self) -> float | None:
        """Goes on to the next phase once that may be; when to look again."""
        if self.phase == phases.DRAINS and not self._stopping.is_under_way:
            now = time.monotonic()
            if self._spool.sources and now < self._drained:
                return self._drained
            left = self._processes.left
            if self._work.clean and not self._stopping.survivors and self._log.attempt(left, []):
                self._stop(None, GRACE)
                return now
            self._go(phases.DRAINED)
        if phases.RECORDED in phases.NEXT[self.phase] and not self._is_recorded():
            return self._recorder.due
        if phases.ALONE in phases.NEXT[self.phase] and not self._stopping.is_under_way:
            if self.phase != phases.LEAVES and not self._processes.are_gone():
                return None if self._processes.adopts else time.monotonic() + _LOOK_AROUND
            self._go(phases.ALONE)
        return None

    # -- what comes

    def _take(self, fd: int) -> None:
        for ended in self._spool.take_in_order(fd):
            self._turns.unwatch(ended)

    def _take_no_more(self, error: str, reason: str) -> None:
        """No more output is kept: the job is stopped."""
        self._error = error
        if self.phase in (phases.RUNS, phases.DRAINS):
            self._stop(reason, GRACE)
            # A job whose output is not whole did not complete, though it may be over already.
            self._reason = self._reason or reason

    def _read_signals(self, fd: int) -> None:
        if signal.SIGTERM in os.read(fd, 4096):
            self._stop("stopped", GRACE)

    def _session_is_over(self, fd: int) -> None:
        """The agent is gone, however it went: nobody holds the other end of the death pipe."""
        self._go(phases.SESSION_OVER)
        # One that ended before took nothing with it. Nobody is left who would ask for the rest.
        if self.phase in (phases.RUNS, phases.DRAINS):
            self._stop("session-ended", GRACE)
        self._turns.unwatch(fd)

    # -- stopping

    def _stop(self, reason: str | None, grace: float) -> None:
        """Has the whole tree stopped."""
        self._go(phases.STOP)
        if self.phase == phases.RUNS and self._reason is None:
            self._reason = reason
            self._limits.drop_lease()
        self._stopping.begin(grace)

    def _go_on_stopping(self) -> float | None:
        if self._stopping.go_on(self._steps_of_stop):
            self._go(phases.STOP_DONE)
            self._reap()
            if self.phase != phases.DRAINS:
                self._requests.answer_stops(self._stopping.survivors)
        return self._stopping.due

    def _steps_of_stop(self, grace: float) -> process_tree.Steps[list[str]]:
        search = self._processes.search()
        if self._spool.spotter is not None and self.phase == phases.RUNS:
            grace = yield from process_tree.interrupting(self._processes.roots(), grace)
        return (yield from process_tree.ending(search, grace))

    # -- the end

    def _is_recorded(self) -> bool:
        """Writes the outcome where it is time to: whether no other try is of use.

        The caller of a stop is answered all the same: nothing runs any more.
        """
        if time.monotonic() < self._recorder.due:
            return False
        self._inputs.close()
        self._spool.close()
        if self._outcome is None:
            self._outcome = self._judge()
        is_done = self._recorder.write(self._dir_fd, self._outcome)
        if is_done:
            self._go(phases.RECORDED)
        if not self._stopping.is_under_way:
            self._requests.answer_stops(self._stopping.survivors)
        return is_done

    def _judge(self) -> dict[str, Any]:
        end, by_itself = self._end, self._reason is None
        assert end is not None
        # What the outcome can do without must not keep it from being written.
        left = self._log.attempt(self._processes.left, [])
        pipes = {source.inode for source in self._spool.sources.values()}
        outcome = dict(
            ending.how_it_ended(end),
            format=files.FORMAT,
            error=self._error,
            note=self._log.attempt(lambda: ending.note(end, left, pipes, by_itself), None),
            left_behind=left,
            started=self._started,
            finished=end.time,
            sizes=self._spool.sizes,
        )
        if self._reason is not None:
            outcome["reason"] = self._reason
        if self._spool.spotter is not None:
            outcome = self._spool.spotter.judge(outcome)
        return outcome

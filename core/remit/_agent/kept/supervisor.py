"""The supervisor: the process that owns a kept job, and the only writer of its output.

It runs beside the agent and outlives it. It reads the job's pipes into the job's files, stops the
job when asked or when time or space is over, and writes down how it ended. While processes that the
job left behind live, it stays, so that they can be stopped by the job's id. Nothing that goes wrong
ends it before: `remit._agent.kept.barrier` stands round all it does once the job may run, and what
it does needs no process of its own. Standard library only, Python 3.6.
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
from remit._agent.base.subreaper import become_subreaper
from remit._agent.kept import ending, trouble
from remit._agent.kept.barrier import Turns
from remit._agent.kept.spool import Spool
from remit._jobdir import files, lease, liveness, mailbox, proc
from remit._wire import msgpack

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Union

    Data = Union[bytes, bytearray]

# What is to be run. id bytes, timeout float or None, lease float or None, max_output int or None,
# truncate bool: whether the newest max_output bytes are kept, or the job is stopped; merge bool,
# clean bool: whether what it leaves behind is stopped
Work = namedtuple("Work", "id timeout lease max_output truncate merge clean")

# The phases, each followed by the next: the first process runs; it has ended, and its pipes are
# drained; its end is to be written down; what it left behind runs; nothing does.
RUNS, DRAINS, RECORDS, LINGERS, OVER = range(5)

# How long after the first process's end its pipes may stay open.
DRAIN = 2.0
GRACE = 5.0
_PIECE = 1 << 18
# Seconds until requests are looked at again that could not be read.
_LOOK_AGAIN = 0.5
# How often a supervisor that cannot adopt orphans looks for processes left behind.
_LOOK_AROUND = 2.0
# Seconds between two tries to write the outcome: at first, doubled each time, and at most.
_RETRY = 0.1
_LONGEST_RETRY = 5.0
# What is said of a directory that is not there any more, by a server of files or by a mount whose
# server is dead, and the seconds for which it may come back all the same.
_GONE = (errno.ESTALE, errno.ENOENT, errno.ENOTCONN)
_GONE_PATIENCE = 300.0
# Longer than anybody waits; what is asked for beyond it is this.
_LONGEST = 1e9
_STOP_REASONS = ("stopped", "session-ended", "lease")


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
        self._me = 0  # its pid
        self._dir_fd = -1
        self._work = Work(b"", None, None, None, False, False, False)
        self._adopts = False  # orphans among the job's processes
        self._log = trouble.Log()
        self._turns = Turns(self._log.note)
        self._spool = Spool(self._take_no_more)
        self._inputs: dict[int, memoryview] = {}  # pipes to the job, and what is still to be sent
        self._phase = RUNS
        self._pid = 0  # the job's first process; 0 where it could not be started
        self._start = 0  # its start time, once somebody asked
        self._started: float | None = None
        self._end: ending.End | None = None
        self._reason: str | None = None  # why the job did not end by itself
        self._error: str | None = None
        self._outcome: dict[str, Any] | None = None
        self._abandoned = False  # what it left behind is no longer looked after
        self._stopping: process_tree.Steps[list[str]] | None = None
        self._stop_due: float | None = None  # when it goes on; monotonic, as all that follow
        self._kill_at = 0.0
        self._survivors: list[str] = []
        self._to_answer: list[bytes] = []  # requests that wait until the job is stopped
        self._look_at: float | None = None
        self._countdown: lease.Countdown | None = None
        self._timeout: float | None = None
        self._drained = 0.0  # when the pipes are waited for no longer
        self._record_at = 0.0
        self._retry = _RETRY
        self._gone_since: float | None = None  # when the directory was first said to be gone

    # -- the beginning

    def start(self, work: Work, given: Given, dir_fd: int, death_pipe: int | None) -> None:
        """Takes the job's place, writes that down, and runs the job's first process.

        Raises OSError where the place could not be taken; the job was not run then. A program or
        directory that is missing is no error here: that is how the job ended.
        """
        self._me = os.getpid()
        self._work = work
        self._dir_fd = self._log.dir_fd = dir_fd
        self._adopts = become_subreaper()
        liveness.take(self._dir_fd)
        self._inbox = mailbox.Mailbox(self._dir_fd)
        signals = _signal_pipe()
        self._spool.open(dir_fd, work.max_output, work.truncate)
        pipes = self._open_pipes(given)
        watched = [(self._inbox.fd, self._read_requests), (signals, self._read_signals)]
        if self._work.lease is not None:
            self._countdown = lease.Countdown(self._dir_fd, self._work.lease)
            watched.append((self._countdown.fd, self._countdown.look))
        if death_pipe is not None:
            watched.append((death_pipe, self._session_is_over))
        watched += [(fd, self._take) for fd in self._spool.sources]
        for fd, handler in watched:
            self._turns.watch(fd, select.POLLIN, handler)
        self._started = time.time()
        try:
            self._pid = spawn_prepared(lambda: self._prepare(given.command, pipes))
        except (SpawnError, OSError) as exc:
            if isinstance(exc, SpawnError) and exc.what == "beforehand":
                raise OSError(exc.errno, exc.message) from exc
            self._never_ran(exc)
        # From here on the job may run: nothing below may fail but in turns.
        given.command = bytearray()
        for fd in set(pipes):
            os.close(fd)
        if self._work.timeout is not None:
            self._timeout = time.monotonic() + self._work.timeout

    def _prepare(self, command: Data, pipes: tuple[int, ...]) -> tuple[Any, ...]:
        """What the first process does before it becomes the job's program; what `spawn` is told."""
        own = os.getpid()
        process: dict[str, Any] = dict(
            liveness.here(),
            pid=own,
            start_time=proc.start_time(own),
            started=self._started,
            supervisor={"pid": self._me, "start_time": proc.start_time(self._me)},
        )
        # From here on nobody else runs this job: what dies before this line has not run it.
        files.write_json(self._dir_fd, files.PROCESS, process)
        files.unclaim(self._dir_fd)
        if os.getppid() != self._me:
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
        self._phase = RECORDS
        self._noting(self._record, None)  # it is tried again in turns

    def _open_pipes(self, given: Given) -> tuple[int, ...]:
        """What the first process gets as stdin, stdout and stderr, and of a function its script
        and where its records go; the other ends stay here."""
        stdout = self._spool.open_stream(b"stdout")
        stderr = stdout if self._work.merge else self._spool.open_stream(b"stderr")
        if given.stdin:
            stdin = self._open_input(given.stdin)
            given.stdin = bytearray()
        else:
            stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        if not given.script:
            return stdin, stdout, stderr
        script = self._open_input(given.script)
        given.script = bytearray()
        return stdin, stdout, stderr, script, self._spool.open_stream(b"records")

    def _open_input(self, data: Data) -> int:
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        self._inputs[writer] = memoryview(data)
        self._turns.watch(writer, select.POLLOUT, self._feed)
        return reader

    # -- the loop

    def run(self) -> None:
        """Until the job has ended, that stands in the outcome, and nothing of it is left."""
        steps = (
            self._look_again,
            self._reap,
            self._look_at_the_clock,
            self._go_on_stopping,
            self._go_on,
        )
        first = self._timeout if self._phase == RUNS and self._countdown is None else 0.0
        self._turns.run(steps, first, lambda: self._phase == OVER)

    def _reap(self) -> None:
        """Orphans that we adopted included: nobody else would."""
        while True:
            try:
                pid, status, usage = ending.wait()
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self._pid and self._phase == RUNS:
                self._end = ending.End(status, usage, time.time())
                self._drained = time.monotonic() + DRAIN
                self._phase = DRAINS

    def _look_at_the_clock(self) -> float | None:
        if self._phase != RUNS:
            return None
        now = time.monotonic()
        if self._timeout is not None and now >= self._timeout:
            self._timeout = None
            self._stop("timeout", GRACE)
        lease_end = self._lease_end()
        if lease_end is not None and now >= lease_end:
            self._stop("lease", GRACE)
        return min(
            (at for at in (self._timeout, self._lease_end()) if at is not None), default=None
        )

    def _lease_end(self) -> float | None:
        """When the job is to be stopped unless somebody comes, where that is still open."""
        if self._countdown is None or self._reason is not None:
            return None
        return self._countdown.until

    def _go_on(self) -> float | None:
        """Goes on to the next phase once that may be; when to look again."""
        if self._phase == DRAINS and not self._stops:
            now = time.monotonic()
            if self._spool.sources and now < self._drained:
                return self._drained
            if self._work.clean and not self._survivors and self._noting(self._left, []):
                self._stop(None, GRACE)
                return now
            self._phase = RECORDS
        if self._phase == RECORDS:
            if time.monotonic() < self._record_at:
                return self._record_at
            self._record()
            if self._phase == RECORDS:
                return self._record_at
        if self._phase == LINGERS and not self._stops:
            if not self._alone():
                return None if self._adopts else time.monotonic() + _LOOK_AROUND
            self._phase = OVER
        return None

    def _alone(self) -> bool:
        """Whether no process is left that a request could be about."""
        if self._abandoned or (self._adopts and not _has_children()):
            return True
        return not self._search()()

    # -- output and input

    def _take(self, fd: int) -> None:
        source = self._spool.sources[fd]
        if source.name == b"records":
            # What was printed before a record is in its pipe before it.
            for other in [other for other in self._spool.sources if other != fd]:
                self._take_from(other)
        self._take_from(fd)

    def _take_from(self, fd: int) -> None:
        if not self._spool.take(fd):
            self._turns.unwatch(fd)

    def _take_no_more(self, error: str, reason: str) -> None:
        """No more output is kept: the job is stopped."""
        self._error = error
        if self._phase in (RUNS, DRAINS):
            self._stop(reason, GRACE)
            # A job whose output is not whole did not complete, though it may be over already.
            self._reason = self._reason or reason

    def _feed(self, fd: int) -> None:
        data = self._inputs[fd]
        try:
            sent = os.write(fd, data[:_PIECE])
        except BlockingIOError:
            return
        except OSError:  # the job reads no more
            sent = len(data)
        self._inputs[fd] = data[sent:]
        if not self._inputs[fd]:
            self._close_input(fd)

    def _close_input(self, fd: int) -> None:
        del self._inputs[fd]
        self._turns.unwatch(fd)
        os.close(fd)

    # -- what is asked for

    def _read_signals(self, fd: int) -> None:
        if signal.SIGTERM in os.read(fd, 4096):
            self._stop("stopped", GRACE)

    def _session_is_over(self, fd: int) -> None:
        """The agent is gone, however it went: nobody holds the other end of the death pipe."""
        if self._phase < RECORDS:
            self._stop("session-ended", GRACE)
        else:
            # It ended before, and took nothing with it. Nobody is left who would ask for the rest.
            self._abandoned = True
        self._turns.unwatch(fd)

    def _read_requests(self, fd: int) -> None:
        requests, rung = self._inbox.read(set(self._to_answer))
        self._look_at = time.monotonic() + _LOOK_AGAIN if self._inbox.look_again else None
        if rung:
            self._stop("stopped", GRACE)
        for name, request in requests:
            try:
                self._serve(name, request)
            except Exception as exc:
                self._log.note(exc)
                self._inbox.answer(name, {"error": ending.words_of(exc)})

    def _look_again(self) -> float | None:
        """For requests that could not be read before."""
        if self._look_at is not None and time.monotonic() >= self._look_at:
            self._read_requests(self._inbox.fd)
        return self._look_at

    def _serve(self, name: bytes, request: dict[str, Any]) -> None:
        what = name.split(b"-")[0]
        if what == b"stop":
            self._stop(_reason(request), _grace(request))
            self._to_answer.append(name)
        elif what in (b"suspend", b"resume"):
            act = process_tree.pause if what == b"suspend" else process_tree.unpause
            act(self._search())
            self._inbox.answer(name, {})
        else:
            shown = what[:100].decode("ascii", "replace")
            self._inbox.answer(
                name, {"error": "%s is no request that this supervisor knows" % shown}
            )

    # -- stopping, in steps: output goes on between them

    @property
    def _stops(self) -> bool:
        return self._stop_due is not None

    def _stop(self, reason: str | None, grace: float) -> None:
        """Has the whole tree stopped."""
        if self._phase == RUNS and self._reason is None:
            self._reason = reason
        kill_at = time.monotonic() + grace
        if not self._stops or kill_at < self._kill_at:
            # Else somebody who asked before has less patience.
            self._kill_at = kill_at
            self._stopping = None
            self._stop_due = time.monotonic()

    def _go_on_stopping(self) -> float | None:
        if self._stop_due is None or time.monotonic() < self._stop_due:
            return self._stop_due
        # One that fails is over: the next turn begins anew.
        steps, self._stopping = self._stopping or self._steps_of_stop(), None
        try:
            pause = next(steps)
        except StopIteration as over:
            self._survivors = over.value
            self._stop_due = None
            self._reap()
            if self._phase != DRAINS:
                self._answer_stops()
            return None
        self._stopping = steps
        self._stop_due = time.monotonic() + pause
        return self._stop_due

    def _steps_of_stop(self) -> process_tree.Steps[list[str]]:
        grace = max(0.0, self._kill_at - time.monotonic())
        search = self._search()
        if self._spool.spotter is not None and self._phase == RUNS:
            grace = yield from process_tree.interrupting(self._roots(), grace)
        return (yield from process_tree.ending(search, grace))

    def _answer_stops(self) -> None:
        names, self._to_answer = self._to_answer, []
        for name in names:
            self._inbox.answer(name, {"survivors": self._survivors[:64]})

    def _roots(self) -> list[tuple[int, int]]:
        if not self._start and self._phase == RUNS:
            # Until it has been reaped its pid is its own.
            self._start = proc.start_time(self._pid) or 0
        return [(self._pid, self._start)]

    def _search(self) -> process_tree.Search:
        """Where orphans are adopted all that is the job's descends from us; else sessions tell."""
        adopted = self._adopted if self._adopts else None
        return process_tree.Search(
            {self._work.id: self._roots()}, adopted, by_session=not self._adopts
        )

    def _adopted(self, everyone: dict[int, proc.Process]) -> list[int]:
        """Our children, but for supervisors of other jobs, which were started from within this."""
        return [
            process.pid
            for process in everyone.values()
            if process.ppid == self._me and not process_tree.is_supervisor(process.pid)
        ]

    def _left(self) -> list[str]:
        if self._adopts and not _has_children():
            return []
        return process_tree.named(self._search())

    # -- the end

    def _record(self) -> None:
        """Writes the outcome, now or later: until it stands there the job is not over.

        The caller of a stop is answered all the same: nothing runs any more.
        """
        for fd in list(self._inputs):
            self._close_input(fd)
        self._spool.close()
        if self._outcome is None:
            self._outcome = self._judge()
        try:
            files.write_outcome(self._dir_fd, self._outcome)
        except Exception as exc:
            self._log.note(exc)
            self._record_at = time.monotonic() + self._retry
            self._retry = min(2 * self._retry, _LONGEST_RETRY)
            if self._is_gone(exc):
                self._phase = LINGERS  # nobody is left to read it
        else:
            self._phase = LINGERS
        if not self._stops:
            self._answer_stops()

    def _is_gone(self, exc: Exception) -> bool:
        """Whether the directory in which nothing can be written is gone for good."""
        try:
            if not os.fstat(self._dir_fd).st_nlink:
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

    def _judge(self) -> dict[str, Any]:
        assert self._end is not None
        left = self._noting(self._left, [])
        outcome = dict(
            ending.how_it_ended(self._end),
            format=files.FORMAT,
            error=self._error,
            note=self._noting(lambda: self._note(left), None),
            left_behind=left,
            started=self._started,
            finished=self._end.time,
            sizes=self._spool.sizes,
        )
        if self._reason is not None:
            outcome["reason"] = self._reason
        if self._spool.spotter is not None:
            outcome = self._spool.spotter.judge(outcome)
        return outcome

    def _note(self, left: list[str]) -> str | None:
        assert self._end is not None
        open_pipes = {source.inode for source in self._spool.sources.values()}
        return ending.note(self._end, left, open_pipes, by_itself=self._reason is None)

    def _noting(self, function: Callable[[], Any], otherwise: Any) -> Any:
        """What the outcome can do without must not keep it from being written."""
        try:
            return function()
        except Exception as exc:
            self._log.note(exc)
            return otherwise


def _reason(request: dict[str, Any]) -> str:
    reason = request.get("reason")
    return reason if reason in _STOP_REASONS else "stopped"


def _grace(request: dict[str, Any]) -> float:
    grace = request.get("grace")
    if not isinstance(grace, (int, float)) or not grace >= 0:
        return GRACE
    return float(min(grace, _LONGEST))


def _has_children() -> bool:
    """Whether any child, ours or adopted, is left; an ended one that was not reaped counts."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _signal_pipe() -> int:
    """A descriptor on which the numbers of the signals that come can be read."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    return reader


# What would end or stop the supervisor unless it said otherwise, and that anybody may send by
# mistake to a whole process group.
_IGNORED = (
    *("SIGHUP", "SIGINT", "SIGQUIT", "SIGPIPE", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGIO", "SIGPWR"),
    *("SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGVTALRM", "SIGPROF", "SIGXCPU", "SIGXFSZ", "SIGSTKFLT"),
)


def note_signals() -> None:
    """What makes the numbers of two signals appear in the pipe: a handler in Python. Others are
    ignored where that is possible."""
    for name in _IGNORED:
        number = getattr(signal, name, None)
        if number is not None:
            signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, _noted)


def _noted(number: int, frame: object) -> None:
    pass

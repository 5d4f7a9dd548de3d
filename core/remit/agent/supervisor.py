"""The supervisor: the process that owns a kept job, and the only writer of its output.

It runs beside the agent and outlives it. It reads the job's pipes into the job's files, stops the
job when asked or when time or space is over, and writes down how it ended. While processes that
the job left behind live, it stays, so that they can be stopped by the job's id. Standard library
only, Python 3.6.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import time
from collections import namedtuple
from typing import TYPE_CHECKING

from remit import _msgpack
from remit.agent import asks, jobdir, lease, liveness, memory, tail, tree
from remit.agent.orphans import become_subreaper
from remit.agent.spawn import SpawnError, spawn_prepared

try:
    import resource  # noqa: F401

    _KNOWS_USAGE = True
except ImportError:  # python3-minimal: os.wait4 fails, and the status it took is lost
    _KNOWS_USAGE = False

if TYPE_CHECKING:
    from typing import Any

    from remit import _records

# What is to be run. id bytes, timeout float or None, lease float or None, max_output int or None,
# truncate bool: whether the newest max_output bytes are kept, or the job is stopped; merge bool,
# clean bool: whether what it leaves behind is stopped; command bytes-like: packed [command dict,
# cwd bytes or None, env {bytes: bytes}], which the first process alone unpacks; script bytes-like:
# of a function what its interpreter reads as descriptor 3, else nothing
Work = namedtuple("Work", "id timeout lease max_output truncate merge clean command script")

# How long after the first process's end its pipes may stay open.
DRAIN = 2.0
GRACE = 5.0
# What is read at once: of a job that prints little, and of one that filled as much.
_SMALL_PIECE = 1 << 13
_PIECE = 1 << 18
_PIPE_SIZE = 1 << 20
_F_SETPIPE_SZ = 1031
# How often a supervisor that cannot adopt orphans looks for processes left behind.
_LOOK_AROUND = 2.0
_STOP_REASONS = ("stopped", "session-ended", "lease")


def live(work: Work, stdin: memoryview, dir_fd: int, reporter: int, lifeline: int | None) -> None:
    """The life of a supervisor, for a fork of the nursery that is to be nothing else.

    ``stdin`` is what the job reads. The descriptors are its own: the job's directory, which is
    claimed; a pipe, on which it reports ``+`` once the job runs or its start has failed and that
    stands in the outcome, and in words where it could not do its part; and a pipe whose end means
    that the job's session is over.
    """
    try:
        supervisor = Supervisor(dir_fd, work, stdin, lifeline)
        supervisor.start()
    except OSError as exc:
        os.write(reporter, (exc.strerror or str(exc)).encode("utf-8", "replace"))
        raise
    os.write(reporter, b"+")
    os.close(reporter)
    supervisor.run()


# How the first process ended: wait status (None where it never was), rusage (or None), and when.
End = namedtuple("End", "status usage time")


class _Source:
    """One pipe from the job, and the file that its output goes to."""

    def __init__(self, fd: int, name: bytes, file: int) -> None:
        self.fd = fd
        self.name = name
        self.file = file
        self.size = 0  # what was written to the file
        self.inode = os.fstat(fd).st_ino


class Supervisor:
    def __init__(self, dir_fd: int, work: Work, stdin: memoryview, lifeline: int | None) -> None:
        self._me = os.getpid()
        self._dir_fd = dir_fd
        self._work = work
        self._job_id: bytes = work.id
        self._lifeline = lifeline
        self._adopts = False  # orphans among the job's processes
        self._poll = select.poll()
        self._buffer = memoryview(bytearray(_SMALL_PIECE))
        self._sources: dict[int, _Source] = {}
        self._outputs: list[_Source] = []  # the same, those at their end included
        self._inputs: dict[int, memoryview] = {}  # pipes to the job, and what is still to be sent
        self._given = stdin
        self._spotter: _records.Spotter | None = None
        self._pid = 0  # the job's first process; 0 where it could not be started
        self._start = 0  # its start time, once somebody asked
        self._started: float | None = None
        self._end: End | None = None
        self._reason: str | None = None  # why the job did not end by itself
        self._error: str | None = None
        self._recorded = False
        self._abandoned = False  # what it left behind is no longer looked after
        self._stopper = 0  # the process that is stopping the tree
        self._stopper_fd = -1
        self._kill_at = 0.0
        self._survivors: list[str] = []
        self._to_answer: list[bytes] = []  # requests that wait for the end of the stopper
        self._countdown: lease.Countdown | None = None
        self._tail: tail.Tail | None = None
        self._timeout: float | None = None  # monotonic, as the next one
        self._drained: float | None = None

    # -- the beginning

    def start(self) -> None:
        """Takes the job's place, writes that down, and runs the job's first process.

        Raises OSError where the place could not be taken; the job was not run then. A program or
        directory that is missing is no error here: that is how the job ended.
        """
        self._adopts = become_subreaper()
        liveness.take(self._dir_fd)
        self._inbox = asks.Inbox(self._dir_fd)
        self._signals = _signal_pipe()
        self._index = jobdir.open_output(self._dir_fd, jobdir.INDEX)
        if self._work.truncate:
            self._tail = tail.Tail(self._dir_fd, self._index, self._work.max_output)
        if self._work.lease is not None:
            self._countdown = lease.Countdown(self._dir_fd, self._work.lease)
            self._poll.register(self._countdown.fd, select.POLLIN)
        pipes = self._open_pipes()
        self._started = time.time()
        try:
            self._pid = spawn_prepared(lambda: self._prepare(pipes))
        except (SpawnError, OSError) as exc:
            if isinstance(exc, SpawnError) and exc.what == "beforehand":
                raise OSError(exc.errno, exc.message) from exc
            self._never_ran(exc)
        finally:
            for fd in set(pipes):
                os.close(fd)
        for watched in (self._inbox.fd, self._signals, self._lifeline, *self._sources):
            if watched is not None:
                self._poll.register(watched, select.POLLIN)
        if self._work.timeout is not None:
            self._timeout = time.monotonic() + self._work.timeout

    def _prepare(self, pipes: tuple[int, ...]) -> tuple[Any, ...]:
        """What the first process does before it becomes the job's program; what `spawn` is told."""
        own = os.getpid()
        process: dict[str, Any] = dict(
            liveness.here(),
            pid=own,
            start_time=tree.start_time(own),
            started=self._started,
            supervisor={"pid": self._me, "start_time": tree.start_time(self._me)},
        )
        # From here on nobody else runs this job: what dies before this line has not run it.
        jobdir.write_json(self._dir_fd, jobdir.PROCESS, process)
        jobdir.unclaim(self._dir_fd)
        if os.getppid() != self._me:
            raise OSError(errno.ESRCH, "the supervisor was killed")  # then nobody hears it
        command: Any = _msgpack.unpack(bytes(self._work.command))
        return (self._job_id, *command, *pipes)

    def _never_ran(self, exc: Exception) -> None:
        """Before the answer to the start: it tells of this end."""
        self._started = None
        self._reason = "start-failed"
        self._error = str(exc)
        self._end = End(None, None, time.time())
        for fd in self._sources:
            os.close(fd)
        self._sources = {}
        self._record()

    def _open_pipes(self) -> tuple[int, ...]:
        """What the first process gets as stdin, stdout and stderr, and of a function its script
        and where its records go; the other ends stay here."""
        stdout = self._open_output(b"stdout")
        stderr = stdout if self._work.merge else self._open_output(b"stderr")
        if self._given:
            stdin = self._open_input(self._given)
        else:
            stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        if not self._work.script:
            return stdin, stdout, stderr
        from remit import _records  # few jobs are functions

        self._spotter = _records.Spotter()
        script = self._open_input(self._work.script)
        return stdin, stdout, stderr, script, self._open_output(b"records")

    def _open_input(self, data: memoryview) -> int:
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        self._inputs[writer] = data
        self._poll.register(writer, select.POLLOUT)
        return reader

    def _open_output(self, name: bytes) -> int:
        reader, writer = os.pipe()
        try:
            fcntl.fcntl(reader, _F_SETPIPE_SZ, _PIPE_SIZE)
        except OSError:
            pass  # the account's share of large pipes is used up
        os.set_blocking(reader, False)
        source = _Source(reader, name, jobdir.open_output(self._dir_fd, name))
        self._sources[reader] = source
        self._outputs.append(source)
        return writer

    # -- the loop

    def run(self) -> None:
        """Until the job has ended, that stands in the outcome, and nothing of it is left."""
        while not self._recorded or not self._alone():
            for fd, _ in self._poll.poll(self._patience()):
                if fd == self._inbox.fd:
                    self._read_requests()
                elif fd == self._signals:
                    self._read_signals()
                elif fd == self._stopper_fd:
                    self._stopper_done()
                elif fd == self._lifeline:
                    self._session_is_over()
                elif self._countdown is not None and fd == self._countdown.fd:
                    self._countdown.look()
                elif fd in self._inputs:
                    self._feed(fd)
                elif fd in self._sources:
                    self._take(self._sources[fd])
            self._reap()
            self._look_at_the_clock()
            if self._end is not None and not self._recorded and self._is_over():
                self._record()

    def _patience(self) -> int | None:
        """Milliseconds until something is to be done that no descriptor tells."""
        times = [self._timeout, None if self._recorded else self._drained, self._lease_end()]
        due = [at - time.monotonic() for at in times if at is not None]
        if self._recorded and not self._adopts:
            due.append(_LOOK_AROUND)
        return max(0, int(min(due) * 1000) + 1) if due else None

    def _look_at_the_clock(self) -> None:
        if self._timeout is not None and time.monotonic() >= self._timeout:
            self._timeout = None
            if self._end is None:
                self._stop("timeout", GRACE)
        lease_end = self._lease_end()
        if lease_end is not None and time.monotonic() >= lease_end:
            self._stop("lease", GRACE)

    def _lease_end(self) -> float | None:
        """When the job is to be stopped unless somebody comes, where that is still open."""
        if self._countdown is None or self._end is not None or self._reason is not None:
            return None
        return self._countdown.until

    def _is_over(self) -> bool:
        if self._stopper:
            return False
        if self._sources and time.monotonic() < (self._drained or 0.0):
            return False
        if self._work.clean and not self._survivors and self._left():
            self._stop(None, GRACE)
            return False
        return True

    def _alone(self) -> bool:
        """Whether no process is left that a request could be about."""
        if self._stopper:
            return False
        if self._abandoned:
            return True
        if self._adopts and not _has_children():
            return True
        return not self._search()()

    # -- output and input

    def _take(self, source: _Source) -> None:
        if source.name == b"records":
            # What was printed before a record is in its pipe before it.
            for other in [other for other in self._sources.values() if other is not source]:
                self._take(other)
        try:
            size = os.readv(source.fd, [self._buffer])
        except BlockingIOError:
            return
        if not size:
            self._poll.unregister(source.fd)
            del self._sources[source.fd]
            os.close(source.fd)
        elif not self._recorded and source.file >= 0:
            self._append(source, self._buffer[:size])
        if size == _SMALL_PIECE == len(self._buffer):
            self._buffer = memoryview(bytearray(_PIECE))

    def _append(self, source: _Source, data: memoryview) -> None:
        offset, whole = source.size, data
        too_much = False
        if self._work.max_output is not None and self._tail is None:
            room = self._work.max_output - sum(each.size for each in self._outputs)
            too_much = len(data) > room
            data = data[:room]
        try:
            while data:
                written = os.write(source.file, data)
                source.size += written
                data = data[written:]
        except OSError as exc:
            self._out_of_space(exc)
        if self._spotter is not None and source.name == b"records":
            self._spotter.feed(whole[: source.size - offset])
        if source.size > offset:
            line = jobdir.pack_line(time.time(), source.name, offset, source.size - offset)
            try:
                jobdir.write_all(self._index, line)
            except OSError as exc:
                # A reader takes what follows the last whole line as one last piece.
                lines = os.fstat(self._index).st_size // jobdir.LINE_SIZE
                os.ftruncate(self._index, lines * jobdir.LINE_SIZE)
                self._out_of_space(exc)
        if too_much and self._error is None:
            words = "there was more output than the %d bytes that were asked for"
            self._take_no_more(words % self._work.max_output, "max-output")
        elif self._tail is not None and self._tail.is_due(source.name.decode(), source.size):
            self._free_the_oldest()

    def _free_the_oldest(self) -> None:
        assert self._tail is not None
        sizes = {each.name.decode(): (each.file, each.size) for each in self._outputs}
        try:
            self._tail.cut(sizes)
        except OSError as exc:
            if self._end is None:
                self._out_of_space(exc)

    def _out_of_space(self, exc: OSError) -> None:
        full = exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        words = "the output could not be written: %s" % exc.strerror
        self._take_no_more(words, "no-space" if full else "write-failed")

    def _take_no_more(self, error: str, reason: str) -> None:
        """Keeps what was written, and stops the job."""
        for source in self._outputs:
            source.file = -1
        if self._error is None:
            self._error = error
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
        self._poll.unregister(fd)
        os.close(fd)
        del self._inputs[fd]

    # -- signals and ended processes

    def _read_signals(self) -> None:
        if signal.SIGTERM in os.read(self._signals, 4096):
            self._stop("stopped", GRACE)

    def _session_is_over(self) -> None:
        """The agent is gone, however it went: nobody holds the other end of the lifeline."""
        self._poll.unregister(self._lifeline)  # type: ignore[arg-type]
        if self._recorded:
            # It ended before, and took nothing with it. Nobody is left who would ask for the rest.
            self._abandoned = True
        else:
            self._stop("session-ended", GRACE)

    def _reap(self) -> None:
        """Orphans that we adopted included: nobody else would."""
        while True:
            try:
                pid, status, usage = _wait()
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self._pid:
                self._end = End(status, usage, time.time())
                self._drained = time.monotonic() + DRAIN

    # -- requests

    def _read_requests(self) -> None:
        requests, rung = self._inbox.read()
        if rung:
            self._stop("stopped", GRACE)
        for name, request in requests:
            what = name.split(b"-")[0]
            if what == b"stop":
                if name not in self._to_answer:
                    self._to_answer.append(name)
                    self._stop(_reason(request), _grace(request))
            elif what in (b"suspend", b"resume"):
                act = tree.pause if what == b"suspend" else tree.unpause
                act(self._search())
                self._inbox.answer(name, {})
            else:
                words = "%s is no request that this supervisor knows" % what.decode(
                    "ascii", "replace"
                )
                self._inbox.answer(name, {"error": words})

    def _stop(self, reason: str | None, grace: float) -> None:
        """Has the whole tree stopped, in a process of its own: output goes on meanwhile."""
        if self._end is None and self._reason is None:
            self._reason = reason
        kill_at = time.monotonic() + grace
        if self._stopper:
            if kill_at >= self._kill_at:
                return
            # Somebody has less patience than who asked before.
            os.kill(self._stopper, signal.SIGKILL)
            self._poll.unregister(self._stopper_fd)
            os.close(self._stopper_fd)
        self._kill_at = kill_at
        result, sender = os.pipe()
        self._stopper = os.fork()
        if not self._stopper:
            try:
                signal.set_wakeup_fd(-1)
                search = self._search()
                if self._spotter is not None and self._end is None:
                    grace = tree.interrupt(self._roots(), grace)
                survivors = tree.end(search, grace)
                os.write(sender, _msgpack.pack(survivors[:64]))
            finally:
                os._exit(0)
        os.close(sender)
        self._stopper_fd = result
        self._poll.register(result, select.POLLIN)

    def _stopper_done(self) -> None:
        answer = os.read(self._stopper_fd, 1 << 16)
        self._poll.unregister(self._stopper_fd)
        os.close(self._stopper_fd)
        self._stopper = 0
        self._stopper_fd = -1
        try:
            self._survivors = _msgpack.unpack(answer)  # type: ignore[assignment]
        except _msgpack.UnpackError:
            self._survivors = ["unknown: the process that stopped them was killed itself"]
        self._reap()
        if self._recorded or self._end is None:
            self._answer_stops()

    def _answer_stops(self) -> None:
        for name in self._to_answer:
            self._inbox.answer(name, {"survivors": self._survivors})
        self._to_answer = []

    def _roots(self) -> list[tuple[int, int]]:
        if not self._start and self._end is None:
            # Until it has been reaped its pid is its own.
            self._start = tree.start_time(self._pid) or 0
        return [(self._pid, self._start)]

    def _search(self) -> tree.Search:
        """Where orphans are adopted all that is the job's descends from us; else sessions tell."""
        adopted = self._adopted if self._adopts else None
        return tree.Search({self._job_id: self._roots()}, adopted, by_session=not self._adopts)

    def _adopted(self, everyone: dict[int, tree.Process]) -> list[int]:
        """Our children, but for the process that stops the tree, and for supervisors of other jobs,
        which were started from within this one."""
        return [
            process.pid
            for process in everyone.values()
            if process.ppid == self._me
            and process.pid not in (self._stopper, os.getpid())
            and not tree.is_supervisor(process.pid)
        ]

    def _left(self) -> list[str]:
        if self._adopts and not _has_children():
            return []
        return tree.named(self._search())

    # -- the end

    def _record(self) -> None:
        end = self._end
        assert end is not None
        left = self._left()
        if self._tail is not None:
            self._free_the_oldest()
        outcome = dict(
            _how_it_ended(end),
            format=jobdir.FORMAT,
            error=self._error,
            note=self._note(end, left),
            left_behind=left,
            started=self._started,
            finished=end.time,
            sizes={"stdout": 0, "stderr": 0},
        )
        outcome["sizes"].update({source.name.decode(): source.size for source in self._outputs})
        if self._reason is not None:
            outcome["reason"] = self._reason
        if self._spotter is not None:
            outcome = self._spotter.judge(outcome)
        self._recorded = True
        self._timeout = None
        for fd in list(self._inputs):
            self._close_input(fd)
        jobdir.write_outcome(self._dir_fd, outcome)
        if not self._stopper:
            self._answer_stops()

    def _note(self, end: End, left: list[str]) -> str | None:
        if self._sources:
            holders = tree.holders({source.inode for source in self._sources.values()})
            return "output held open by %s" % (", ".join(holders) or "a process out of sight")
        if left:
            return "left running: %s" % ", ".join(left)
        killed = end.status is not None and os.WIFSIGNALED(end.status)
        if killed and os.WTERMSIG(end.status) == signal.SIGKILL and self._reason is None:
            return memory.NOTE if memory.look() else None
        return None


def _how_it_ended(end: End) -> dict[str, Any]:
    if end.status is None:
        return {"exit_status": None, "signal": None, "reason": "start-failed"}
    exited = os.WIFEXITED(end.status)
    return {
        "exit_status": os.WEXITSTATUS(end.status) if exited else None,
        "signal": None if exited else _signal_name(os.WTERMSIG(end.status)),
        "reason": "exited" if exited else "signalled",
        "core": not exited and os.WCOREDUMP(end.status),
        "rusage": None if end.usage is None else _rusage(end.usage),
    }


def _rusage(usage: Any) -> dict[str, float]:
    return {
        "user": usage.ru_utime,
        "system": usage.ru_stime,
        "max_rss": usage.ru_maxrss * 1024,
    }


def _reason(request: dict[str, Any]) -> str:
    reason = request.get("reason")
    return reason if reason in _STOP_REASONS else "stopped"


def _grace(request: dict[str, Any]) -> float:
    grace = request.get("grace")
    return float(grace) if isinstance(grace, (int, float)) and grace >= 0 else GRACE


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "SIGRT%d" % number


def _wait() -> tuple[int, int, Any]:
    """The pid, status and rusage (None where that cannot be had) of a child that has ended."""
    if not _KNOWS_USAGE:
        return (*os.waitpid(-1, os.WNOHANG), None)
    return os.wait4(-1, os.WNOHANG)


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


def note_signals() -> None:
    """What makes the numbers of these two appear in the pipe: a handler in Python."""
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, _noted)


def _noted(number: int, frame: object) -> None:
    pass

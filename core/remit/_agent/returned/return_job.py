"""Return jobs: what they print goes to the caller as it is printed, and nothing stays here.

Pipes become DATA frames under the caller's credit. Without credit the pipe stays full and the job
waits: nothing is buffered in the agent.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import time
from typing import TYPE_CHECKING

from remit._agent.base import arguments, oom, process_tree
from remit._agent.base.spawn import SpawnError, failure, spawn_soon
from remit._agent.returned.stdin import Stdin
from remit._jobdir import proc
from remit._wire import states
from remit._wire.conversation import MAX_PIECE, Piece
from remit._wire.ended import of_status
from remit._wire.refusal import Refused
from remit._wire.streams import NAMES, RECORDS, STDERR, STDOUT

try:
    import termios
except ImportError:  # python3-minimal
    termios = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from typing import Any, Callable

    from remit._agent.base.helpers import Done
    from remit._agent.base.link import Link
    from remit._agent.base.loop import Timer
    from remit._agent.base.services import Place, Session

# How long output may be held open by others once the first process has ended.
DRAIN = 2.0
# Seconds between TERM and KILL for what a job leaves behind, and at the end of the session.
GRACE = 3.0
STOP_GRACE = 5.0
# Readable for this long without credit: the job is told to be held up.
HELD_UP = 1.0
# Seconds after which the janitor is told of the first process, beside the id.
TELL_ROOT = 1.0
# How many ended jobs are remembered at least, for requests that crossed their end on the wire.
REMEMBERED = 256
# How much of their commands is, in bytes, and what a word takes beside its own.
REMEMBERED_COMMAND = 1024
_WORD_SIZE = 40
# A pipe that is filled is worth the memory of a large one.
PIPE_SIZE = 1 << 20
_PIPE_DEFAULT = 1 << 16
_F_SETPIPE_SZ = 1031
# Where termios is missing: asm-generic/ioctls.h, which all but a few old architectures use.
_FIONREAD = 0x541B if termios is None else termios.FIONREAD


def start(link: Link, channel: int, args: dict[str, Any]) -> None:
    """The verb, for ``spool: false``."""
    job_id = arguments.job_id(args, "id")
    if job_id in link.session.returned:
        raise Refused("state", "there is a job %s in this session already" % job_id)
    if link.session.ending:
        raise Refused("state", "the session is about to end")
    if "function" in arguments.take(args, "command", dict):
        from remit._agent.returned.function_job import FunctionJob  # few sessions have any

        job: ReturnJob = FunctionJob(link, channel, job_id, args)
    else:
        job = ReturnJob(link, channel, job_id, args)
    link.session.returned[job_id] = job
    try:
        job.begin()
    except OSError as exc:
        del link.session.returned[job_id]
        raise Refused("start-failed", "no job can be started: %s" % exc.strerror) from exc


class _Output:
    """One pipe that the job writes to."""

    __slots__ = ("fd", "grown", "offset", "quota", "stream", "watched")

    def __init__(self, fd: int, stream: int) -> None:
        self.fd = fd
        self.stream = stream
        self.offset = 0
        self.watched = False
        self.grown = False
        self.quota: int | None = None  # what is still to be read of a pipe that others hold open


class ReturnJob:
    """One return job, and the handler of its channel."""

    def __init__(self, link: Link, channel: int, job_id: str, args: dict[str, Any]) -> None:
        """Raises Refused where an argument is malformed; starts nothing."""
        self.id = job_id
        self.state = states.PENDING
        self._link = link
        self._orphans = link.session.orphans  # from before it starts: it may leave some at once
        self._channel = channel
        self._facts = {
            "id": job_id,
            "name": arguments.name(args),
            "group": arguments.take(args, "group", str, default=None),
            "placement": arguments.take(args, "placement", str),
            "lifetime": arguments.take(args, "lifetime", str),
            "location": None,
            "command": arguments.command(args),
            "cwd": arguments.path(args, "cwd"),
            "created": time.time(),
        }
        if self._facts["lifetime"] != "session":
            raise Refused("bad-request", "a job that is not kept lives as long as its session")
        self._env = arguments.environment(args)
        self._timeout = arguments.seconds(args, "timeout", None)
        self._leftovers = arguments.leftovers(args)
        self._merge = arguments.take(args, "merge", bool, default=False)
        self._wants_stdin = arguments.take(args, "stdin", bool, default=False)
        self._started: float | None = None
        self._finished: float | None = None
        self._outcome: dict[str, object] | None = None
        self._pid = 0  # the first process's
        self._start = 0  # and its start time, once somebody asked
        self._entry: _Entry | None = None  # its process, as long as it is on its way
        self._outputs: list[_Output] = []
        self._sizes = {STDOUT: 0, STDERR: 0}
        self._seq = 0
        self._stdin: Stdin | None = None
        self._timers: dict[str, Timer] = {}
        self._status: int | None = None  # the first process's, as waitpid tells it
        self._reason: str | None = None  # why we end it, where we do
        self._given_up = False  # its first process is not ours to end, and runs on
        self._note: str | None = None
        self._left: list[str] = []
        self._swept = False  # whatever it left behind has been stopped
        self._helpers = 0  # at work for this job; it is not over before they are
        self._stops: list[int] = []  # channels whose stop has done its work
        self._watchers: set[int] = set()
        self._unwanted = False  # the caller has given it up

    # -- the beginning

    def begin(self) -> None:
        """Starts it and answers. Raises OSError where the system has no room for another."""
        theirs: list[int] = []
        try:
            stdin_fd = 0  # /dev/null
            if self._wants_stdin:
                stdin_fd, feed_fd = os.pipe()
                theirs.append(stdin_fd)
                self._stdin = Stdin(self._link, self._channel, feed_fd)
            stdout_fd = stderr_fd = self._open_output(STDOUT, theirs)
            if not self._merge:
                stderr_fd = self._open_output(STDERR, theirs)
            self._link.session.session_job(self.id, True)
            pid, report = spawn_soon(
                self.id.encode(),
                self._facts["command"],
                self._facts["cwd"],
                self._env,
                stdin_fd,
                stdout_fd,
                stderr_fd,
            )
        except (SpawnError, OSError) as exc:
            self._let_go()
            if isinstance(exc, OSError):
                self._link.session.session_job(self.id, False)
                raise
            self._never_ran(exc)
            return
        finally:
            for fd in theirs:
                os.close(fd)
        self._env = {}  # it may be large, and the job long
        if report < 0:
            self._begun(pid)
        else:
            self._link.handlers[self._channel] = self
            self._entry = _Entry(self._link.session, pid, report, self._entered)
            self._limit_time()

    def _entered(self, entry: _Entry, failed: SpawnError | None) -> None:
        """Its process has gone where it was to go, and runs the program, or could not."""
        if self.finished:
            return
        if failed is not None:
            self._never_ran(failed)
            return
        self._begun(entry.pid)
        if entry.status is not None:
            self._root_ended(entry.status)

    def _open_output(self, stream: int, theirs: list[int]) -> int:
        fd, writing = os.pipe()
        theirs.append(writing)
        os.set_blocking(fd, False)
        self._outputs.append(_Output(fd, stream))
        return writing

    def _begun(self, pid: int) -> None:
        self._started = time.time()
        self.state = states.move(self.state, states.STARTED)
        self._pid = pid
        self._watch_root(pid)
        self._later("tell root", TELL_ROOT, self._tell_root)
        self._limit_time()
        self._link.handlers[self._channel] = self
        self._link.accept(self._channel, self.view())
        if self._stdin is not None:
            self._stdin.accepted()
        self._read_on()

    def _limit_time(self) -> None:
        if self._timeout is not None:
            self._later("timeout", self._timeout, lambda: self._stop("timeout", STOP_GRACE, None))

    def _watch_root(self, pid: int) -> None:
        if self._entry is not None and self._entry.status is not None:
            return  # it has ended already
        self._link.session.children.watch(pid, self._root_ended)

    def _never_ran(self, exc: SpawnError) -> None:
        self._over_before_it_ran("start-failed", exc.message)

    def _over_before_it_ran(self, reason: str, error: str | None = None) -> None:
        """Nothing of it has run, and nothing will."""
        self._outcome = outcome_map(reason, error=error)
        self.state = states.move(self.state, states.ended(None, None, reason))
        self._finished = time.time()
        self._link.accept(self._channel, self.view())
        self._over()

    # -- what the caller sees of it

    def view(self) -> dict[str, object]:
        """The job map of docs/wire.md."""
        sizes = {NAMES[stream]: size for stream, size in self._sizes.items()}
        return dict(
            self._facts,
            state=self.state,
            started=self._started,
            finished=self._finished,
            outcome=self._outcome,
            has_more=self._finished is None,
            sizes=sizes,
            used=sizes,  # sent is used up: what came of it is the caller's to know
            problem=None,
        )

    @property
    def _roots(self) -> list[tuple[int, int]]:
        """As `remit._agent.base.process_tree` wants them."""
        # Asked for late: it costs, and for a short job nobody needs it. Until the process has
        # been reaped its pid is its own; afterwards no start time fits, and its session does.
        if not self._pid:
            return []
        if not self._start and self._status is None:
            self._start = proc.start_time(self._pid) or 0
        return [(self._pid, self._start)]

    def _tell_root(self) -> None:
        for root in self._roots:
            self._link.session.session_root(self.id, root)

    @property
    def finished(self) -> bool:
        return self._finished is not None

    @property
    def is_ending(self) -> bool:
        """Whether its end is a matter of news that are on their way."""
        return self._helpers > 0 or (self._status is None and not self.finished)

    def _move(self, event: str) -> None:
        self.state = states.move(self.state, event)
        for channel in (self._channel, *self._watchers):
            self._link.event(channel, "job", **self.view())

    # -- what arrives on its channel

    def on_data(self, piece: Piece) -> None:
        if self._stdin is not None:
            self._stdin.take(piece.data)

    def on_end(self, body: object) -> None:
        if self._stdin is not None:
            self._stdin.end()

    def on_credit(self) -> None:
        self._cancel("held up")
        if self.state == states.BLOCKED:
            self._move(states.READ_ON)
        self._read_on()

    def on_room(self) -> None:
        self._read_on()

    def on_close(self) -> None:
        self._unwanted = True
        for output in list(self._outputs):
            self._close_output(output)
        self._stop("stopped", STOP_GRACE, None)

    # -- output

    def _read_on(self) -> None:
        if not self._link.conversation.accepted(self._channel):
            return  # it may run already, but the answer comes first
        for output in list(self._outputs):
            if not output.watched:
                output.watched = True
                self._link.loop.watch_fd(output.fd, lambda output=output: self._readable(output))  # type: ignore[misc]

    def _park(self, output: _Output) -> None:
        """Looks away from an output until there is credit or room."""
        if output.watched:
            output.watched = False
            self._link.loop.unwatch_fd(output.fd)

    def _readable(self, output: _Output) -> None:
        if output.stream == RECORDS:
            # What was printed before a record is in its pipe before it.
            for other in [other for other in self._outputs if other is not output]:
                self._read(other)
        self._read(output)
        self.settle()

    def _read(self, output: _Output) -> bool:
        """Passes one piece on; whether there may be more to read at once."""
        credit = self._link.conversation.credit(self._channel)
        if not credit:
            events = _events(output.fd)
            if events & select.POLLIN:
                self._park(output)
                self._later("held up", HELD_UP, self._held_up)
            elif events & select.POLLHUP:
                self._close_output(output)
            return False
        if not self._link.has_room():
            self._park(output)
            return False
        size = min(MAX_PIECE, credit)
        if output.quota is not None:
            size = min(size, output.quota)
        try:
            data = os.read(output.fd, size)
        except BlockingIOError:
            return False
        if data:
            self._pass_on(output, data)
        if not data or output.quota == 0:
            self._close_output(output)
            return False
        return True

    def _pass_on(self, output: _Output, data: bytes) -> None:
        piece = Piece(output.stream, self._seq, self._sizes[output.stream], time.time(), data)
        self._link.conversation.data(self._channel, piece)
        self._seq += 1
        self._sizes[output.stream] += len(data)
        if output.quota is not None:
            output.quota -= len(data)
        if len(data) >= _PIPE_DEFAULT and not output.grown:
            output.grown = True
            try:
                fcntl.fcntl(output.fd, _F_SETPIPE_SZ, PIPE_SIZE)
            except OSError:
                pass  # this account has as much memory in pipes as it may

    def _close_output(self, output: _Output) -> None:
        self._park(output)
        os.close(output.fd)
        self._outputs.remove(output)

    def _held_up(self) -> None:
        if self.state == states.RUNNING and not self.finished:
            self._move(states.HELD_UP)

    # -- the end

    def _root_ended(self, status: int | None) -> None:
        """``status``: as waitpid tells it; None where nobody can tell."""
        if self._given_up:
            return
        self._status = status
        if status is None:
            self._given_up = True
            self._reason = self._reason or "supervisor-lost"
            self._note = "its end is not known: the interpreter that forked it was killed"
        self._cancel("timeout")
        # Most often all there is to come is in the pipes by now, and this is the end.
        self._read_out()
        if self._swept:
            self._drained()
        elif self._outputs:
            self._later("drain", DRAIN, self._drained)
        self.settle()
        # Where the helper that ended it was quicker than the news of its end.
        self._answer_stops()

    def _read_out(self) -> None:
        """Passes on what is in the pipes, as far as there is credit and room."""
        for output in list(self._outputs):
            while self._read(output):
                pass

    def _drained(self) -> None:
        """No more is waited for: what is in the pipes still counts, what comes later does not."""
        self._cancel("drain")
        self._read_out()
        inodes = []
        for output in list(self._outputs):
            if output.quota is not None or _events(output.fd) & select.POLLHUP:
                continue  # nobody can write any more: its end comes once there is credit
            inodes.append(os.fstat(output.fd).st_ino)
            output.quota = _pending(output.fd)
            if not output.quota:
                self._close_output(output)
        if inodes:
            self._help(process_tree.looking(process_tree.holders, inodes), self._found_holders)

    def _found_holders(self, names: list[str] | None, error: Refused | None) -> None:
        if self._given_up:
            return  # it was said who runs on
        who = ", ".join(names) if names else "a process that cannot be seen from here"
        self._note = "output held open by " + who

    def settle(self) -> None:
        """Ends the job if it is over."""
        running = self._status is None and not self._given_up
        if running or self._outputs or self._helpers or self.finished:
            return
        if not self._swept:
            self._swept = True
            if self._orphans.may_be_of(self.id):
                if self._takes_all:
                    self._help(process_tree.ending(self._search(), GRACE), self._found_left)
                else:
                    self._help(
                        process_tree.looking(process_tree.named, self._search()), self._found_left
                    )
                return
        self._finish(self._status)

    def _found_left(self, left: list[str] | None, error: Refused | None) -> None:
        if self.state != states.STOPPING:  # else it is found by whoever ends them
            self._left = left or []

    @property
    def _takes_all(self) -> bool:
        """Whether what it left behind ends with it: not where it ended by itself, unless asked."""
        return self._reason is not None or self._leftovers == "stop"

    def _search(self) -> process_tree.Search:
        return self._orphans.search({self.id: self._roots})

    @staticmethod
    def _ending(
        search: process_tree.Search, roots: list[tuple[int, int]], grace: float
    ) -> process_tree.Steps[list[str]]:
        """How its processes are ended."""
        return process_tree.ending(search, grace)

    def _finish(self, status: int | None) -> None:
        exit_status, signal, _ = of_status(status)
        reason = self._reason or ("exited" if signal is None else "signalled")
        if signal == "SIGKILL" and self._reason is None and oom.look():
            self._note = self._note or oom.NOTE
        if self._left and self._note is None and not self._takes_all:
            self._note = "left running: " + ", ".join(self._left)
        outcome = outcome_map(reason, exit_status, signal, self._note, self._left)
        self._outcome = self._judge(outcome)
        reason = str(outcome["reason"])
        self.state = states.move(self.state, states.ended(exit_status, signal, reason))
        self._finished = time.time()
        self._over()

    def _judge(self, outcome: dict[str, object]) -> dict[str, object]:
        """The outcome with what else is known of the end."""
        return outcome

    def _over(self) -> None:
        left = not self._takes_all and self._orphans.has_any
        self._link.session.session_job(self.id, False, left=left)
        self._let_go()
        answer = {"job": self.view()}
        for channel in (self._channel, *self._watchers):
            self._link.end(channel, answer)
        self._watchers.clear()
        self._answer_stops()
        self._forget()
        returned = self._link.session.returned
        if self._unwanted:
            returned.pop(self.id, None)
        if len(returned) > 2 * REMEMBERED:
            ended = [job for job in returned.values() if job.finished]
            for job in ended[:-REMEMBERED]:
                del returned[job.id]

    def _forget(self) -> None:
        """Keeps of a job that is over only what a request that crossed its end may ask for."""
        self._env = {}
        self._facts["command"] = _shortened(self._facts["command"])

    def _let_go(self) -> None:
        if self._entry is not None:
            self._entry.give_up()
        for name in list(self._timers):
            self._cancel(name)
        for output in list(self._outputs):
            self._close_output(output)
        if self._stdin is not None:
            self._stdin.close()

    # -- requests

    def stop(self, channel: int, args: dict[str, Any]) -> None:
        grace = arguments.seconds(args, "grace", STOP_GRACE)
        if self.finished:
            self._stops.append(channel)
            self._answer_stops()
        else:
            self._stop("stopped", grace or 0.0, channel)

    def _stop(self, reason: str, grace: float, channel: int | None) -> None:
        if self._entry is not None:
            self._entry.look()
        if self.state == states.PENDING:
            if channel is not None:
                self._stops.append(channel)
            self._over_before_it_ran(reason)
            return
        if self._status is None and not self._reason:
            self._reason = reason
        if self.state != states.STOPPING:
            self._move(states.ASKED_TO_STOP)

        def stopped(survivors: list[str] | None, error: Refused | None) -> None:
            self.stopped(survivors or [])
            if channel is not None and error is not None:
                self._link.fail(channel, error)
            elif channel is not None:
                self._stops.append(channel)

        self._help(self._ending(self._search(), self._roots, grace), stopped)

    def stopped(self, survivors: list[str]) -> None:
        """Its processes have been ended, but for those."""
        self._swept = True
        self._left = survivors
        if self._status is None and survivors and self._reason == "timeout":
            # What another account runs (sudo) may go on for ever. Nobody is kept waiting for that.
            self._given_up = True
            self._note = "could not be ended: " + ", ".join(survivors)
        if self._status is not None or self._given_up:
            self._drained()

    def end_with_session(self) -> list[tuple[int, int]]:
        """Says that its processes are about to be ended; their roots. Of one whose process is not
        known yet nothing has run: it is over."""
        if self._entry is not None:
            self._entry.look()
        if self.state == states.PENDING:
            self._over_before_it_ran("session-ended")
            return []
        if self._status is None and not self._reason:
            self._reason = "session-ended"
        if self.state != states.STOPPING:
            self._move(states.ASKED_TO_STOP)
        return self._roots

    def _answer_stops(self) -> None:
        # Output that waits for credit does not keep the answer: the caller may read it only then.
        if self._status is not None or self._left or self.finished:
            answer = {"survivors": self._left, "job": self.view()}
            while self._stops:
                self._link.reply(self._stops.pop(), answer)

    def suspend(self, channel: int, args: dict[str, Any]) -> None:
        if self.state not in (states.RUNNING, states.BLOCKED, states.SUSPENDED):
            raise self._in_no_state("suspended")
        self._signal(channel, process_tree.pause, states.PAUSED)

    def resume(self, channel: int, args: dict[str, Any]) -> None:
        if self.state not in (states.RUNNING, states.BLOCKED, states.SUSPENDED):
            raise self._in_no_state("resumed")
        self._signal(channel, process_tree.unpause, states.CONTINUED)

    def _signal(self, channel: int, function: Callable[..., object], event: str) -> None:
        def done(_: object, error: Refused | None) -> None:
            if error is not None:
                self._link.fail(channel, error)
                return
            if event in states.NEXT[self.state]:
                self._move(event)
                if event == states.CONTINUED:
                    self._read_on()  # so that it shows if it is held up
            self._link.reply(channel, self.view())

        self._help(process_tree.looking(function, self._search()), done)

    def remove(self, channel: int, args: dict[str, Any]) -> None:
        if not self.finished:
            if not arguments.take(args, "force", bool, default=False):
                raise self._in_no_state("removed: it runs")
            self._unwanted = True
            self._stop("stopped", STOP_GRACE, None)
        else:
            del self._link.session.returned[self.id]
        self._link.reply(channel, {})

    def watch(self, channel: int, args: dict[str, Any]) -> None:
        self._link.accept(channel, self.view())
        if self.finished:
            self._link.end(channel, {"job": self.view()})
        else:
            self._watchers.add(channel)
            self._link.handlers[channel] = _Watcher(self._watchers, channel)

    def _in_no_state(self, what: str) -> Refused:
        return Refused("state", "job %s is %s and cannot be %s" % (self.id, self.state, what))

    # -- small ones

    def _help(self, steps: process_tree.Steps[Any], done: Done) -> None:
        """As `services.Helpers.take`, but the job is not over before it is done."""
        self._helpers += 1

        def helped(value: object, error: Refused | None) -> None:
            self._helpers -= 1
            done(value, error)
            self.settle()
            self._answer_stops()

        self._link.session.take(steps, helped)

    def _later(self, name: str, seconds: float, callback: Callable[[], object]) -> None:
        if name not in self._timers:

            def due() -> None:
                self._timers.pop(name, None)
                callback()
                self.settle()

            self._timers[name] = self._link.loop.call_later(seconds, due)

    def _cancel(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()


class _Watcher:
    """The handler of a channel that only gets news."""

    def __init__(self, watchers: set[int], channel: int) -> None:
        self._watchers = watchers
        self._channel = channel

    def on_close(self) -> None:
        self._watchers.discard(self._channel)


def end_all(session: Session, finished: Callable[..., object]) -> None:
    """Ends the return jobs of a session that ends; as for ``on_session_end``."""
    jobs = [job for job in session.returned.values() if not job.finished]
    if not jobs:
        finished()
        return

    def ended(survivors: list[str] | None, error: Refused | None) -> None:
        for job in jobs:
            if not job.finished:
                job.stopped([])
        session.children.reap()
        for job in jobs:
            job.settle()
        part(survivors or [])

    def part(survivors: list[str]) -> None:
        # Each job's end is to be on the wire before the session's.
        if not survivors and any(job.is_ending for job in jobs):
            session.loop.call_later(0.01, lambda: part(survivors))
        else:
            finished(survivors)

    roots = {job.id: job.end_with_session() for job in jobs}
    # Whatever the session started ends now, but for what runs in a terminal.
    running = session.lifetimes.running - session.terminals
    search = session.orphans.search(roots, *running)
    session.take(process_tree.ending(search, GRACE), ended)


class _Entry:
    """A process on its way to be a job's first one: into a directory, and to a program. Either may
    take as long as a file system does. ``status``: it has ended, before or after."""

    def __init__(
        self,
        place: Place,
        pid: int,
        report: int,
        done: Callable[[_Entry, SpawnError | None], object],
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


def outcome_map(
    reason: str,
    exit_status: int | None = None,
    signal: str | None = None,
    note: str | None = None,
    left: list[str] | None = None,
    error: str | None = None,
) -> dict[str, object]:
    """An outcome map of docs/wire.md."""
    return {
        "exit_status": exit_status,
        "signal": signal,
        "reason": reason,
        "error": error,
        "note": note,
        "left_behind": left or [],
    }


def _shortened(command: dict[str, Any]) -> dict[str, Any]:
    """The beginning of a command that takes much memory."""
    if "argv" not in command:
        return {kind: words[:REMEMBERED_COMMAND] for kind, words in command.items()}
    left, argv = REMEMBERED_COMMAND, []
    for word in command["argv"]:
        argv.append(word[:left])
        left -= len(word) + _WORD_SIZE
        if left <= 0:
            break
    return {"argv": argv}


def _events(fd: int) -> int:
    """What poll(2) says of a pipe now: POLLIN, POLLHUP, both or 0."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    ready = poll.poll(0)
    return ready[0][1] if ready else 0


def _pending(fd: int) -> int:
    """How many bytes are in a pipe."""
    size: int = struct.unpack("i", fcntl.ioctl(fd, _FIONREAD, b"\0" * 4))[0]
    return size

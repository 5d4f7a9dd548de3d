"""Where supervisors come from: a process that does nothing but fork them.

A fork shares its memory with where it came from, page by page, until one of the two writes there.
The agent goes on writing, and so does a helper; a supervisor forked by this quiet process keeps
half as much memory to itself. Where the end of the login session would kill them it first leaves
that. The forkserver ends with the agent and its helpers. Standard library only, Python 3.6.
"""

from __future__ import annotations

import _socket  # what `socket` has beyond it is not needed, and takes long to import
import gc
import os
import select
import signal
import struct
import sys
from typing import TYPE_CHECKING

from remit._agent.base import environment, fds, logind, oom, process_tree, subreaper
from remit._agent.base.fds import point_at_null
from remit._agent.base.helpers import forget_the_agent
from remit._agent.kept import barrier, ending, supervisor
from remit._jobdir import liveness, proc
from remit._wire.refusal import Refused

if TYPE_CHECKING:
    from typing import NoReturn

    from remit._agent.base.children import Children
    from remit._agent.base.services import Session

# How an order begins: id, timeout, lease and max_output (-1 for none), truncate, merge, clean,
# size of the command, of the script and of stdin, which follow. What is unpacked with less ado
# touches less memory.
_ORDER = struct.Struct(">13sddq???QQQ")
_FD = struct.calcsize("i")
_MOST_FDS = 4
# How large an order may be that is read at once.
_SMALL = 1 << 16
# Seconds between two looks at who is waited for, and how often it may be found stopped.
_LOOK = 0.2
_MOST_STOPS = 50
_PIECE = 1 << 18


class Unruly(Refused):
    """The supervisor was stopped (SIGSTOP) so often that it had to be killed."""


class Forkserver:
    """The agent's end of it. Helpers need its ``fd`` and ``pid`` to `order` a supervisor."""

    def __init__(self, children: Children) -> None:
        """Forks. Raises OSError where no process can be had."""
        self._orders, orders = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        try:
            self.pid = os.fork()
            if not self.pid:
                _begin(orders)
        finally:
            orders.close()
        children.watch(self.pid, self._ended)

    @property
    def fd(self) -> int:
        """-1 once it has ended, before its time."""
        return self._orders.fileno()

    def _ended(self, status: int) -> None:
        self._orders.close()


class Forkservers:
    """The session's one forkserver."""

    def __init__(self, session: Session) -> None:
        self._children = session.children
        self._last: Forkserver | None = None

    def ready(self) -> Forkserver:
        """Made at first use, and again where it was killed. Raises OSError."""
        if self._last is None or self._last.fd < 0:
            self._last = Forkserver(self._children)
        return self._last


def order(
    forkserver: tuple[int, int],
    work: supervisor.Work,
    given: supervisor.Given,
    dir_fd: int,
    death_pipe: int | None,
) -> None:
    """Has a supervisor started for the job that this process has claimed; for a helper process.

    ``forkserver`` is its descriptor and pid; ``death_pipe`` a pipe whose end means that the job's
    session is over. Returns once ``process.json`` is durable and the job's first process runs, or
    its start has failed. Raises Refused if the supervisor could not do its part.
    """
    told, telling = os.pipe()
    report, reporter = os.pipe()
    fds = [told, reporter, dir_fd] + ([] if death_pipe is None else [death_pipe])
    orders = _socket.socket(fileno=os.dup(forkserver[0]))
    try:
        rights = struct.pack("%di" % len(fds), *fds)
        orders.sendmsg([b"+"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
    except OSError as exc:
        # It was killed just now; the next start makes another.
        words = "the job was not run: no supervisor is available (%s)" % exc.strerror
        raise Refused("start-failed", words, hint="try again") from exc
    finally:
        for fd in (told, reporter):
            os.close(fd)
        orders.close()
    limits = [-1 if limit is None else limit for limit in work[1:4]]
    flags = (work.truncate, work.merge, work.clean)
    sizes = (len(given.command), len(given.script), len(given.stdin))
    head = _ORDER.pack(work.id, *limits, *flags, *sizes)
    ordering = _Ordering(forkserver[1], telling, report)
    words = ordering.answer([head, given.command, given.script, given.stdin])
    if words != "+":
        kind = Unruly if ordering.is_unruly else Refused
        raise kind("start-failed", "the job was not run: %s" % words)


class _Ordering:
    """Passes an order on and waits for the report, and for nobody who is stopped.

    The first thing that a job does may be to stop its supervisor (SIGSTOP).
    """

    def __init__(self, forkserver_pid: int, telling: int, report: int) -> None:
        self._telling = telling
        self._report = report
        self._poll = select.poll()
        self._poll.register(report, select.POLLIN)
        self._poll.register(telling, select.POLLOUT)
        os.set_blocking(telling, False)
        self._forkserver = proc.look(forkserver_pid)
        self._supervisor: proc.Process | None = None
        self._words = b""
        self._stops = 0

    @property
    def is_unruly(self) -> bool:
        return self._stops > _MOST_STOPS

    def answer(self, parts: list[bytes | bytearray]) -> str:
        unsent = [memoryview(part) for part in parts if part]
        while True:
            ready = dict(self._poll.poll(_LOOK * 1000))
            if self._telling in ready and not self._send(unsent):
                self._poll.unregister(self._telling)
                os.close(self._telling)
            if self._report in ready:
                piece = os.read(self._report, 1 << 16)
                if not piece:
                    break
                self._words += self._meet(piece)
            if not ready:
                self._look_after()
        return self._words.decode("utf-8", "replace") or "its supervisor was killed"

    def _send(self, unsent: list[memoryview]) -> bool:
        """Whether there is more to be sent."""
        try:
            unsent[0] = unsent[0][os.write(self._telling, unsent[0][:_PIECE]) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            return False  # it was killed: so says the report
        if not unsent[0]:
            del unsent[0]
        return bool(unsent)

    def _meet(self, piece: bytes) -> bytes:
        """Has the supervisor known by pid and start time, as soon as that may be; what else stands
        in this piece of a report. ``=PID`` and a newline are written in one go."""
        before, _mark, after = piece.partition(b"=")
        pid, newline, rest = after.partition(b"\n")
        if self._supervisor is not None or not (newline and pid.isdigit()):
            return piece
        self._supervisor = proc.look(int(pid))
        return before + rest

    def _look_after(self) -> None:
        if self._forkserver is not None:
            process_tree.wake(self._forkserver.pid, self._forkserver.start)
        owner = self._supervisor
        if owner is not None and process_tree.wake(owner.pid, owner.start):
            self._stops += 1
            if self.is_unruly:
                process_tree.kill(owner.pid, owner.start)


def _begin(orders: _socket.socket) -> NoReturn:
    try:
        if logind.ends_with_session("self"):
            forget_the_agent({0, 1, 2, orders.fileno()})
            logind.leave_session(orders.fileno(), _program())
    except OSError:
        pass  # it stays in the session: who starts a job is told
    finally:
        _serve(orders)


def _program() -> bytes:
    """What does `resume` in a process that has nothing of this program but its environment."""
    sources: dict[str, str] = sys.modules[__name__].__loader__.sources  # type: ignore[union-attr]
    own = sources["remit._agent.base.importer"]
    begin = "from remit._agent.kept.forkserver import resume\nresume(%r)\n" % (fds.theirs(),)
    return ("%s\ninstall(%r)\n%s" % (own, sources, begin)).encode("utf-8")


def resume(descriptor_limits: tuple[int, int] | None) -> NoReturn:
    """Goes on as the forkserver outside of the login session. Descriptor 1 is where orders come,
    and the limits are those that jobs get, where the agent has raised its own."""
    fds.raise_limit(descriptor_limits)
    _serve(_socket.socket(fileno=os.dup(1)))


def _serve(orders: _socket.socket) -> NoReturn:
    """Until nobody is left who could order anything."""
    try:
        newborn, place = _settle(orders.fileno())
        while True:
            said, ancillary, _, _ = orders.recvmsg(
                1, _socket.CMSG_SPACE(_MOST_FDS * _FD), _socket.MSG_CMSG_CLOEXEC
            )
            if not said:
                break
            rights = ancillary[0][2] if ancillary else b""
            given = struct.unpack("%di" % (len(rights) // _FD), rights)
            if len(given) >= 3:  # else it had no room for the descriptors: who ordered sees the end
                _bear(orders, newborn, place, *given)
            for fd in given:
                os.close(fd)
    finally:
        os._exit(0)


def _settle(orders_fd: int) -> tuple[supervisor.Supervisor, tuple[int, int] | None]:
    """Lets go of all that the agent had, and does what all supervisors would have to do first. One
    of them, and where in memory it bears its job's id."""
    forget_the_agent({orders_fd})
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    barrier.note_signals()
    point_at_null(0, 1, 2)
    os.chdir("/")
    try:
        with open("/proc/self/comm", "wb") as file:
            file.write(b"remit-keep")  # what ps shows of it, beside the agent's command line
    except OSError:
        pass
    # What is found out, imported and made ready for use here is so for all of them.
    liveness.here()
    environment.account()
    proc.start_time(os.getpid())
    subreaper.load()
    newborn = supervisor.Supervisor(), environment.place_of_id()
    gc.disable()
    if hasattr(gc, "freeze"):
        gc.freeze()
    return newborn


def _bear(
    orders: _socket.socket,
    newborn: supervisor.Supervisor,
    place: tuple[int, int] | None,
    told: int,
    reporter: int,
    dir_fd: int,
    death_pipe: int | None = None,
) -> None:
    try:
        oom.look()  # here, where it costs the supervisor nothing
        between = os.fork()
    except Exception as exc:
        supervisor.report(reporter, ending.words_of(exc))
        return
    if between:
        os.waitpid(between, 0)
        return
    try:
        # A session of its own, and nobody's child: no terminal and no parent to die with.
        os.setsid()
        if not _fork_again(reporter):
            orders.close()
            order = _take_order(told)
            if order is not None:  # else whoever ordered it was killed over it
                # Within another job we are not that one's: it may end, or be ended, without us.
                environment.write_id(place, order[0].id)
                supervisor.live(newborn, *order, dir_fd, reporter, death_pipe)
    finally:
        os._exit(0)


def _fork_again(reporter: int) -> int:
    """0 in the supervisor. Its pid is told from here, where that touches none of its memory."""
    try:
        pid = os.fork()
    except OSError as exc:
        supervisor.report(reporter, ending.words_of(exc))
        raise
    if pid:
        supervisor.report(reporter, "=%d\n" % pid)
    return pid


def _take_order(told: int) -> tuple[supervisor.Work, supervisor.Given] | None:
    head = _read(told, _ORDER.size)
    if head is None:
        return None
    facts = _ORDER.unpack(head)
    parts = [_read(told, size) if size else b"" for size in facts[7:]]
    os.close(told)
    if None in parts:
        return None
    limits = [None if limit < 0 else limit for limit in facts[1:4]]
    work = supervisor.Work._make([facts[0], *limits, *facts[4:7]])
    return work, supervisor.Given(*parts)  # type: ignore[arg-type]


def _read(fd: int, size: int) -> bytes | bytearray | None:
    """So many bytes in one piece of memory, which is given back when it is let go of."""
    if size <= _SMALL:
        small = os.read(fd, size)
        if len(small) == size:
            return small
    else:
        small = b""
    data = bytearray(size)
    data[: len(small)] = small
    left = memoryview(data)[len(small) :]
    while left:
        read = os.readv(fd, [left[:_PIECE]])
        if not read:
            return None
        left = left[read:]
    return data

"""Where supervisors come from: a process that does nothing but fork them.

A fork shares its memory with where it came from, page by page, until one of the two writes there.
The agent goes on writing, and so does a helper; a supervisor forked by this quiet process keeps
half as much memory to itself. Where the end of the login session would kill them it first leaves
that. The nursery ends with the agent and its helpers. Standard library only, Python 3.6.
"""

from __future__ import annotations

import _socket  # what `socket` has beyond it is not needed, and takes long to import
import gc
import os
import signal
import struct
import sys
from typing import TYPE_CHECKING

from remit.agent import (
    descriptors,
    environment,
    jobdir,
    liveness,
    logind,
    memory,
    orphans,
    supervisor,
    tree,
)
from remit.agent.environment import rename
from remit.agent.fds import point_at_null
from remit.agent.helpers import Refused, forget_the_agent

if TYPE_CHECKING:
    from typing import NoReturn

    from remit.agent.main import Agent

# How an order begins: id, timeout, lease and max_output (-1 for none), truncate, merge, clean,
# size of the command, of the script and of stdin, which follow. What is unpacked with less ado
# touches less memory.
_ORDER = struct.Struct(">13sddq???QQQ")
_FD = struct.calcsize("i")
_MOST_FDS = 4


class Nursery:
    """The agent's end of it. ``fd`` is what helpers need to `order` a supervisor."""

    def __init__(self, agent: Agent) -> None:
        """Forks. Raises OSError where no process can be had."""
        self._orders, orders = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        try:
            pid = os.fork()
            if not pid:
                _begin(orders)
        finally:
            orders.close()
        agent.children.watch(pid, self._ended)

    @property
    def fd(self) -> int:
        """-1 once it has ended, before its time."""
        return self._orders.fileno()

    def _ended(self, status: int) -> None:
        self._orders.close()


def order(
    nursery_fd: int, work: supervisor.Work, stdin: bytearray, dir_fd: int, lifeline: int | None
) -> None:
    """Has a supervisor started for the job that this process has claimed; for a helper process.

    ``lifeline`` is a pipe whose end means that the job's session is over. Returns once
    ``process.json`` is durable and the job's first process runs, or its start has failed and that
    stands in the outcome. Raises Refused if the supervisor could not do its part.
    """
    told, telling = os.pipe()
    report, reporter = os.pipe()
    given = [told, reporter, dir_fd] + ([] if lifeline is None else [lifeline])
    orders = _socket.socket(fileno=os.dup(nursery_fd))
    try:
        rights = struct.pack("%di" % len(given), *given)
        orders.sendmsg([b"+"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
    except OSError as exc:
        # It was killed just now; the next start makes another.
        words = "the job was not run: no supervisor can be had (%s)" % exc.strerror
        raise Refused("start-failed", words, hint="try again") from exc
    finally:
        for fd in (told, reporter):
            os.close(fd)
        orders.close()
    limits = [-1 if limit is None else limit for limit in work[1:4]]
    flags = (work.truncate, work.merge, work.clean)
    sizes = (len(work.command), len(work.script), len(stdin))
    head = _ORDER.pack(work.id, *limits, *flags, *sizes)
    try:
        jobdir.write_all(telling, head + work.command)
        jobdir.write_all(telling, work.script)
        jobdir.write_all(telling, stdin)
    except BrokenPipeError:
        pass  # it was killed: so says the report
    os.close(telling)
    answer = _read_all(report)
    if answer != b"+":
        words = answer.decode("utf-8", "replace") or "its supervisor was killed"
        raise Refused("start-failed", "the job was not run: %s" % words)


def _read_all(fd: int) -> bytes:
    pieces: list[bytes] = []
    while True:
        piece = os.read(fd, 1 << 16)
        if not piece:
            os.close(fd)
            return b"".join(pieces)
        pieces.append(piece)


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
    sources = {"remit": ""}
    for name, module in list(sys.modules.items()):
        if name.startswith("remit."):
            sources[name] = module.__loader__.get_source(name)  # type: ignore[union-attr]
    loader = sys.modules[__name__].__loader__
    own = loader.get_source("remit.agent.importer")  # type: ignore[union-attr]
    begin = "from remit.agent.nursery import resume\nresume(%r)\n" % (descriptors.theirs(),)
    return ("%s\ninstall(%r)\n%s" % (own, sources, begin)).encode("utf-8")


def resume(descriptor_limits: tuple[int, int] | None) -> NoReturn:
    """Goes on as the nursery outside of the login session. Descriptor 1 is where orders come, and
    the limits are those that jobs get, where the agent has raised its own."""
    descriptors.raise_limit(descriptor_limits)
    _serve(_socket.socket(fileno=os.dup(1)))


def _serve(orders: _socket.socket) -> NoReturn:
    """Until nobody is left who could order anything."""
    try:
        _settle(orders.fileno())
        while True:
            said, ancillary, _, _ = orders.recvmsg(
                1, _socket.CMSG_SPACE(_MOST_FDS * _FD), _socket.MSG_CMSG_CLOEXEC
            )
            if not said:
                break
            rights = ancillary[0][2]
            given = struct.unpack("%di" % (len(rights) // _FD), rights)
            _bear(orders, *given)
            for fd in given:
                os.close(fd)
    finally:
        os._exit(0)


def _settle(orders_fd: int) -> None:
    """Lets go of all that the agent had, and does what all supervisors would have to do first."""
    forget_the_agent({orders_fd})
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for signum in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        signal.signal(signum, signal.SIG_IGN)
    supervisor.note_signals()
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
    tree.start_time(os.getpid())
    orphans.load()
    work = supervisor.Work(b"", None, None, None, False, False, False, b"", b"")
    supervisor.Supervisor(-1, work, memoryview(b""), None)
    gc.disable()
    if hasattr(gc, "freeze"):
        gc.freeze()


def _bear(
    orders: _socket.socket, told: int, reporter: int, dir_fd: int, lifeline: int | None = None
) -> None:
    memory.look()  # here, where it costs the supervisor nothing
    try:
        between = os.fork()
    except OSError as exc:
        os.write(reporter, (exc.strerror or str(exc)).encode("utf-8", "replace"))
        return
    if between:
        os.waitpid(between, 0)
        return
    try:
        # A session of its own, and nobody's child: no terminal and no parent to die with.
        os.setsid()
        if not os.fork():
            orders.close()
            data = memoryview(_read_all(told))
            facts = _ORDER.unpack_from(data)
            size, script_size, stdin_size = facts[7:]
            data = data[_ORDER.size :]
            command, script, stdin = data[:size], data[size:][:script_size], data[size:]
            stdin = stdin[script_size:]
            limits = [None if limit < 0 else limit for limit in facts[1:4]]
            work = supervisor.Work._make([facts[0], *limits, *facts[4:7], command, script])
            # Within another job we are not that one's: it may end, or be ended, without us.
            rename(work.id.decode())
            if len(stdin) == stdin_size:  # else whoever ordered it was killed over it
                supervisor.live(work, stdin, dir_fd, reporter, lifeline)
    finally:
        os._exit(0)

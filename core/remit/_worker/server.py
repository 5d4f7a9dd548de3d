"""The warm interpreter: forks a process for each function job and each worker of a pool.

It runs nothing of the user's itself, so that each fork begins clean. It hears on a socket of
packets from the agent, ends when that is over, and tells there how its children ended.
"""

from __future__ import annotations

import array
import os
import select
import signal
import socket
import sys
from typing import TYPE_CHECKING

from remit._agent.base.environment import restore

# Imported once here rather than in each fork.
from remit._values import codec  # noqa: F401
from remit._wire.msgpack import pack, unpack
from remit._worker import calls, job, programs

if TYPE_CHECKING:
    from typing import Any, Callable

# A packet is at most this large: under what the kernel takes at once by default.
_PACKET = 1 << 17
_MOST_FDS = 6
_FD = array.array("i").itemsize


def main() -> None:
    """The program, on fd 0. Returns never, but in a fork, which ends with the function's status."""
    restore()
    control = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    live = _Server(control).serve()
    sys.exit(live())


class _Server:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._woken, self._wake = os.pipe()
        for fd in (self._woken, self._wake):
            os.set_blocking(fd, False)

    def serve(self) -> Callable[[], int]:
        """Serves until the agent is gone. In a fork it returns what that fork is to do."""
        signal.set_wakeup_fd(self._wake)
        signal.signal(signal.SIGCHLD, _nothing)
        # A Ctrl-C at the caller's terminal is not for us.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        watched: list[Any] = [self._control, self._woken]
        while True:
            for fd in select.select(watched, [], [])[0]:
                if fd == self._woken:
                    os.read(self._woken, 4096)
                    self._reap()
                    continue
                message, fds = self._receive()
                if message is None:
                    os._exit(0)
                child = self._do(message, fds)
                for given in fds:
                    os.close(given)
                if child is not None:
                    return child

    def _receive(self) -> tuple[Any, list[int]]:
        data, ancillary, _, _ = self._control.recvmsg(
            _PACKET, socket.CMSG_SPACE(_MOST_FDS * _FD), socket.MSG_CMSG_CLOEXEC
        )
        fds = array.array("i")
        for level, kind, rights in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(rights[: len(rights) // _FD * _FD])
        return (unpack(data) if data else None), list(fds)

    def _do(self, message: list[Any], fds: list[int]) -> Callable[[], int] | None:
        verb, argument = message
        if verb == "package":
            programs.install(self._read_all(argument))
        elif verb in ("job", "calls"):
            try:
                pid = os.fork()
            except OSError as exc:
                self._tell(["forked", 0, exc.errno])
                return None
            if not pid:
                return self._become(verb, argument, [os.dup(fd) for fd in fds])
            self._tell(["forked", pid, 0])
        return None

    def _read_all(self, size: int) -> bytes:
        """What follows a message in packets of its own."""
        whole = bytearray()
        while len(whole) < size:
            piece = self._control.recv(_PACKET)
            if not piece:
                os._exit(0)
            whole += piece
        return bytes(whole)

    def _become(self, verb: str, argument: Any, fds: list[int]) -> Callable[[], int]:
        signal.set_wakeup_fd(-1)
        for signum in (signal.SIGCHLD, signal.SIGHUP):
            signal.signal(signum, signal.SIG_DFL)
        self._control.close()
        os.close(self._woken)
        os.close(self._wake)
        os.setsid()
        if verb == "job":
            return lambda: job.run_forked(argument, *fds)
        return lambda: calls.run(argument, *fds)

    def _reap(self) -> None:
        """Tells of each that has ended before it takes its status: should we be killed between
        the two, whoever adopts our children finds it still."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            self._tell(["ended", ended.si_pid, _wait_status(ended)])
            os.waitpid(ended.si_pid, 0)

    def _tell(self, news: list[object]) -> None:
        try:
            self._control.send(pack(news))
        except OSError:
            os._exit(0)


def _wait_status(ended: os.waitid_result) -> int:
    """As waitpid(2) gives it."""
    if ended.si_code == os.CLD_EXITED:
        return ended.si_status << 8
    return ended.si_status | (0x80 if ended.si_code == os.CLD_DUMPED else 0)


def _nothing(*_: object) -> None:
    """A handler, so that the signal is noted at all: what wakes us is the pipe."""

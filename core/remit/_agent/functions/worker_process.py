"""The process of a worker, and what leads to it: its socket, its stderr, its signals.

Both ends of the socket are kept here: what the worker has not read yet can be read back.
"""

from __future__ import annotations

import os
import signal
import socket
from collections import deque
from typing import TYPE_CHECKING

from remit._wire.calls import HEAD, PACKET
from remit._wire.streams import STDERR_TAIL

if TYPE_CHECKING:
    from typing import Callable, Iterable, Sequence

    from remit._agent.base.loop import Loop, Timer


class Line:
    """The socket to a worker: packets, each of them whole."""

    def __init__(self, loop: Loop) -> None:
        """Raises OSError."""
        self.is_open = True
        self._loop = loop
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self._out: deque[bytes] = deque()

    @property
    def is_all_out(self) -> bool:
        return not self._out

    def watch(self, readable: Callable[[], object]) -> None:
        self._loop.watch_fd(self._ours.fileno(), readable)

    def unwatch(self) -> None:
        self._loop.unwatch_fd(self._ours.fileno())

    def send(self, packets: Iterable[bytes]) -> None:
        self._out.extend(packets)
        self._write()

    def receive(self) -> bytes | None:
        """A packet, empty at the end; None where there is none now."""
        try:
            return self._ours.recv(HEAD.size + PACKET)
        except OSError:
            return None

    def take_back(self) -> list[bytes]:
        """The packets that the worker has not read."""
        unread = []
        while True:
            try:
                unread.append(self.theirs.recv(HEAD.size + PACKET, socket.MSG_DONTWAIT))
            except OSError:
                break
        unread += self._out
        self._out.clear()
        return unread

    def close(self) -> None:
        self.is_open = False
        self.unwatch()
        self._loop.unwatch_writable(self._ours.fileno())
        self._ours.close()
        self.theirs.close()

    def _write(self) -> None:
        while self._out and self.is_open:
            try:
                self._ours.send(self._out[0])
            except BlockingIOError:
                self._loop.watch_writable(self._ours.fileno(), self._write)
                return
            except OSError:
                return  # its end is told by the other way
            self._out.popleft()
        if self.is_open:
            self._loop.unwatch_writable(self._ours.fileno())


class Process:
    """What runs in a worker, and the signals that it gets."""

    def __init__(self, loop: Loop) -> None:
        self.dead = False  # ended, or never came to be
        self.status: int | None = None
        self.interrupts = 0
        self._loop = loop
        self._pid = 0
        self._unborn = False  # to be killed as soon as its pid is known
        self._next: Timer | None = None  # the next signal

    def born(self, pid: int) -> None:
        self._pid = pid
        if self._unborn:
            self.kill()

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def interrupt(self, pauses: Sequence[float]) -> None:
        """More than once: a worker that has only just been forked does not hear it yet."""
        if not pauses:
            self.kill()
            return
        self.interrupts += 1
        self._send(signal.SIGINT)
        self._next = self._loop.call_later(pauses[0], lambda: self.interrupt(pauses[1:]))

    def kill_after(self, seconds: float) -> None:
        self.spare()
        if not self.dead:
            self._next = self._loop.call_later(seconds, self.kill)

    def spare(self) -> None:
        """It gets no more signals for what it got some for."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _send(self, signum: int) -> None:
        if not self._pid:
            self._unborn = signum == signal.SIGKILL
        elif not self.dead:
            try:
                os.kill(self._pid, signum)
            except ProcessLookupError:
                pass


class Stderr:
    """The end of what a worker says there."""

    def __init__(self, loop: Loop) -> None:
        """Raises OSError."""
        self.tail = b""
        self._loop = loop
        self._fd, self.theirs = os.pipe()
        os.set_blocking(self._fd, False)

    def watch(self) -> None:
        self._loop.watch_fd(self._fd, self.read)

    def read(self) -> None:
        try:
            while True:
                data = os.read(self._fd, 1 << 16)
                if not data:
                    self._loop.unwatch_fd(self._fd)
                    return
                self.tail = (self.tail + data)[-STDERR_TAIL:]
        except BlockingIOError:
            pass

    def close(self) -> None:
        self._loop.unwatch_fd(self._fd)
        os.close(self._fd)

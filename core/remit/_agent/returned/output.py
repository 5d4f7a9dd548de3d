"""What a return job prints: from its pipes to the caller, as far as there is credit and room.

Without credit a pipe stays full and the job waits: nothing is buffered in the agent.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import time
from typing import TYPE_CHECKING

from remit._agent.base.loop import nothing
from remit._wire.conversation import MAX_PIECE, Piece
from remit._wire.streams import NAMES, RECORDS

try:
    import termios
except ImportError:  # python3-minimal
    termios = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from typing import Callable

    from remit._agent.base.channel import Channel
    from remit._wire.records import Spotter

# A pipe that is filled is worth the memory of a large one.
PIPE_SIZE = 1 << 20
_PIPE_DEFAULT = 1 << 16
_F_SETPIPE_SZ = 1031
# Where termios is missing: asm-generic/ioctls.h, which all but a few old architectures use.
_FIONREAD = 0x541B if termios is None else termios.FIONREAD


class _Pipe:
    """One pipe that the job writes to."""

    __slots__ = ("fd", "grown", "quota", "stream", "watched")

    def __init__(self, fd: int, stream: int) -> None:
        self.fd = fd
        self.stream = stream
        self.watched = False
        self.grown = False
        self.quota: int | None = None  # what is still to be read of a pipe that others hold open


class Output:
    """All pipes of one job, and what went through them."""

    def __init__(
        self,
        channel: Channel,
        streams: tuple[int, ...],
        read: Callable[[], object],
        stuck: Callable[[], object],
    ) -> None:
        """``read`` is called after something was read that had come, ``stuck`` when something is
        there for which there is no credit."""
        self.sizes = dict.fromkeys(streams, 0)  # bytes sent, by streams
        self.spotter: Spotter | None = None  # of a function: is fed with its records
        self._channel = channel
        self._loop = channel.link.loop
        self._on_read = read
        self._on_stuck = stuck
        self._seq = 0
        self._pipes: list[_Pipe] = []

    @property
    def is_open(self) -> bool:
        return bool(self._pipes)

    def named_sizes(self) -> dict[str, int]:
        return {NAMES[stream]: size for stream, size in self.sizes.items()}

    def open(self, stream: int) -> int:
        """The end that the job writes to, which is the caller's to close."""
        fd, writing = os.pipe()
        os.set_blocking(fd, False)
        self._pipes.append(_Pipe(fd, stream))
        return writing

    def read_on(self) -> None:
        """There is credit or room again, or there may be."""
        if not self._channel.is_accepted:
            return  # it may run already, but the answer comes first
        for pipe in list(self._pipes):
            if not pipe.watched:
                pipe.watched = True
                self._loop.watch_fd(pipe.fd, lambda pipe=pipe: self._readable(pipe))  # type: ignore[misc]

    def read_out(self) -> None:
        """Passes on what is in the pipes, as far as there is credit and room."""
        for pipe in list(self._pipes):
            while self._read(pipe):
                pass

    def cut(self) -> list[int]:
        """What is in the pipes still counts, what comes later does not. The inodes of those that
        somebody may still write to."""
        self.read_out()
        inodes = []
        for pipe in list(self._pipes):
            if pipe.quota is not None or _events(pipe.fd) & select.POLLHUP:
                continue  # nobody can write any more: its end comes once there is credit
            inodes.append(os.fstat(pipe.fd).st_ino)
            pipe.quota = _pending(pipe.fd)
            if not pipe.quota:
                self._close(pipe)
        return inodes

    def drop(self) -> None:
        """Nobody wants any more of it."""
        for pipe in list(self._pipes):
            self._close(pipe)

    def close(self) -> None:
        """The job is over. Twice is quiet."""
        self.drop()
        # The job holds this; the other way as well would leave both to Python's collector.
        self._on_read = self._on_stuck = nothing

    def _park(self, pipe: _Pipe) -> None:
        """Looks away from a pipe until there is credit or room."""
        if pipe.watched:
            pipe.watched = False
            self._loop.unwatch_fd(pipe.fd)

    def _readable(self, pipe: _Pipe) -> None:
        if pipe.stream == RECORDS:
            # What was printed before a record is in its pipe before it.
            for other in [other for other in self._pipes if other is not pipe]:
                self._read(other)
        self._read(pipe)
        self._on_read()

    def _read(self, pipe: _Pipe) -> bool:
        """Passes one piece on; whether there may be more to read at once."""
        credit = self._channel.credit
        if not credit:
            events = _events(pipe.fd)
            if events & select.POLLIN:
                self._park(pipe)
                self._on_stuck()
            elif events & select.POLLHUP:
                self._close(pipe)
            return False
        if not self._channel.link.has_room():
            self._park(pipe)
            return False
        size = min(MAX_PIECE, credit)
        if pipe.quota is not None:
            size = min(size, pipe.quota)
        try:
            data = os.read(pipe.fd, size)
        except BlockingIOError:
            return False
        if data:
            self._pass_on(pipe, data)
        if not data or pipe.quota == 0:
            self._close(pipe)
            return False
        return True

    def _pass_on(self, pipe: _Pipe, data: bytes) -> None:
        if pipe.stream == RECORDS and self.spotter is not None:
            self.spotter.feed(data)
        piece = Piece(pipe.stream, self._seq, self.sizes[pipe.stream], time.time(), data)
        self._channel.data(piece)
        self._seq += 1
        self.sizes[pipe.stream] += len(data)
        if pipe.quota is not None:
            pipe.quota -= len(data)
        if len(data) >= _PIPE_DEFAULT and not pipe.grown:
            pipe.grown = True
            try:
                fcntl.fcntl(pipe.fd, _F_SETPIPE_SZ, PIPE_SIZE)
            except OSError:
                pass  # this account has as much memory in pipes as it may

    def _close(self, pipe: _Pipe) -> None:
        self._park(pipe)
        os.close(pipe.fd)
        self._pipes.remove(pipe)


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

"""What the caller sends to a job's standard input."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING

from remit._wire.credit import Window

if TYPE_CHECKING:
    from remit._agent.base.channel import Channel

# What the caller may have on its way to a job that does not read.
WINDOW = 1 << 18


class Stdin:
    """Feeds the pipe as the job reads it. Its fd is closed after the last byte."""

    def __init__(self, channel: Channel, fd: int) -> None:
        self._channel = channel
        self._loop = channel.link.loop
        self._fd = fd
        self._queue: deque[memoryview] = deque()
        self._ended = False
        self._window = Window(WINDOW)
        self._open = True
        self._accepted = False  # before that nothing may be said on the channel
        self._is_unread = False
        os.set_blocking(fd, False)
        channel.grant(WINDOW)
        # Nothing is ever to be read here, but an error shows, and it comes when the job closes it.
        self._loop.watch_fd(fd, self._unread)

    def take(self, data: bytes) -> None:
        if self._open:
            self._queue.append(memoryview(data))
            self._write()
        else:
            self._pay(len(data))

    def end(self) -> None:
        self._ended = True
        if self._open:
            self._write()

    def close(self) -> None:
        """Twice is quiet."""
        if self._open:
            self._open = False
            self._loop.unwatch_fd(self._fd)
            self._loop.unwatch_writable(self._fd)
            os.close(self._fd)
            self._pay(sum(map(len, self._queue)))
            self._queue.clear()

    def _write(self) -> None:
        while self._queue:
            try:
                written = os.write(self._fd, self._queue[0])
            except BlockingIOError:
                self._loop.watch_writable(self._fd, self._write)
                return
            except OSError:
                self._unread()
                return
            self._queue[0] = self._queue[0][written:]
            if not self._queue[0]:
                self._queue.popleft()
            self._pay(written)
        self._loop.unwatch_writable(self._fd)
        if self._ended:
            self.close()

    def _pay(self, size: int) -> None:
        self._window.consumed(size)
        if self._window.is_due:
            self._channel.grant(self._window.due())

    def accepted(self) -> None:
        """The start has been answered."""
        self._accepted = True
        if self._is_unread:
            self._channel.event("stdin-closed")

    def _unread(self) -> None:
        self.close()
        self._is_unread = True
        if self._accepted:
            self._channel.event("stdin-closed")

"""Our own stdin, stdout and stderr, as something to await: others share them, and they may be
files, terminals, pipes or sockets."""

from __future__ import annotations

import fcntl
import os
import select
import stat

import anyio
import anyio.lowlevel

_PIECE = 1 << 16


class Descriptor:
    """Several tasks may write to it; their pieces do not mix."""

    def __init__(self, fd: int) -> None:
        self._lock = anyio.Lock()
        self._fd, self._blocking = _unshared(fd)
        # Once it can be written to, a pipe takes so much without blocking: pipe(7).
        self._most = select.PIPE_BUF if self._blocking else _PIECE
        self.terminal = os.isatty(fd)

    async def read(self) -> bytes:
        """What there is, at least a byte; nothing at the end, and where it cannot be read."""
        while True:
            await self._readable()
            try:
                return os.read(self._fd, _PIECE)
            except BlockingIOError:
                continue
            except OSError:
                # A directory, or a terminal that is gone.
                return b""

    async def write(self, data: bytes) -> None:
        """Writes it all. Raises BrokenPipeError once nobody reads."""
        async with self._lock:
            left = memoryview(data)
            while left:
                if self._blocking:
                    await anyio.wait_writable(self._fd)
                try:
                    left = left[os.write(self._fd, left[: self._most]) :]
                except BlockingIOError:
                    await anyio.wait_writable(self._fd)

    async def finish(self) -> None:
        """Nothing is held back here."""

    async def _readable(self) -> None:
        try:
            await anyio.wait_readable(self._fd)
        except PermissionError:
            # A file, or a device such as /dev/null: always ready, and nothing to be waited for.
            await anyio.lowlevel.checkpoint()


def _unshared(fd: int) -> tuple[int, bool]:
    """A descriptor of the same file, and whether an operation on it may block.

    Made anew where that works: O_NONBLOCK on the one we got would be everybody's who shares it.
    """
    kind = os.fstat(fd).st_mode
    if stat.S_ISREG(kind) or stat.S_ISBLK(kind):
        return fd, False  # never blocks for long, and has its offset in the shared description
    mode = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    flags = mode | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        return os.open(f"/proc/self/fd/{fd}", flags), False
    except OSError:
        # A socket, another account's terminal, or a pipe whose other end is gone.
        return fd, True

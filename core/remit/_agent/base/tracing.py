"""A trace of the agent's end of a link, where the caller's hello asks for one."""

from __future__ import annotations

import os
import stat
import time

from remit._wire.trace import Trace


def of_agent(path: object) -> Trace | None:
    """None where ``path`` is none, or no file of ours: a link works without its trace."""
    if not isinstance(path, bytes):
        return None
    try:
        fd = _open(path)  # for as long as the agent lives
    except (OSError, ValueError):
        return None

    def write(lines: bytes) -> None:
        try:
            os.write(fd, lines)
        except OSError:
            pass  # a full disk ends no link

    return Trace(write, time.time, "agent %d" % os.getpid())


def _open(path: bytes) -> int:
    """The name was chosen on another computer. What stands there in its place, a link or a FIFO of
    anybody's, is neither followed nor written to nor waited for: ValueError."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_nlink == 1:
        return fd
    os.close(fd)
    raise ValueError("no file of ours")

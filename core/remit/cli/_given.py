"""``remit start --stdin``: what a job is given that outlives us, as a file of its own."""

from __future__ import annotations

import fcntl
import os
import select
import stat
import struct
import tempfile
import termios
from typing import BinaryIO

_PIECE = 1 << 16


def opened(word: str) -> int:
    """A descriptor of FILE, or of all that our stdin holds (``-``): who has it can read it from
    its beginning, any number of times. Raises OSError."""
    if word == "-":
        return _spooled(0)
    fd = os.open(word, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    try:
        return _spooled(fd)
    finally:
        os.close(fd)


def again(fd: int) -> BinaryIO:
    """It, from its beginning: each target has a place in it of its own."""
    return open(f"/proc/self/fd/{fd}", "rb")


def waits() -> bool:
    """Whether our stdin is a pipe that holds something: somebody meant it for the job."""
    try:
        if not stat.S_ISFIFO(os.fstat(0).st_mode):
            return False
        poll = select.poll()
        poll.register(0, select.POLLIN)
        count = fcntl.ioctl(0, termios.FIONREAD, struct.pack("i", 0))
        return bool(poll.poll(0)) and count != struct.pack("i", 0)
    except OSError:
        return False


def _spooled(fd: int) -> int:
    with tempfile.TemporaryFile() as file:
        while data := os.read(fd, _PIECE):
            file.write(data)
        file.flush()
        return os.dup(file.fileno())

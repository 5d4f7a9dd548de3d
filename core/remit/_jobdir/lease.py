"""Leases: a job that is stopped some time after the last of its callers has gone.

Whoever has an interest in the job holds the FIFO ``lease`` of its directory open for writing. The
kernel closes that however the holder ends: a killed agent has left. Standard library only,
Python 3.6.
"""

from __future__ import annotations

import os
import stat
import time

FIFO = b"lease"

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


def prepare(dir_fd: int) -> None:
    """Makes the FIFO, before the job's supervisor is there."""
    try:
        os.mkfifo(FIFO, 0o600, dir_fd=dir_fd)
    except FileExistsError:
        pass


def hold(dir_fd: int) -> int | None:
    """Keeps the job's lease from running down for as long as the descriptor is open.

    None where the job has no lease, or nobody on this computer who would count it down.
    """
    try:
        fd = os.open(FIFO, _WRITE, dir_fd=dir_fd)
    except OSError:
        return None
    try:
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.write(fd, b"h")  # an opened end alone wakes nobody
            return fd
    except OSError:
        pass
    os.close(fd)
    return None


class Countdown:
    """The supervisor's side. ``fd`` is ready when somebody has come, or the last has gone.

    ``until`` is the end of the lease by the monotonic clock, None while somebody is there.
    """

    def __init__(self, dir_fd: int, seconds: float) -> None:
        self._seconds = seconds
        self.fd = os.open(FIFO, _READ, dir_fd=dir_fd)
        self.until: float | None = time.monotonic() + seconds

    def look(self, fd: int) -> None:
        """To be called when ``fd`` is ready."""
        try:
            came = os.read(self.fd, 4096)
        except BlockingIOError:
            return  # whoever came has not said so yet
        if came:
            self.until = None
            return
        if self.until is None:
            self.until = time.monotonic() + self._seconds  # whatever becomes of the rest of it
        # A FIFO that the last writer closed is ready for ever; one opened after that is not. It is
        # opened before the old one is closed, so that the word of who comes just now is not lost.
        fresh = os.open("/proc/self/fd/%d" % self.fd, _READ & ~os.O_NOFOLLOW)
        os.dup2(fresh, self.fd, False)
        os.close(fresh)
        self.until = time.monotonic() + self._seconds

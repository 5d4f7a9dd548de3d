"""File descriptors that a fork must not keep."""

from __future__ import annotations

import os


def close_all(keep: set[int]) -> None:
    """Closes every file descriptor of this process but those."""
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        names = [str(fd) for fd in range(os.sysconf("SC_OPEN_MAX"))]
    for name in names:
        fd = int(name)
        if fd not in keep:
            try:
                os.close(fd)
            except OSError:
                pass  # the one that the list was read with


def point_at_null(*fds: int) -> None:
    """Makes each of these /dev/null, and inheritable."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in fds:
        if fd != null:
            os.dup2(null, fd)
    if null not in fds:
        os.close(null)

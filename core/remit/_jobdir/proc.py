"""Processes as /proc shows them: which there are, and whether one still is the one it was.

A pid alone may be somebody else's by now; pid and start time together are one process. Standard
library only, Python 3.6.
"""

from __future__ import annotations

import os
from collections import namedtuple

# ``start`` is in clock ticks since boot; ``state`` one letter, both as in proc(5).
Process = namedtuple("Process", "pid ppid pgid sid state start")


def processes() -> dict[int, Process]:
    """All that /proc shows, zombies included."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            process = look(int(name))
            if process is not None:
                found[process.pid] = process
    return found


def look(pid: int) -> Process | None:
    data = read("/proc/%d/stat" % pid)
    # The name, in parentheses, may hold anything, parentheses included.
    fields = data[data.rfind(b")") + 1 :].split()
    if len(fields) < 20:
        return None
    state, (ppid, pgid, sid), start = fields[0].decode(), map(int, fields[1:4]), int(fields[19])
    return Process(pid, ppid, pgid, sid, state, start)


def start_time(pid: int) -> int | None:
    """The ``start`` of the process with this pid, or None where there is none."""
    process = look(pid)
    return None if process is None else process.start


def name_of(pid: int) -> bytes:
    return read("/proc/%d/comm" % pid).strip()


def lives(pid: object, start: object) -> bool:
    """Whether that very process still runs: an ended one that nobody has reaped does not."""
    process = look(pid) if type(pid) is int else None
    return process is not None and process.start == start and process.state not in "ZX"


def read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    pieces: list[bytes] = []
    try:
        while True:
            piece = os.read(fd, 1 << 16)
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)
    except OSError:
        return b""  # gone meanwhile, or another account's
    finally:
        os.close(fd)

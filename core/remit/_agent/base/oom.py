"""Whether the kernel has ended processes for want of memory: it tells such a KILL from others.

Standard library only, Python 3.6.
"""

from __future__ import annotations

import os

NOTE = "the kernel's out-of-memory killer ended a process meanwhile"

_CGROUPS = "/sys/fs/cgroup"
# Looked at before: what is counted from then on is news.
_seen = [0]


def look() -> bool:
    """Whether it has happened since the last look."""
    before, _seen[0] = _seen[0], kills()
    return _seen[0] > before


def kills() -> int:
    """How often so far: in our own control group where that can be read, else on this computer.

    Source: cgroup-v2.rst (memory.events) and proc(5) (vmstat, since Linux 4.13).
    """
    for path in (_own_events(), "/proc/vmstat"):
        for line in _lines(path):
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _own_events() -> str:
    for line in _lines("/proc/self/cgroup"):
        if line.startswith("0::"):
            return "%s%s/memory.events" % (_CGROUPS, line[3:].rstrip("/"))
    return ""


def _lines(path: str) -> list[str]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        return os.read(fd, 1 << 16).decode("ascii", "replace").splitlines()
    except OSError:
        return []
    finally:
        os.close(fd)


look()

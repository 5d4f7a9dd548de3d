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
        # Not line by line: what the forkserver touches, each supervisor has for itself.
        _, found, rest = (b"\n" + _read(path)).partition(b"\noom_kill ")
        if found:
            return int(rest.partition(b"\n")[0])
    return 0


def _own_events() -> str:
    _, found, rest = (b"\n" + _read("/proc/self/cgroup")).partition(b"\n0::")
    own = rest.partition(b"\n")[0].decode("ascii", "replace").rstrip("/")
    return "%s%s/memory.events" % (_CGROUPS, own) if found else ""


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, 1 << 16)
    except OSError:
        return b""
    finally:
        os.close(fd)


look()

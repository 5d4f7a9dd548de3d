"""Whether a kept job's supervisor lives, as far as that can be told from here.

The supervisor holds a POSIX record lock on the job's ``lock`` for as long as it lives; the kernel
lets go of it, however the supervisor ends. Readers ask with F_GETLK and never take it. Standard
library only, Python 3.6.
"""

from __future__ import annotations

import fcntl
import os
import struct
from functools import lru_cache
from typing import TYPE_CHECKING

from remit._jobdir import files, proc

if TYPE_CHECKING:
    from typing import Any

# struct flock: type, whence, start, len, pid. Native sizes and alignment; Python's fcntl knows
# large files on 32-bit computers too, so offsets have 64 bits everywhere.
_FLOCK = struct.Struct("@hhqqi0q")


def here() -> dict[str, str | None]:
    """What tells this computer, this boot of it, and this numbering of processes from others."""
    return dict(_identity())


@lru_cache(None)
def _identity() -> dict[str, str | None]:
    return {
        "hostname": os.uname().nodename,
        "machine_id": _word("/etc/machine-id") or _word("/var/lib/dbus/machine-id"),
        "boot_id": _word("/proc/sys/kernel/random/boot_id"),
        "pid_namespace": _link("/proc/self/ns/pid"),
    }


def _word(path: str) -> str | None:
    try:
        with open(path) as file:
            return file.read(200).strip() or None
    except (OSError, ValueError):
        return None


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


def same_boot(process: dict[str, Any]) -> bool:
    """Whether the process ran under the kernel that runs here now: its lock decides."""
    boot = here()["boot_id"]
    return boot is not None and process.get("boot_id") == boot


def same_host(process: dict[str, Any]) -> bool:
    """Both marks have to fit: machine ids are cloned with disks, host names with habits."""
    own = here()
    return all(process.get(key) == own[key] for key in ("hostname", "machine_id"))


def reachable(process: dict[str, Any]) -> bool:
    """Whether the process ids of this ``process.json`` mean anything here."""
    namespace = here()["pid_namespace"]
    return same_boot(process) and process.get("pid_namespace") == namespace


def suspended(process: dict[str, Any]) -> bool:
    """Whether the job's first process is held by a signal (SIGSTOP and its kin)."""
    if not reachable(process):
        return False
    pid = process.get("pid")
    first = proc.look(pid) if isinstance(pid, int) else None
    return first is not None and first.state == "T" and first.start == process.get("start_time")


def take(dir_fd: int) -> int:
    """Takes the lock for this process, for as long as it lives. The descriptor is never closed.

    Waits, since a reader's question never stands in the way for long. Where the file system has
    no locks the job runs all the same; readers then say that they cannot tell.
    """
    fd = os.open(files.LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX)
    except OSError:
        pass
    return fd


def alive(dir_fd: int) -> bool:
    """Whether the job's supervisor lives. Raises OSError where that cannot be known.

    The lock decides. Where the file system has none, the process itself is looked for, if it would
    be seen from here.
    """
    try:
        return held(dir_fd)
    except OSError:
        try:
            process = files.read_json(dir_fd, files.PROCESS)
        except (FileNotFoundError, files.Unreadable):
            process = {}
        supervisor = process.get("supervisor")
        if not isinstance(supervisor, dict) or not reachable(process):
            raise
        pid = supervisor.get("pid")
        found = proc.look(pid) if type(pid) is int else None
        if found is None or found.state in "ZX":
            return False
        return bool(found.start == supervisor.get("start_time"))


def held(dir_fd: int) -> bool:
    """Whether a living supervisor has the lock. Raises OSError where that cannot be known.

    Not for the supervisor itself: closing the descriptor would let go of its lock.
    """
    try:
        fd = files.open_input(dir_fd, files.LOCK)
    except FileNotFoundError:
        return False
    try:
        question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = fcntl.fcntl(fd, fcntl.F_GETLK, question)
    finally:
        os.close(fd)
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)

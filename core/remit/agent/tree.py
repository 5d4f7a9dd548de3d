"""The processes of a job: which they are, and signals to all of them.

A job's processes are known by descent, by session and by ``REMIT_JOB`` in their environment, and
each by its pid and start time together: a pid alone may be somebody else's by now. All here reads
/proc and takes its time, so the agent's loop leaves it to helper processes.
"""

from __future__ import annotations

import os
import signal
import time
from collections import namedtuple
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable, Iterable, Mapping

    Root = tuple[int, int]  # pid and start time of a job's first process

# ``start`` is in clock ticks since boot; ``state`` one letter, both as in proc(5).
Process = namedtuple("Process", "pid ppid pgid sid state start")

VARIABLE = b"REMIT_JOB"
# How long KILL may take to work: a process can be in the middle of something uninterruptible.
KILL_PATIENCE = 5.0
# What the kernel needs, at most and with much to spare, to lay out the memory of a new program.
EXEC_TIME = 0.005


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
    data = _read("/proc/%d/stat" % pid)
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


def job_of(pid: int) -> bytes | None:
    """The id of the job in whose environment this program was started, as far as we may know."""
    return _job_in(_read("/proc/%d/environ" % pid))


def _job_in(environment: bytes) -> bytes | None:
    for entry in environment.split(b"\0"):
        if entry.startswith(VARIABLE + b"="):
            return entry[len(VARIABLE) + 1 :]
    return None


def describe(process: Process) -> str:
    name = _read("/proc/%d/comm" % process.pid).decode("utf-8", "replace").strip()
    return "pid %d (%s)" % (process.pid, name)


def members(job_id: bytes, roots: Iterable[Root]) -> dict[int, Process]:
    """The live processes of a job, never the calling process or one above it."""
    return members_of({job_id: roots})


def members_of(jobs: Mapping[bytes, Iterable[Root]]) -> dict[int, Process]:
    """As `members`, for several jobs in one look."""
    everyone = processes()
    # Session id 0 is that of everything that came from outside a pid namespace, or before any
    # session was made: a root that has no pid yet must not be read as it.
    roots = {pid: start for those in jobs.values() for pid, start in those if pid > 0}
    kin = lineage(everyone)
    chosen, bare = set(), []
    for process in everyone.values():
        if process.pid in kin:
            continue
        if (
            roots.get(process.pid) == process.start
            # A session outlives its leader, and keeps the leader's pid from being used again.
            or (process.sid in roots and _same_session(everyone, process.sid, roots[process.sid]))
        ):
            chosen.add(process.pid)
            continue
        environment = _read("/proc/%d/environ" % process.pid)
        if _job_in(environment) in jobs:
            chosen.add(process.pid)
        elif not environment and process.state not in "ZX" and _is_ours(process.pid):
            bare.append(process.pid)
    if bare:
        # In the middle of an exec the old environment is gone and the new one not yet to be seen.
        time.sleep(EXEC_TIME)
        chosen.update(pid for pid in bare if job_of(pid) in jobs)
    chosen |= below(everyone, chosen)
    # Parents first: a shell that sees its command end before it is told to may be gone by then.
    oldest_first = sorted(chosen, key=lambda pid: (everyone[pid].start, pid))
    return {
        pid: everyone[pid]
        for pid in oldest_first
        if pid not in kin and everyone[pid].state not in "ZX"
    }


def _is_ours(pid: int) -> bool:
    """Whether it is a program of this account; one of the kernel's own has no memory."""
    try:
        return bool(_read("/proc/%d/statm" % pid).split()[0].strip(b"0")) and (
            os.stat("/proc/%d" % pid).st_uid == os.geteuid()
        )
    except (OSError, IndexError):
        return False  # gone meanwhile


def _same_session(everyone: dict[int, Process], sid: int, start: int) -> bool:
    leader = everyone.get(sid)
    return leader is None or leader.start == start


def lineage(everyone: dict[int, Process]) -> set[int]:
    """The pids of the calling process and of those above it."""
    pids = set()
    pid = os.getpid()
    while pid in everyone and pid not in pids:
        pids.add(pid)
        pid = everyone[pid].ppid
    return pids


def below(everyone: dict[int, Process], pids: Iterable[int]) -> set[int]:
    """The pids of all descendants of these."""
    children: dict[int, list[int]] = {}
    for process in everyone.values():
        children.setdefault(process.ppid, []).append(process.pid)
    found: set[int] = set()
    parents = list(pids)
    while parents:
        for pid in children.get(parents.pop(), ()):
            if pid not in found:
                found.add(pid)
                parents.append(pid)
    return found


def send(process: Process, signum: int) -> None:
    """Sends the signal if this is still the same process. Quiet where it is gone or not ours."""
    try:
        if hasattr(os, "pidfd_open"):
            fd = os.pidfd_open(process.pid)
            try:
                # The descriptor stays with one process: looked at now, the check holds.
                if start_time(process.pid) == process.start:
                    signal.pidfd_send_signal(fd, signum)
            finally:
                os.close(fd)
            return
    except ProcessLookupError:
        return
    except OSError:
        pass  # an older kernel, or a filter that knows no pidfd
    try:
        if start_time(process.pid) == process.start:
            os.kill(process.pid, signum)
    except (ProcessLookupError, PermissionError):
        pass


def stop(job_id: bytes, roots: Iterable[Root], grace: float) -> list[str]:
    """Ends the job's processes: TERM, then KILL after ``grace`` seconds. Blocks until it is done.

    Returns those that are still there in the end, described; normally none.
    """
    return stop_all({job_id: roots}, grace)


def interrupt_and_stop(job_id: bytes, roots: Iterable[Root], grace: float) -> list[str]:
    """As `stop`, but the first process gets INT before, and half of the grace to clean up."""
    return stop(job_id, roots, interrupt(roots, grace))


def interrupt(roots: Iterable[Root], grace: float) -> float:
    """Sends INT, and waits for half of the grace until they are gone; what is left of it."""
    roots = list(roots)
    until = time.monotonic() + grace
    deadline = time.monotonic() + grace / 2
    first = [look(pid) for pid, _ in roots]
    living = [process for process in first if process is not None]
    for process in living:
        if (process.pid, process.start) in roots:
            send(process, signal.SIGINT)
            send(process, signal.SIGCONT)
    pause = 0.005
    while time.monotonic() < deadline and any(map(_runs, living)):
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
    return max(0.0, until - time.monotonic())


def _runs(process: Process) -> bool:
    now = look(process.pid)
    return now is not None and now.start == process.start and now.state not in "ZX"


def stop_all(jobs: Mapping[bytes, Iterable[Root]], grace: float) -> list[str]:
    """As `stop`, for several jobs at once."""
    return end(lambda: members_of(jobs), grace)


def end(find: Callable[[], dict[int, Process]], grace: float) -> list[str]:
    """As `stop`, for whatever ``find`` finds, looking again and again for newcomers."""
    told: set[tuple[int, int]] = set()
    deadline = time.monotonic() + grace
    pause = 0.005
    while True:
        found = find()
        if not found:
            return []
        if time.monotonic() >= deadline:
            break
        for process in found.values():
            if (process.pid, process.start) not in told:
                told.add((process.pid, process.start))
                send(process, signal.SIGTERM)
                send(process, signal.SIGCONT)  # a stopped one would not see its TERM
        time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
        pause = min(2 * pause, 0.1)
    deadline = time.monotonic() + KILL_PATIENCE
    pause = 0.005
    while found and time.monotonic() < deadline:
        for process in found.values():
            send(process, signal.SIGKILL)
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
        found = find()
    return [describe(process) for process in found.values()]


def pause(job_id: bytes, roots: Iterable[Root]) -> None:
    """Stops the job's processes in their tracks (SIGSTOP), newcomers included."""
    stopped: set[int] = set()
    while True:
        # One that forked before its STOP came leaves a child that runs.
        running = {pid: one for pid, one in members(job_id, roots).items() if pid not in stopped}
        if not running:
            return
        for process in running.values():
            send(process, signal.SIGSTOP)
        stopped.update(running)


def unpause(job_id: bytes, roots: Iterable[Root]) -> None:
    """Lets the job's processes go on (SIGCONT)."""
    for process in members(job_id, roots).values():
        send(process, signal.SIGCONT)


def holders(inodes: set[int]) -> list[str]:
    """Who, but for the calling process, has one of these pipes open, as far as we may know."""
    names = {"pipe:[%d]" % inode for inode in inodes}
    found = []
    for process in processes().values():
        if process.pid == os.getpid():
            continue
        directory = "/proc/%d/fd" % process.pid
        try:
            if any(os.readlink(os.path.join(directory, fd)) in names for fd in _fds(directory)):
                found.append(describe(process))
        except OSError:
            pass  # gone, or another account's
    return found


def _fds(directory: str) -> list[str]:
    return os.listdir(directory)


def _read(path: str) -> bytes:
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

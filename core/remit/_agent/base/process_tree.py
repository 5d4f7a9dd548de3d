"""The processes of a job: which they are, and signals to all of them.

A job's processes are known by ``REMIT_JOB`` in their environment, or by pid and start time
together, since a pid alone may be somebody else's by now; then by descent from one of these, and by
its session. All here reads /proc and takes its time, so the agent's loop leaves it to helper
processes. The choice itself is `chosen`, a pure function.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from remit._jobdir import proc
from remit._wire.ended import known_signal
from remit._wire.refusal import Refused

if TYPE_CHECKING:
    from typing import Callable, Collection, Generator, Iterable, Mapping, TypeVar

    Root = tuple[int, int]  # pid and start time of a job's first process
    _Result = TypeVar("_Result")
    Steps = Generator[float, None, _Result]

VARIABLE = b"REMIT_JOB"
# What supervisors of kept jobs are called in /proc/PID/comm.
SUPERVISOR = b"remit-keep"
# How long KILL may take to work: a process can be in the middle of something uninterruptible.
KILL_PATIENCE = 5.0
# For what another account runs and we may not signal (sudo): it may end with what is ended.
FOREIGN_PATIENCE = 1.0
# What the kernel needs, at most and with much to spare, to lay out the memory of a new program.
EXEC_TIME = 0.005
# What a program needs, with some to spare, to end at the HUP of a terminal that is closed.
HANG_UP_TIME = 0.2
_MOST_NAMES = 64


def job_of(pid: int) -> bytes | None:
    """The id of the job in whose environment this program was started, as far as we may know."""
    return _job_in(proc.read("/proc/%d/environ" % pid))


def _job_in(environment: bytes) -> bytes | None:
    for entry in environment.split(b"\0"):
        if entry.startswith(VARIABLE + b"="):
            return entry[len(VARIABLE) + 1 :]
    return None


def describe(process: proc.Process) -> str:
    name = proc.name_of(process.pid).decode("utf-8", "replace")
    return "pid %d (%s)" % (process.pid, name)


def chosen(
    everyone: Mapping[int, proc.Process],
    certain: Iterable[int],
    ancestors: Collection[int],
    is_supervisor: Callable[[int], bool],
    by_session: bool = True,
) -> set[int]:
    """The pids of those who belong to a job, if these are ``certain``ly its own. Pure.

    What descends from one of them is. So is who is in the session of one of them where the leader
    of that is one, too, or gone: who joined a session descends from its leader. ``ancestors``, the
    calling process and those above it, are never chosen, nor who shares no more than a session
    with them. A supervisor looks after another job, which may run within this one: it and what is
    below it are left alone.
    """
    children: dict[int, list[int]] = {}
    sessions: dict[int, list[int]] = {}
    for process in everyone.values():
        children.setdefault(process.ppid, []).append(process.pid)
        sessions.setdefault(process.sid, []).append(process.pid)
    # What came into a pid namespace from outside has the session id 0, whatever its session.
    avoided = {0}.union(everyone[pid].sid for pid in ancestors if pid in everyone)
    found: set[int] = set()
    to_visit = [pid for pid in certain if pid in everyone]
    certain = set(to_visit)
    while to_visit:
        pid = to_visit.pop()
        if pid in found or pid in ancestors or (pid not in certain and is_supervisor(pid)):
            continue
        found.add(pid)
        to_visit += children.get(pid, ())
        sid = everyone[pid].sid
        if by_session and sid not in avoided and (sid == pid or sid not in everyone):
            to_visit += sessions[sid]
    return found


class Search:
    """Looks for the live processes of jobs; what was found once is known from then on."""

    def __init__(
        self,
        jobs: Mapping[bytes, Iterable[Root]],
        strays: Callable[[dict[int, proc.Process]], Iterable[int]] | None = None,
        by_session: bool = True,
    ) -> None:
        """``jobs`` are the first processes by job ids. ``strays`` gives, of all processes, those
        that nothing but their descent tells to be of these jobs. ``by_session``: whether a session
        may tell; those who adopt orphans need it not."""
        self._ids = frozenset(jobs)
        # Without a pid it is no process yet, and without a start time nobody's for certain.
        self._known = {root for roots in jobs.values() for root in roots if all(root)}
        self._strays = strays
        self._by_session = by_session

    def __call__(self) -> dict[int, proc.Process]:
        """By pid, parents first; never the calling process or one above it."""
        everyone = proc.processes()
        ancestors = ancestry(everyone)
        certain = [pid for pid, process in everyone.items() if (pid, process.start) in self._known]
        certain += _bearers(everyone, ancestors, self._ids)
        if self._strays is not None:
            certain += self._strays(everyone)
        found = chosen(everyone, certain, ancestors, is_supervisor, self._by_session)
        self._known.update((pid, everyone[pid].start) for pid in found)
        # A shell that sees its command end before it is told to may be gone by then.
        oldest_first = sorted(found, key=lambda pid: (everyone[pid].start, pid))
        return {pid: everyone[pid] for pid in oldest_first if everyone[pid].state not in "ZX"}


def members(job_id: bytes, roots: Iterable[Root]) -> dict[int, proc.Process]:
    """The live processes of a job, never the calling process or one above it."""
    return Search({job_id: roots})()


def is_supervisor(pid: int) -> bool:
    return proc.name_of(pid) == SUPERVISOR


def _bearers(
    everyone: Mapping[int, proc.Process], ancestors: Collection[int], ids: Collection[bytes]
) -> list[int]:
    """Those who bear one of these ids in their environment."""
    found, mid_exec = [], []
    for pid, process in everyone.items():
        if pid in ancestors or process.state in "ZX":
            continue
        environment = proc.read("/proc/%d/environ" % pid)
        if _job_in(environment) in ids:
            found.append(pid)
        elif not environment and _is_ours(pid):
            mid_exec.append(pid)
    if mid_exec:
        # In the middle of an exec the old environment is gone and the new one not yet to be seen.
        time.sleep(EXEC_TIME)
        found += [pid for pid in mid_exec if job_of(pid) in ids]
    return found


def _is_ours(pid: int) -> bool:
    """Whether it is a program of this account; one of the kernel's own has no memory."""
    try:
        return bool(proc.read("/proc/%d/statm" % pid).split()[0].strip(b"0")) and (
            os.stat("/proc/%d" % pid).st_uid == os.geteuid()
        )
    except (OSError, IndexError):
        return False  # gone meanwhile


def ancestry(everyone: Mapping[int, proc.Process]) -> set[int]:
    """The pids of the calling process and of those above it."""
    pids = set()
    pid = os.getpid()
    while pid in everyone and pid not in pids:
        pids.add(pid)
        pid = everyone[pid].ppid
    return pids


def send(process: proc.Process, signum: int) -> bool:
    """Sends the signal if this is still the same process. Quiet where it is gone or not ours;
    False where it is not ours to signal."""
    try:
        if hasattr(os, "pidfd_open"):
            fd = os.pidfd_open(process.pid)
            try:
                # The descriptor stays with one process: looked at now, the check holds.
                if proc.start_time(process.pid) == process.start:
                    signal.pidfd_send_signal(fd, signum)
            finally:
                os.close(fd)
            return True
    except ProcessLookupError:
        return True
    except PermissionError:
        return bool(proc.start_time(process.pid) != process.start)
    except OSError:
        pass  # an older kernel, or a filter that knows no pidfd
    try:
        if proc.start_time(process.pid) == process.start:
            os.kill(process.pid, signum)
    except ProcessLookupError:
        pass
    except PermissionError:
        return False
    return True


def wake(pid: int, start: int) -> bool:
    """Lets that very process go on where a signal has stopped it; whether one had."""
    process = proc.look(pid)
    if process is None or process.start != start or process.state not in "Tt":
        return False
    send(process, signal.SIGCONT)
    return True


def kill(pid: int, start: int, signum: int = signal.SIGKILL) -> None:
    """Sends the signal to that very process, where it is still there."""
    process = proc.look(pid)
    if process is not None and process.start == start:
        send(process, signum)


def signal_group(root: Root, name: object) -> int:
    """Sends the signal to the process group that this first process leads; its number. Raises
    Refused, with the code ``state`` where that process is gone or the group is not ours to signal.

    As long as it is there its pid is the group's: it leads a session, and cannot leave it.
    """
    pid, start = root
    number = known_signal(name)
    if number is None:
        raise Refused("no-signal", "there is no signal %.30s on this computer" % name)
    try:
        if start and proc.start_time(pid) == start:
            os.killpg(pid, number)
            return number
    except ProcessLookupError:
        pass
    except PermissionError as exc:
        raise Refused("state", "its processes are another account's") from exc
    raise Refused("state", "its first process has ended")


def stop(job_id: bytes, roots: Iterable[Root], grace: float) -> list[str]:
    """Ends the job's processes: TERM, then KILL after ``grace`` seconds. Blocks until it is done.

    Returns those that are still there in the end, described; normally none.
    """
    return end(Search({job_id: roots}), grace)


def interrupting(roots: Iterable[Root], grace: float) -> Steps[float]:
    """Sends INT, and waits for half of the grace until they are gone; what is left of it."""
    roots = list(roots)
    until = time.monotonic() + grace
    deadline = time.monotonic() + grace / 2
    first = [proc.look(pid) for pid, _ in roots]
    living = [one for one in first if one is not None and (one.pid, one.start) in roots]
    for process in living:
        send(process, signal.SIGINT)
        send(process, signal.SIGCONT)
    pause = 0.005
    while time.monotonic() < deadline and any(proc.lives(one.pid, one.start) for one in living):
        yield pause
        pause = min(2 * pause, 0.1)
    return max(0.0, until - time.monotonic())


def take(steps: Steps[_Result]) -> _Result:
    """Waits between the steps; what they come to."""
    while True:
        try:
            time.sleep(next(steps))
        except StopIteration as over:
            result: _Result = over.value
            return result


def looking(function: Callable[..., _Result], *args: object) -> Steps[_Result]:
    """What waits for nothing, as steps."""
    yield 0.0
    return function(*args)


def end(find: Callable[[], dict[int, proc.Process]], grace: float) -> list[str]:
    """As `stop`, for whatever ``find`` finds, looking again and again for newcomers."""
    survivors: list[str] = take(ending(find, grace))
    return survivors


def ending(find: Callable[[], dict[int, proc.Process]], grace: float) -> Steps[list[str]]:
    """`end` in steps, for who has something else to do meanwhile: gives the seconds to wait."""
    told: dict[tuple[int, int], bool] = {}  # and whether we may signal it
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
                told[process.pid, process.start] = send(process, signal.SIGTERM)
                send(process, signal.SIGCONT)  # a stopped one would not see its TERM
        if not any(told[process.pid, process.start] for process in found.values()):
            break
        yield max(0.0, min(pause, deadline - time.monotonic()))
        pause = min(2 * pause, 0.1)
    now = time.monotonic()
    deadline, foreign = now + KILL_PATIENCE, now + FOREIGN_PATIENCE
    pause = 0.005
    while found and time.monotonic() < deadline:
        ours = [send(process, signal.SIGKILL) for process in found.values()]
        if not any(ours) and time.monotonic() > foreign:
            break
        yield pause
        pause = min(2 * pause, 0.1)
        found = find()
    return [describe(process) for process in found.values()]


def named(find: Callable[[], dict[int, proc.Process]]) -> list[str]:
    """Those that ``find`` finds, described; the oldest where there are very many."""
    return [describe(process) for process in list(find().values())[:_MOST_NAMES]]


def naming_in_the_end(find: Callable[[], dict[int, proc.Process]]) -> Steps[list[str]]:
    """As `named`, in steps, of those who do not heed the hang-up that has just come."""
    if not find():
        return []
    yield HANG_UP_TIME
    return named(find)


def pause(find: Callable[[], dict[int, proc.Process]]) -> None:
    """Stops those in their tracks (SIGSTOP), newcomers included."""
    stopped: set[int] = set()
    while True:
        # One that forked before its STOP came leaves a child that runs.
        running = {pid: one for pid, one in find().items() if pid not in stopped}
        if not running:
            return
        for process in running.values():
            send(process, signal.SIGSTOP)
        stopped.update(running)


def unpause(find: Callable[[], dict[int, proc.Process]]) -> None:
    """Lets those go on (SIGCONT)."""
    for process in find().values():
        send(process, signal.SIGCONT)


def holders(inodes: set[int]) -> list[str]:
    """Who has one of these pipes open, as far as we may know, but for the calling process and
    those above it."""
    names = {"pipe:[%d]" % inode for inode in inodes}
    found = []
    everyone = proc.processes()
    ancestors = ancestry(everyone)
    for process in everyone.values():
        if process.pid in ancestors:
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

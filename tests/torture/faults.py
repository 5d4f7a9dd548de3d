"""What goes wrong: each kind of fault, whom it hits, and how it is mended."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import attrs

from testbed import needs, processes
from testbed.processes import Process
from testbed.shim import Shim
from torture.cast import Cast, everyone, here, supervisors
from torture.places import Place, Stage
from torture.script import Fault

# How far clocks jump: by seconds up to two days, either way, or back to when computers begin that
# have none. Not on by a week: that long, and no longer, ids are promised to be remembered.
_FURTHEST = 5.25  # a power of ten
_BEGINNING = 315532800.0  # 1980
# Seconds that a slow disk takes for a write, and for what makes it durable.
_SLOW_WRITE = (0.001, 0.03)
_SLOW_SYNC = (0.02, 0.6)


@attrs.frozen
class Struck:
    """``victim`` tells for people what was hit; ``job`` is the one whose supervisor it was."""

    victim: str
    job: str | None = None
    mend: Callable[[], None] | None = None


def strike(fault: Fault, place: Place, stage: Stage, caller: int) -> Struck | None:
    """Has it happen now; None where there is nobody whom it could hit."""
    verb, _, role = fault.kind.partition("-")
    if verb == "kill":
        return _kill(fault, role, place, stage, caller)
    if verb == "stall":
        return _stall(fault, role, place, stage, caller)
    if fault.kind == "jump-clock":
        return _jump(fault, stage.shim)
    if fault.kind == "slow-disk":
        return _slow_down(fault, stage.shim)
    if fault.kind == "no-forks":
        return _refuse_forks(fault, stage.shim)
    if fault.kind == "few-files":
        return _leave_few_files(fault, stage.python)
    if fault.kind == "take-pid":
        return _take_pid(fault, stage)
    link = place.link
    assert link is not None
    if fault.kind == "restart-sshd":
        link.sshd.restart()
    elif fault.kind == "reset":
        link.reset()
    else:
        {"cut": link.cut, "blackhole": link.blackhole}[fault.kind]()
        return Struck("the link", mend=link.heal)
    return Struck("the link")


def _jump(fault: Fault, shim: Shim) -> Struck:
    dice = random.Random(fault.pick)
    if dice.random() < 0.15:
        offset = _BEGINNING - time.time()
    else:
        offset = dice.choice((-1, 1)) * 10 ** dice.uniform(0, _FURTHEST)
    shim.jump(offset)
    return Struck(f"the clock, {offset:+.0f} s from the truth")


def _slow_down(fault: Fault, shim: Shim) -> Struck:
    dice = random.Random(fault.pick)
    write, sync = dice.uniform(*_SLOW_WRITE), dice.uniform(*_SLOW_SYNC)
    shim.slow_down(write, sync)
    return Struck(f"the disk, {write:.3f} s and {sync:.3f} s", mend=shim.speed_up)


def _refuse_forks(fault: Fault, shim: Shim) -> Struck:
    percent = random.Random(fault.pick).choice((50, 100))
    shim.refuse_forks(percent)
    return Struck(f"{percent} of 100 forks", mend=lambda: shim.refuse_forks(0))


def _leave_few_files(fault: Fault, python: str) -> Struck | None:
    """All of remit's that runs now may open so many files more, and what it starts meanwhile."""
    dice = random.Random(fault.pick)
    remits = Cast(python).remits
    for process in remits:
        more = 1 + dice.randrange(4)
        with suppress(FileNotFoundError, ProcessLookupError):
            highest = max(map(int, os.listdir(f"/proc/{process.pid}/fd")), default=0)
            _limit_files(process, str(highest + more))
    if not remits:
        return None
    return Struck(f"the files of {len(remits)} processes", mend=lambda: _leave_many_files(python))


def _leave_many_files(python: str) -> None:
    for process in everyone(python):
        with suppress(FileNotFoundError, ProcessLookupError):
            _limit_files(process, "1024")


def _limit_files(process: Process, most: str) -> None:
    """Only who is of its account may do that, where root may not do everything. FileNotFoundError
    where it has ended meanwhile."""
    stat = Path(f"/proc/{process.pid}").stat()
    argv = [needs.tool("prlimit"), f"--pid={process.pid}", f"--nofile={most}:"]
    # It may have ended meanwhile.
    subprocess.run(
        argv, user=stat.st_uid, group=stat.st_gid, extra_groups=[], stderr=subprocess.DEVNULL
    )


def _take_pid(fault: Fault, stage: Stage) -> Struck | None:
    """A stranger gets the pid of one who has ended, or is left in the session that it led."""
    gone = sorted(pid for pid in _pids_once(stage) if stage.bystanders.here(pid) is None)
    if not gone:
        return None
    pid = gone[fault.pick % len(gone)]
    with suppress(RuntimeError):
        if fault.pick // len(gone) % 2:
            stage.bystanders.take_session(pid)
            return Struck(f"a stranger in session {pid}")
        stage.bystanders.take_pid(pid)
        return Struck(f"a stranger with pid {pid}")
    return None


def _pids_once(stage: Stage) -> set[int]:
    """Those of jobs and of their supervisors, as they see them."""
    pids = set[int]()
    for path in stage.state.glob("jobs/*/process.json"):
        with suppress(FileNotFoundError, ValueError, KeyError):
            process = json.loads(path.read_text())
            pids |= {process["pid"], process["supervisor"]["pid"]}
    for path in stage.diaries.iterdir():
        pids |= {int(line.split()[2]) for line in path.read_text().splitlines()[:1]}
    return pids


def _kill(fault: Fault, role: str, place: Place, stage: Stage, caller: int) -> Struck | None:
    victim = _victim(fault, role, place, stage, caller)
    if victim is None:
        return None
    pid, job = victim
    processes.kill([pid])
    return Struck(f"pid {pid}", job=job)


def _stall(fault: Fault, role: str, place: Place, stage: Stage, caller: int) -> Struck | None:
    victim = _victim(fault, role, place, stage, caller)
    if victim is None or not _send(victim[0], signal.SIGSTOP):
        return None
    pid, job = victim
    return Struck(f"pid {pid}", job=job, mend=lambda: _go_on(pid))


def _go_on(pid: int) -> None:
    _send(pid, signal.SIGCONT)


def _send(pid: int, number: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


def _victim(
    fault: Fault, role: str, place: Place, stage: Stage, caller: int
) -> tuple[int, str | None] | None:
    """Its pid and, of a supervisor, its job."""
    cast = Cast(stage.python)
    if role == "supervisor":
        there = [
            (pid, job)
            for job, inner in supervisors(stage.state)
            if (pid := here(cast.remits, inner)) is not None
        ]
        return there[fault.pick % len(there)] if there else None
    pids = [caller] if role == "caller" else _pids(role, cast, place)
    return (pids[fault.pick % len(pids)], None) if pids else None


def _pids(role: str, cast: Cast, place: Place) -> list[int]:
    if role == "agent":
        return cast.attended()
    if role == "janitor":
        return cast.janitors()
    if role == "forkserver":
        return cast.forkservers()
    if role == "client":
        assert place.client is not None
        return cast.clients(place.client)
    assert place.link is not None
    return place.link.sshd.session_pids("alice")

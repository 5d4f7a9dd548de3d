"""What goes wrong: each kind of fault, whom it hits, and how it is mended."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress

import attrs

from testbed import processes
from torture.cast import Cast, here, supervisors
from torture.places import Place, Stage
from torture.script import Fault


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


def _kill(fault: Fault, role: str, place: Place, stage: Stage, caller: int) -> Struck | None:
    if role == "supervisor":
        return _kill_supervisor(fault, stage)
    pid = _victim(fault, role, place, stage, caller)
    if pid is None:
        return None
    processes.kill([pid])
    return Struck(f"pid {pid}")


def _kill_supervisor(fault: Fault, stage: Stage) -> Struck | None:
    cast = Cast(stage.python)
    there = [
        (job, pid)
        for job, inner in supervisors(stage.state)
        if (pid := here(cast.remits, inner)) is not None
    ]
    if not there:
        return None
    job, pid = there[fault.pick % len(there)]
    processes.kill([pid])
    return Struck(f"pid {pid}", job=job)


def _stall(fault: Fault, role: str, place: Place, stage: Stage, caller: int) -> Struck | None:
    pid = _victim(fault, role, place, stage, caller)
    if pid is None:
        return None
    if not _send(pid, signal.SIGSTOP):
        return None
    return Struck(f"pid {pid}", mend=lambda: _go_on(pid))


def _go_on(pid: int) -> None:
    _send(pid, signal.SIGCONT)


def _send(pid: int, number: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


def _victim(fault: Fault, role: str, place: Place, stage: Stage, caller: int) -> int | None:
    if role == "caller":
        return caller
    cast = Cast(stage.python)
    if role == "agent":
        pids = cast.attended()
    elif role == "janitor":
        pids = cast.janitors()
    elif role == "nursery":
        pids = cast.nurseries()
    elif role == "client":
        assert place.client is not None
        pids = cast.clients(place.client)
    else:
        assert place.link is not None
        pids = place.link.sshd.session_pids("alice")
    return pids[fault.pick % len(pids)] if pids else None

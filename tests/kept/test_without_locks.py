"""A file system without POSIX record locks: what a reader sees decides, and it guesses nothing.

The reader meets it here, and what it reads was written on a file system that has them.
"""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from agent.harness import Wire, job, processes_of, wait_until_ended
from remit._agent.kept import control
from remit._jobdir import liveness, views
from remit._wire.refusal import Refused


@pytest.fixture
def running(wire: Wire, state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a job that runs, of whose lock nothing can be learned from now on."""
    job_id = wire.accepted(wire.request("start", **job("sleep", "1000", spool=True)))["id"]

    def held(dir_fd: int) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(liveness, "held", held)
    return state_dir / "jobs" / str(job_id)


def view(directory: Path) -> dict[str, Any]:
    fd = os.open(directory, os.O_RDONLY)
    try:
        return views.job_map(fd, directory.name)
    finally:
        os.close(fd)


def process_of(directory: Path) -> Any:
    return json.loads((directory / "process.json").read_text())


def test_a_running_supervisor_is_seen_asked_and_waited_for(running: Path) -> None:
    assert (view(running)["state"], view(running)["problem"]) == ("RUNNING", None)
    state = os.fsencode(running.parent.parent)
    assert control.stop(state, running.name, 5.0)["survivors"] == []
    assert view(running)["state"] == "STOPPED"
    assert control.remove(state, running.name, False) == {}
    assert not running.exists()


def test_one_that_was_killed_is_seen_to_be_gone(running: Path) -> None:
    pid = process_of(running)["supervisor"]["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until_ended(pid)
    assert (view(running)["state"], view(running)["outcome"]["reason"]) == (
        "LOST",
        "supervisor-lost",
    )
    assert control.stop(os.fsencode(running.parent.parent), running.name, 5.0)["survivors"] == []
    assert processes_of(running.name) == []


@pytest.mark.parametrize(
    "change",
    [
        {"boot_id": "other", "hostname": "elsewhere"},
        {"pid_namespace": "pid:[1]", "hostname": "elsewhere"},
        {"supervisor": None, "hostname": "elsewhere"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_one_out_of_sight_may_run_and_the_words_say_why_nobody_knows(
    running: Path, change: dict[str, Any]
) -> None:
    before = process_of(running)
    (running / "process.json").write_text(json.dumps({**before, **change}))
    shown = view(running)
    assert shown["state"] == "DISCONNECTED"
    assert shown["outcome"] is None
    for words in ("No locks available", "elsewhere", "cannot be seen from here"):
        assert words in shown["problem"]
    state = os.fsencode(running.parent.parent)
    for force in (False, True):
        with pytest.raises(Refused, match="from here") as refused:
            control.remove(state, running.name, force)
        assert refused.value.code == "state"
    assert len(processes_of(running.name)) == 1
    (running / "process.json").write_text(json.dumps(before))
    assert control.stop(state, running.name, 5.0)["survivors"] == []

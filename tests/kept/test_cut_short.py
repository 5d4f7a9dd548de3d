"""A supervisor that is killed in the middle of a start: the caller learns whether the job ran."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from agent.harness import new_id
from remit._agent.kept import forkserver, starting
from remit._jobdir import files, liveness
from remit._wire import requests
from remit._wire.refusal import Refused

KILLED = Refused("start-failed", "the job was not run: its supervisor was killed")


def start(state_dir: Path, job_id: str) -> dict[str, Any]:
    source = (-1, -1)  # no forkserver
    asked = requests.parse("start", {"id": job_id, "command": {"argv": [b"true"]}, "spool": True})
    order = starting.Order(asked, 1.0, None, None, bytearray())
    answer = starting.start(os.fsencode(state_dir), order, source, None)
    view: dict[str, Any] = answer["view"]
    return view


def test_once_its_process_stands_there_the_job_may_have_run(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process writes that down itself, and goes on by itself."""

    def order(
        forkserver_fd: int, work: object, stdin: object, dir_fd: int, death_pipe: object
    ) -> None:
        process = {**liveness.here(), "pid": 1, "started": 1.0, "supervisor": {"pid": 1}}
        files.write_json(dir_fd, files.PROCESS, process)
        raise KILLED

    monkeypatch.setattr(forkserver, "order", order)
    job_id = new_id()
    for _ in range(2):  # asked again it is not run, and the answer is the same
        view = start(state_dir, job_id)
        assert (view["state"], view["outcome"]["reason"]) == ("LOST", "may-have-run")


def test_before_that_it_did_not_run_and_leaves_nothing(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def order(*args: object) -> None:
        raise KILLED

    monkeypatch.setattr(forkserver, "order", order)
    with pytest.raises(Refused, match="the job was not run"):
        start(state_dir, new_id())
    assert os.listdir(state_dir / "jobs") == []

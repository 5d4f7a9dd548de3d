"""An id that was given up or removed is used up, whatever else is done to it at the same time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agent.harness import new_id
from remit._agent.kept import control, starting
from remit._jobdir import files
from remit._wire.refusal import Refused

# What is done between two of these is nobody else's to see.
STEPS = ("open", "stat", "read", "write", "listdir", "unlink", "rmdir", "utime", "rename")
# Seconds after which what does not come to its end is taken for waiting.
WAITS = 0.05


class Interrupted:
    """Runs something in the middle of something else, at its step so and so."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.steps = 0
        self._at = -1
        self._then: Callable[[], object] = lambda: None
        self._thread = threading.current_thread()
        self._working = False
        self._others: list[threading.Thread] = []
        for name in STEPS:
            patch.setattr(os, name, self._wrapped(getattr(os, name)))

    def _wrapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            if self._working and threading.current_thread() is self._thread:
                self.steps += 1
                if self.steps == self._at:
                    self._others.append(threading.Thread(target=self._then))
                    self._others[0].start()
                    self._others[0].join(WAITS)
            return function(*args, **options)

        return wrapped

    def run(self, first: Callable[[], object], then: Callable[[], object], at: int) -> bool:
        """Whether ``first`` has so many steps."""
        self.steps, self._at, self._then, self._others = 0, at, then, []
        self._working = True
        try:
            first()
        finally:
            self._working = False
        for other in self._others:
            other.join()
        return bool(self._others)


@pytest.fixture
def interrupted() -> Iterator[Interrupted]:
    with pytest.MonkeyPatch.context() as patch:
        yield Interrupted(patch)


def make_ended_job(state: Path) -> str:
    """A job that ran and is over, and whose start somebody is about to give up; its id."""
    job_id = new_id()
    (state / "jobs").mkdir(mode=0o700)
    directory = state / "jobs" / job_id
    directory.mkdir(mode=0o700)
    (directory / "lock").touch(0o600)
    fd = os.open(directory, os.O_RDONLY)
    job = {"format": 1, "id": job_id, "command": {"line": "true"}, "created": 1.0}
    files.write_json(fd, files.JOB, job)
    files.write_json(fd, files.OUTCOME, {"format": 1, "exit_status": 0, "reason": "exited"})
    os.close(fd)
    return job_id


def does(function: Callable[..., object], *args: object) -> Callable[[], object]:
    def act() -> None:
        with suppress(Refused):  # there is nothing to remove any more
            function(*args)

    return act


@pytest.mark.parametrize("order", ["removed as it is sealed", "sealed as it is removed"])
def test_a_job_is_removed_and_sealed_at_once(
    state_dir: Path, interrupted: Interrupted, order: str
) -> None:
    at = 1
    while True:
        state = state_dir / str(at)
        state.mkdir(mode=0o700)
        job_id = make_ended_job(state)
        path = os.fsencode(state)
        acts = [does(starting.seal, path, job_id), does(control.remove, path, job_id, True, True)]
        if order == "sealed as it is removed":
            acts.reverse()
        if not interrupted.run(acts[0], acts[1], at):
            break
        assert not (state / "jobs" / job_id).exists(), at
        assert (state / "gone" / job_id).exists(), f"it may be started again: step {at}"
        at += 1
    assert at > 10

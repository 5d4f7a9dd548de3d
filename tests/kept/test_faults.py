"""Whatever system call of a supervisor fails, once or several times: its job's end is recorded.
And whatever call of a reader's turn fails: nobody is told of an end that is none.

Programs under each interpreter walk over the calls: `faulty.py` and `faulty_turns.py`.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from remit._link import agent_payload
from testbed import pythons

FAULTY = Path(__file__).with_name("faulty.py")
DEAD = Path(__file__).with_name("dead.py")
FAULTY_TURNS = Path(__file__).with_name("faulty_turns.py")


def importable(python: pythons.Interpreter, tmp_path: Path) -> Path:
    """A file of source that lets the agent's modules be imported there."""
    prepare = agent_payload.preparation((3, python.minor))
    sources = {"remit": ""}
    sources.update({name: prepare(text) for name, text in agent_payload.modules().items()})
    path = tmp_path / "sources"
    path.write_text(f"{sources['remit._agent.base.importer']}\ninstall({sources!r})\n")
    return path


def walk(
    python: pythons.Interpreter, tmp_path: Path, program: Path, *args: object
) -> list[dict[str, Any]]:
    files = [python.path, program, importable(python, tmp_path), tmp_path / "state"]
    argv = [*map(str, files), *map(str, args)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


# Coprime steps: between them the interpreters and errors meet every call.
@pytest.mark.parametrize(
    ("error", "times", "first", "step"),
    [
        *[("EIO", 1, 1, 3), ("ENOSPC", 3, 2, 3), ("EMFILE", 2, 3, 3), ("EAGAIN", 8, 1, 7)],
        *[("ESTALE", 1, 3, 5), ("EROFS", 2, 1, 5), ("EDQUOT", 1, 2, 5)],
    ],
)
def test_no_failing_call_ends_a_running_supervisor(
    python: pythons.Interpreter, tmp_path: Path, error: str, times: int, first: int, step: int
) -> None:
    seen = walk(python, tmp_path, FAULTY, "run", error, times, first, step)
    assert len(seen) > 10
    for one in seen:
        assert one["status"] == 0, one
        assert one["outcome"]["reason"] in ("stopped", "no-space", "write-failed"), one
        assert one["whole"], one
        assert one["left"] == [], one


@pytest.mark.parametrize(("error", "first"), [("EIO", 1), ("EMFILE", 2)])
def test_a_start_that_fails_runs_nothing_and_any_other_one_is_recorded(
    python: pythons.Interpreter, tmp_path: Path, error: str, first: int
) -> None:
    seen = walk(python, tmp_path, FAULTY, "start", error, 1, first, 2)
    assert len(seen) > 10
    for one in seen:
        assert one["left"] == [], one
        if one["status"] == 0:
            assert one["outcome"] is not None, one
        else:
            assert one["status"] >> 8 == 7, one
            assert one["outcome"] is None, one


@pytest.mark.parametrize(
    ("error", "first", "step"), [("EIO", 1, 1), ("EROFS", 1, 2), ("EDQUOT", 2, 2)]
)
def test_a_supervisor_outlives_a_directory_that_takes_nothing(
    python: pythons.Interpreter, tmp_path: Path, error: str, first: int, step: int
) -> None:
    """It ends its job, and holds on until the end of that can be written down."""
    seen = walk(python, tmp_path, DEAD, error, first, step)
    assert len(seen) > 5
    assert any(one["healed"] for one in seen)
    for one in seen:
        assert one["left"] == [], one
        if one["status"] == 0:
            reasons = ("stopped", "no-space", "write-failed", "start-failed")
            assert one["outcome"]["reason"] in reasons, one
            assert one["whole"], one
        else:
            assert (one["status"] >> 8, one["outcome"]) == (7, None), one


@pytest.mark.parametrize(
    ("error", "first", "step"),
    [("ESTALE", 1, 1), ("ENOTCONN", 1, 2), ("ENOENT", 2, 2), ("removed", 1, 1)],
)
def test_a_supervisor_ends_where_its_directory_is_gone_for_good(
    python: pythons.Interpreter, tmp_path: Path, error: str, first: int, step: int
) -> None:
    """Once nothing of its job runs: nobody is left to whom it could be of use."""
    seen = walk(python, tmp_path, DEAD, error, first, step)
    assert len(seen) > 5
    for one in seen:
        assert one["left"] == [], one
        assert one["status"] == 0 or one["status"] >> 8 == 7, one


def test_no_failing_call_ends_a_reading(python: pythons.Interpreter, tmp_path: Path) -> None:
    (failed,) = walk(python, tmp_path, FAULTY_TURNS, "EMFILE")
    assert failed["failed"] > 30

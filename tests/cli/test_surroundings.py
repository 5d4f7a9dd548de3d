"""Every command where its descriptors, its terminal or its directory are odd, and under every
signal at every stage: what its status is then, and what it says last."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.agreeing import JOB
from cli.forked import forked
from remit.cli import _known
from remit.cli._known import Note
from testbed.surroundings import foreign_terminal, full, unread

# Each command, and whether it prints anything.
COMMANDS = {
    "run": ("run fake:x -- true", False),
    "start": ("start fake:x -- true", True),
    "start --keep": ("start --keep fake:x -- true", True),
    "jobs": ("jobs", True),
    "jobs TARGET": ("jobs fake:x", True),
    "receive": (f"receive {JOB}", False),
    "wait": (f"wait {JOB}", True),
    "stop": (f"stop {JOB}", False),
    "rm": (f"rm {JOB}", False),
    "save": (f"save {JOB} out", True),
    "suspend": (f"suspend {JOB}", False),
    "resume": (f"resume {JOB}", False),
    "prune": ("prune fake:x --max-total 1", False),
    "enter": ("enter fake:x -- true", False),
    "transports": ("transports", True),
    "--help": ("--help", True),
    "run --help": ("run --help", True),
}


@pytest.fixture(autouse=True)
def known(state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMIT_STATE_DIR", str(state_dir))
    monkeypatch.chdir(tmp_path)
    _known.write(Note(id=JOB, target="fake:x", created=datetime.now(UTC)))


def _gone_directory() -> None:
    os.mkdir("gone")
    os.chdir("gone")
    os.rmdir("../gone")


def _closed() -> None:
    for fd in (0, 1, 2):
        os.close(fd)


NO_SPACE = "remit: No space left on device"
# What is odd, and the status and the last line where it prints, and where it does not.
ODD: dict[str, tuple[Callable[[], object], tuple[int, str], tuple[int, str]]] = {
    "nothing": (int, (0, ""), (0, "")),
    "stdin closed": (lambda: os.close(0), (0, ""), (0, "")),
    "stdout closed": (lambda: os.close(1), (0, ""), (0, "")),
    "stderr closed": (lambda: os.close(2), (0, ""), (0, "")),
    "all closed": (_closed, (0, ""), (0, "")),
    "stdout full": (lambda: full(1), (1, NO_SPACE), (0, "")),
    "stderr full": (lambda: full(2), (0, ""), (0, "")),
    "stdout unread": (unread, (141, ""), (0, "")),
    "a foreign terminal": (foreign_terminal, (0, ""), (0, "")),
    "a directory that is gone": (_gone_directory, (0, ""), (0, "")),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("command", COMMANDS)
def test_odd_surroundings(command: str, odd: str) -> None:
    line, prints = COMMANDS[command]
    before, printing, silent = ODD[odd]
    done = forked(line.split(), before=before)
    expected = printing if prints else silent
    last = "" if done.last.startswith("remit: removed") else done.last
    if command.startswith("start") and expected[0]:
        # The job runs, so that its id is said, one way or the other.
        assert "runs on fake:x\n" in done.stderr
        last = expected[1] and last
    assert (done.status, last) == expected, done


SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]
# Of those that share their code one is enough.
REACHING = ["run", "jobs TARGET", "receive", "wait", "stop", "save", "prune", "enter"]
STAGES = [
    *((command, stage) for command in REACHING for stage in ("connecting", "asked")),
    *((command, "running") for command in ("run", "enter", "receive", "wait")),
    ("start --keep", "connecting"),
    *((command, "leaving") for command in (*REACHING, "jobs", "start --keep")),
]
# What was done by then is told: where to find it in stdout, and the last line of stderr.
DONE_BY_THEN = {
    "start --keep": ("j", ""),
    "jobs": (JOB, ""),
    "jobs TARGET": (JOB, ""),
    "wait": (f"{JOB}  Completed", ""),
    "save": ("/saved", ""),
    "prune": ("", "remit: removed 0 jobs on fake:x, 0"),
}


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(("command", "stage"), STAGES)
def test_a_signal_ends_it_at_any_stage(command: str, stage: str, number: signal.Signals) -> None:
    is_the_jobs = command == "run" and number == signal.SIGINT
    insists = is_the_jobs and stage == "running"
    done = forked(COMMANDS[command][0].split(), hangs=stage, number=number, again=insists)
    told, last = DONE_BY_THEN.get(command, ("", "")) if stage == "leaving" else ("", "")
    if insists:
        last = done.last
        assert last.endswith(" on x is left; it is stopped there within 30 s")
    status = 0 if is_the_jobs and stage == "leaving" else 128 + number
    assert (done.status, done.last) == (status, last), done
    assert told in done.stdout if told else not done.stdout, done


@pytest.mark.parametrize("command", ["run", "receive", "start --keep", "wait"])
def test_who_insists_waits_for_no_goodbye(command: str) -> None:
    line = COMMANDS[command][0].split()
    assert forked(line, hangs="leaving", number=signal.SIGINT, again=True).status == 130

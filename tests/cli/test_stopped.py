"""Ctrl-Z and back: what runs over there does not notice."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from cli.program import LIMIT, REMIT, Cli
from testbed import run


@pytest.mark.parametrize("number", [signal.SIGTSTP, signal.SIGSTOP], ids=["TSTP", "STOP"])
def test_a_run_that_is_stopped_and_goes_on_misses_nothing(
    cli: Cli, tmp_path: Path, number: signal.Signals
) -> None:
    script = f"echo one; until test -e {tmp_path}/go; do sleep 0.05; done; echo two"
    with subprocess.Popen(
        [REMIT, "run", "local:", "--", "sh", "-c", script],
        env=cli.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        process_group=0,  # as a shell does it; a group of orphans is not stopped by a TSTP
    ) as ours:
        assert ours.stdout is not None
        assert ours.stdout.readline() == b"one\n"
        for _ in range(2):
            os.kill(ours.pid, number)
            run.wait_until(lambda: state_of(ours.pid) == "T", "it to be stopped")
            os.kill(ours.pid, signal.SIGCONT)
            run.wait_until(lambda: state_of(ours.pid) != "T", "it to go on")
        (tmp_path / "go").touch()
        assert ours.communicate(timeout=LIMIT)[0] == b"two\n"
        assert ours.returncode == 0


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

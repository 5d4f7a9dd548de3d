"""``remit`` as its users have it: a program, with a state directory of its own."""

from __future__ import annotations

import os
import pwd
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.program import Cli
from testbed import processes, run
from testbed.accounts import ACCOUNTS
from testbed.sshd import Sshd


@pytest.fixture
def cli(state_dir: Path, tmp_path: Path) -> Iterator[Cli]:
    """Whatever a test started with it and left is gone afterwards."""
    cli = Cli(state_dir, tmp_path)
    yield cli
    for job in cli.listed().values() if any(state_dir.iterdir()) else ():
        cli("rm", "--force", job["id"], status=None)
    mark = f"REMIT_STATE_DIR={state_dir}".encode()

    def left() -> list[int]:
        return [p.pid for p in processes.everyone() if mark in _environment(p.pid)]

    try:
        run.wait_until(lambda: not left(), "its processes to end", timeout=15.0)
    finally:
        for pid in left():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def alice(sshd: Sshd) -> str:
    """A target over ssh, with a state directory of this test's own: other runs share the account,
    and keep jobs in it at the same time."""
    home = Path(pwd.getpwnam(ACCOUNTS["alice"][0]).pw_dir)
    state = home / ".local" / "state" / f"remit-{secrets.token_hex(8)}"
    return f"ssh:alice?config={sshd.config}&state={state}"


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []

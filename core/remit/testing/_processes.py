"""Which processes there are on this computer, as the kit has to know."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import anyio

# Seconds that leaving may take where the command does all it can to stay.
LEAVING = 15.0
# A command that stays until it is told the end of its stdin.
UP = "echo up; cat; exit 0"


def sh(script: str, *arguments: str) -> list[str]:
    """The argv of a script for /bin/sh, whose ``$1`` and so on are ``arguments``."""
    return ["/bin/sh", "-c", script, "sh", *arguments]


def new_marker() -> str:
    """A word by which a command is known among all processes of this computer."""
    return f"remit-test-{secrets.token_hex(8)}"


async def until_gone(marker: str) -> None:
    """Waits until no process of this computer has the word among its arguments.

    Says nothing of a command that runs elsewhere.
    """
    with anyio.fail_after(LEAVING):
        # An ended process that is not reaped yet has no arguments.
        while any(marker in word for word in map(_arguments, _pids())):  # noqa: ASYNC110
            await anyio.sleep(0.02)


def _arguments(pid: int) -> str:
    return _read(pid, "cmdline").decode(errors="replace")


def children() -> set[int]:
    """Our child processes, ended ones that nobody has reaped among them."""
    return {pid for pid in _pids() if _parent(pid) == os.getpid()}


def _parent(pid: int) -> int:
    # The program's name, in parentheses, may itself hold any character: proc_pid_stat(5).
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[1]) if fields else 0


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _read(pid: int, name: str) -> bytes:
    """Empty where the process is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""

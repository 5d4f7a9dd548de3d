"""Ways in which people leave a process running on purpose, each as a line for /bin/sh."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from testbed import processes

_QUIET = "</dev/null >/dev/null 2>&1"

# `{sleep}` is a program that sleeps for long, with a mark in its words.
WAYS = {
    "background": "{sleep} " + _QUIET + " &",
    "nohup": "nohup {sleep} " + _QUIET + " &",
    "setsid": "setsid -f {sleep} " + _QUIET,
    "double fork": "(setsid sh -c '{sleep} &') " + _QUIET,
    "without its environment": "setsid -f env -i {sleep} " + _QUIET,
}
if shutil.which("tmux"):
    WAYS["tmux"] = "tmux -L {mark} -f /dev/null new-session -d '{sleep}'"


class Daemon:
    """One that is not there yet. ``line`` starts it the way that is asked for."""

    def __init__(self, way: str) -> None:
        self.mark = f"9{secrets.randbelow(10**8):08d}.5"
        sleep = f"{shutil.which('sleep')} {self.mark}"
        self.line = WAYS[way].format(sleep=sleep, mark=self.mark)

    @property
    def pids(self) -> list[int]:
        """Of what sleeps, and of a tmux server; not of who is about to become it."""
        return [
            pid
            for pid in processes.running(self.mark)
            if (found := processes.find(pid)) and found.name in ("sleep", "tmux: server")
        ]


@contextmanager
def daemon(way: str) -> Iterator[Daemon]:
    """Nothing of it is left afterwards."""
    one = Daemon(way)
    try:
        yield one
    finally:
        processes.kill(processes.running(one.mark))

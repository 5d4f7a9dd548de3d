"""The environment that jobs get: the account's, and nothing that our interpreter did to its own.

Python changes its own before a program sees it: where there is no locale it sets LC_CTYPE
(PEP 538), for all that it starts, too. The kernel keeps what was given. Standard library only,
Python 3.6; workers carry this file as well.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Mapping, MutableMapping

VARIABLE = b"REMIT_JOB"
# bash takes itself for one started by sshd, and reads ~/.bashrc, where one of these is set and no
# shell is above it: bash(1), Invocation.
_OVER_SSH = (b"SSH_CLIENT", b"SSH2_CLIENT")


def given() -> dict[bytes, bytes]:
    """As it was handed over at the last exec; what `os` knows of it where /proc does not tell."""
    try:
        with open("/proc/self/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return dict(os.environb)
    found: dict[bytes, bytes] = {}
    for entry in entries:
        name, equals, value = entry.partition(b"=")
        if name and equals:
            found.setdefault(name, value)  # of two, the first is what getenv(3) finds
    return found or dict(os.environb)


def change(
    environment: MutableMapping[bytes, bytes], changes: Mapping[bytes, bytes | None]
) -> None:
    """``changes``: what is added or replaced, and, where it is None, removed."""
    for name, value in changes.items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = value


def restore() -> None:
    """Takes out again what this interpreter put into its own, for what it starts."""
    if b"LC_CTYPE" not in given():
        os.environb.pop(b"LC_CTYPE", None)


def rename(job_id: str) -> None:
    """Makes this process, for all who look into /proc, one of that job.

    /proc shows the memory in which the environment was handed over, so the id is written over the
    one there, which is as long. Where that cannot be done (there is none, or no /proc) its own
    children still are known by the environment that they inherit.
    """
    name = VARIABLE.decode()
    before = os.environ.get(name, "")
    os.environ[name] = job_id
    if len(before) != len(job_id):
        return
    try:
        with open("/proc/self/stat", "rb") as file:
            # env_start, the 50th field: proc(5)
            fields = file.read().rpartition(b")")[2].split()
        start, end = int(fields[47]), int(fields[48])
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            block = memory.read(end - start)
            at = (b"\0" + block).find(b"\0" + VARIABLE + b"=" + before.encode() + b"\0")
            if at >= 0:
                memory.seek(start + at + len(VARIABLE) + 1)
                memory.write(job_id.encode())
    except (OSError, IndexError, ValueError):
        pass  # /proc is not there, or not for us


def account() -> dict[bytes, bytes]:
    """What the login gave to us. A copy."""
    return dict(_account())


@lru_cache(None)
def _account() -> dict[bytes, bytes]:
    return of_login(given())


def of_login(given: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """The part of our own environment that is not about this program. Pure."""
    env = dict(given)
    env.pop(b"_", None)  # the shell's note of what it ran: our interpreter
    if any(name in env for name in _OVER_SSH) and env.get(b"SHLVL", b"0") in (b"", b"0"):
        env[b"SHLVL"] = b"1"
    return env

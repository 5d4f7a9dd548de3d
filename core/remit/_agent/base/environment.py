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
    place = place_of_id()
    os.environ[VARIABLE.decode()] = job_id
    write_id(place, job_id.encode())


def place_of_id() -> tuple[int, int] | None:
    """Where in memory the id stands that /proc shows, and its size; None where that is not known.
    Forks have it at the same place."""
    before = os.environb.get(VARIABLE, b"")
    try:
        # env_start and env_end, the 50th field and the next: proc(5)
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        start, end = int(fields[47]), int(fields[48])
        fd = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            block = b"\0" + os.pread(fd, end - start, start)
        finally:
            os.close(fd)
    except (OSError, IndexError, ValueError):
        return None  # /proc is not there, or not for us
    at = block.find(b"\0" + VARIABLE + b"=" + before + b"\0")
    return None if at < 0 else (start + at + len(VARIABLE) + 1, len(before))


def write_id(place: tuple[int, int] | None, job_id: bytes) -> None:
    """For one of many supervisors: touches little of its memory."""
    if place is None or place[1] != len(job_id):
        return
    try:
        fd = os.open("/proc/self/mem", os.O_RDWR | os.O_CLOEXEC)
        try:
            os.pwrite(fd, job_id, place[0])
        finally:
            os.close(fd)
    except OSError:
        pass  # not for us


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

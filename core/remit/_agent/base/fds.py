"""File descriptors: those that a fork must not keep, and how many a process may have, the agent as
many as it can, its jobs as many as before. Standard library only, Python 3.6.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


def close_all(keep: set[int]) -> None:
    """Closes every file descriptor of this process but those."""
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        names = [str(fd) for fd in range(os.sysconf("SC_OPEN_MAX"))]
    for name in names:
        fd = int(name)
        if fd not in keep:
            try:
                os.close(fd)
            except OSError:
                pass  # the one that the list was read with


def point_at_null(*fds: int) -> None:
    """Makes each of these /dev/null, and inheritable."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in fds:
        if fd != null:
            os.dup2(null, fd)
    if null not in fds:
        os.close(null)


try:
    import resource
except ImportError:  # python3-minimal
    resource = None  # type: ignore[assignment]


# The limits that this account's programs have, soft and hard; empty while they are our own.
_before: list[tuple[int, int]] = []


def raise_limit(before: tuple[int, int] | None = None) -> None:
    """Raises our own to what it may be. ``before``: what it was, where another process of ours
    has raised it."""
    if resource is None or _before:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before is None and soft != hard:
        before = (soft, hard)
        _set((hard, hard))
    if before is not None:
        _before.append(before)


def theirs() -> tuple[int, int] | None:
    """What jobs get, where that is not what we have."""
    return _before[0] if _before else None


class AsTheirs:
    """A context in which a program may be started, which then has what it would have without us."""

    def __enter__(self) -> None:
        give_back()

    def __exit__(self, *exc: Any) -> None:
        if _before:
            _set((_before[0][1], _before[0][1]))


def give_back() -> None:
    """In a process that is about to become a job's."""
    if _before:
        _set(_before[0])


def _set(limits: tuple[int, int]) -> None:
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    except (OSError, ValueError):
        pass  # a filter forbids it

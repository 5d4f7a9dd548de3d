"""Odd surroundings for a program: called in its process, after the fork and before the exec."""

import os


def full(*fds: int) -> None:
    """What is written there fails: no space left."""
    for fd in fds:
        os.dup2(os.open("/dev/full", os.O_WRONLY), fd)


def unread() -> None:
    """stdout is a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)


def foreign_terminal() -> None:
    """stdin is a terminal that is not the one that controls us: ``setsid remit …``."""
    _, terminal = os.openpty()
    os.setsid()
    os.dup2(terminal, 0)

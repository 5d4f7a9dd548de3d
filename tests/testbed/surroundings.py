"""Odd surroundings for a program: most are called in its process, between fork and exec."""

import os
from pathlib import Path

_WITHOUT_CTYPES = """\
#!/bin/sh
exec {python} -I -S -c '
import sys
sys.modules["ctypes"] = None
at = sys.argv.index("-c", 1) + 1
code, sys.argv[:] = sys.argv[at], ["-c", *sys.argv[at + 1:]]
exec(code)' "$@"
"""


def python_without_ctypes(python: str, directory: Path) -> Path:
    """A program there that is this Python but for ctypes, as Debian's python3-minimal."""
    program = directory / "python3"
    program.write_text(_WITHOUT_CTYPES.format(python=python))
    program.chmod(0o755)
    return program


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

"""``REMIT_TRACE=FILE``: the caller's end of `remit._wire.trace`."""

from __future__ import annotations

import os
import time
import weakref
from contextlib import suppress

from remit._wire.trace import Trace


def file() -> bytes | None:
    """The caller's file. The agent is told its name, and writes to one of that name where its
    computer has such a directory. None where nothing is to be traced."""
    name = os.environ.get("REMIT_TRACE")
    return os.path.abspath(os.fsencode(name)) if name else None


def of_caller() -> Trace | None:
    """None where nothing is to be traced, or the file cannot be opened: a link works without."""
    path = file()
    if path is None:
        return None
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o600)
    except OSError:
        return None

    def write(lines: bytes) -> None:
        with suppress(OSError):  # a full disk ends no link
            os.write(fd, lines)

    trace = Trace(write, time.time, f"caller {os.getpid()}")
    weakref.finalize(trace, os.close, fd)
    return trace

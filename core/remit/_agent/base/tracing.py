"""A trace of the agent's end of a link, where the caller's hello asks for one."""

from __future__ import annotations

import os
import time

from remit._wire.trace import Trace


def of_agent(path: object) -> Trace | None:
    """None where ``path`` is none, or cannot be opened: a link works without its trace."""
    if not isinstance(path, bytes):
        return None
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o600)  # for as long as the agent lives
    except (OSError, ValueError):
        return None

    def write(lines: bytes) -> None:
        try:
            os.write(fd, lines)
        except OSError:
            pass  # a full disk ends no link

    return Trace(write, time.time, "agent %d" % os.getpid())

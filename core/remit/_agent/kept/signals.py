"""Signals as supervisors take them: two as bytes of a pipe, the others not at all.

Standard library only, Python 3.6.
"""

from __future__ import annotations

import os
import signal

# What would end or stop the supervisor unless it said otherwise, and that anybody may send by
# mistake to a whole process group.
_IGNORED = (
    *("SIGHUP", "SIGINT", "SIGQUIT", "SIGPIPE", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGIO", "SIGPWR"),
    *("SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGVTALRM", "SIGPROF", "SIGXCPU", "SIGXFSZ", "SIGSTKFLT"),
)


def note_signals() -> None:
    """What makes the numbers of two signals appear in the pipe: a handler in Python. Others are
    ignored where that is possible."""
    for name in _IGNORED:
        number = getattr(signal, name, None)
        if number is not None:
            signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, _noted)


def open_pipe() -> int:
    """A descriptor on which the numbers of the signals that come can be read."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    return reader


def _noted(number: int, frame: object) -> None:
    pass

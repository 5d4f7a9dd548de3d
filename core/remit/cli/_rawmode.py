"""The user's own terminal while a program on another computer draws on it and reads its keys."""

from __future__ import annotations

import os
import signal
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from remit.cli import _stopped

# Where no terminal tells: what a VT100 had.
PLAIN_SIZE = (24, 80)


def size() -> tuple[int, int]:
    """Rows and columns of the terminal that stdout is, else stdin or stderr."""
    for fd in (1, 0, 2):
        with suppress(OSError):
            columns, rows = os.get_terminal_size(fd)
            if rows and columns:
                return rows, columns
    return PLAIN_SIZE


@contextmanager
def raw(fd: int) -> Iterator[Callable[[], None]]:
    """Every key is a byte to read, Ctrl-C too, for the length of the block; quiet where ``fd`` is
    no terminal. Gives what makes it so again after somebody else has changed it.

    While we are stopped it is as it was before: not every shell sees to that.
    """
    if not os.isatty(fd):
        yield lambda: None
        return
    before = termios.tcgetattr(fd)
    tty.setraw(fd, termios.TCSANOW)  # at once: what was typed ahead is for the far end
    ours = termios.tcgetattr(fd)

    def make_raw() -> None:
        if _in_front(fd):
            _set(fd, ours)

    def put_back() -> None:
        if _in_front(fd):
            _set(fd, before)

    with _stopped.around(put_back, make_raw):
        try:
            yield make_raw
        finally:
            with suppress(termios.error):  # it is gone
                # In the background only what nobody else has changed since is ours to put back.
                if _in_front(fd) or termios.tcgetattr(fd) == ours:
                    _set(fd, before)


def _in_front(fd: int) -> bool:
    """Whether we are not in the background of the terminal: then a shell has it."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return True  # it does not control us, or is gone


def _set(fd: int, modes: list[Any]) -> None:
    # Put into the background meanwhile, we would be stopped by this.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
    with suppress(termios.error):  # it is gone
        termios.tcsetattr(fd, termios.TCSANOW, modes)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTTOU])

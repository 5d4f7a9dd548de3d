"""The user's own terminal while a program on another computer draws on it and reads its keys."""

from __future__ import annotations

import os
import signal
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

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
    no terminal. Gives what makes it so again after somebody else has changed it."""
    if not os.isatty(fd):
        yield lambda: None
        return
    before = termios.tcgetattr(fd)

    def make_raw() -> None:
        # At once and without dropping anything: what was typed ahead is for the far end.
        tty.setraw(fd, termios.TCSANOW)

    try:
        make_raw()
        yield make_raw
    finally:
        # Put into the background meanwhile, we would be stopped by this, terminal and all.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
        with suppress(termios.error):  # it is gone
            termios.tcsetattr(fd, termios.TCSANOW, before)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTTOU])

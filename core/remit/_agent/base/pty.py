"""A pseudo-terminal of the kernel's: made, sized, and told apart from what runs in it.

Standard library only, Python 3.6, also without ``termios``, which Debian's python3-minimal lacks.
"""

from __future__ import annotations

import fcntl
import os
import struct

try:
    import termios
except ImportError:
    termios = None  # type: ignore[assignment]

# Where termios is missing: asm-generic/ioctls.h, which all but a few old architectures use.
_SET_SIZE = 0x5414 if termios is None else termios.TIOCSWINSZ
_CONTROL = 0x540E if termios is None else termios.TIOCSCTTY
_SIZE = struct.Struct("4H")  # struct winsize: rows, columns, and two that nobody uses
# The line editor of the kernel takes away whole characters. Python has no name for it everywhere.
_IUTF8 = 0o40000


def open_pair(rows: int, columns: int) -> tuple[int, int]:
    """Our end and the programs' end of a new terminal. Raises OSError where there can be none."""
    ours, theirs = os.openpty()
    try:
        resize(ours, rows, columns)
        if termios is not None:
            modes = termios.tcgetattr(theirs)
            modes[0] |= _IUTF8
            termios.tcsetattr(theirs, termios.TCSANOW, modes)
        os.set_blocking(ours, False)
    except OSError:
        os.close(ours)
        os.close(theirs)
        raise
    return ours, theirs


def resize(ours: int, rows: int, columns: int) -> None:
    """The program in front is told by SIGWINCH."""
    fcntl.ioctl(ours, _SET_SIZE, _SIZE.pack(rows, columns, 0, 0))


def take_control(theirs: int) -> None:
    """Makes it the controlling terminal of this process, which leads a session and has none."""
    fcntl.ioctl(theirs, _CONTROL, 0)

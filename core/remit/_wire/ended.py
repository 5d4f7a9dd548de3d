"""How a process ended, as both ends tell it: by an exit status, or by the name of a signal.

Standard library only, Python 3.6. Of `signal` only the names are used.
"""

from __future__ import annotations

import os
import re
from collections import namedtuple
from signal import Signals

# What outcomes and maps tell: the one is None where the other is not, and both are where nobody
# knows. ``core``: whether memory was written out.
Ended = namedtuple("Ended", "exit_status signal core")

_NAME = re.compile(r"SIG[A-Z0-9+-]{1,20}\Z")
# One without a name of its own is told by its number; earlier supervisors wrote SIGRT and that.
_NUMBERED = re.compile(r"SIG(?:RT)?([0-9]{1,3})\Z")
# As kill(1) takes the real-time ones.
_COUNTED = re.compile(r"(SIGRTM(?:IN|AX))([+-][0-9]{1,2})\Z")
_MOST_SIGNALS = 127


def of_status(status: int | None) -> Ended:
    """``status`` is as waitpid tells it; None where nobody can tell."""
    if status is None:
        return Ended(None, None, False)
    if os.WIFSIGNALED(status):
        return Ended(None, signal_name(os.WTERMSIG(status)), os.WCOREDUMP(status))
    return Ended(os.WEXITSTATUS(status), None, False)


def shell_status(status: int) -> int:
    """The exit status by which a shell tells of it: 128 and the number for a signal."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def signal_name(number: int) -> str:
    try:
        return Signals(number).name
    except ValueError:
        return "SIG%d" % number  # one of the real-time ones


def is_signal_name(value: object) -> bool:
    """Whether it may be one, on whatever system."""
    return isinstance(value, str) and _NAME.match(value) is not None


def signal_number(name: str) -> int:
    """The number here of a signal that was told by name; 127 for one that nobody here knows."""
    number = _number(name)
    return _MOST_SIGNALS if number is None else min(number, _MOST_SIGNALS)


def known_signal(name: object) -> int | None:
    """The number by which that signal is sent here; None: there is none of that name."""
    number = _number(str(name))
    return number if number is not None and 0 < number <= max(Signals) else None


def _number(name: str) -> int | None:
    if name in Signals.__members__:
        return int(Signals[name])
    numbered = _NUMBERED.match(name)
    if numbered:
        return int(numbered.group(1))
    counted = _COUNTED.match(name)
    return Signals[counted.group(1)] + int(counted.group(2)) if counted else None

"""Signals as people name them, in the word that travels. Pure."""

from __future__ import annotations

import signal
from typing import Final

from remit._wire.ended import is_signal_name

# No system has a greater one.
_MOST: Final = 127


def signal_word(value: object) -> str:
    """``INT``, ``sigint`` and `signal.SIGINT` are ``SIGINT``; a number, also as digits, is ``SIG``
    and that: each system numbers its own. Raises TypeError, and ValueError for what is none."""
    if isinstance(value, signal.Signals):
        return value.name
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise TypeError(f"a signal is a name or a number, not {type(value).__name__}")
    word = str(value).upper()
    if word.lstrip("-").isdecimal():
        word = str(int(word)) if 0 < int(word[:4]) <= _MOST else ""
    name = word if word.startswith("SIG") else f"SIG{word}"
    if not is_signal_name(name):
        raise ValueError(f"{value!r} is not a signal: INT, SIGINT, 2")
    return name

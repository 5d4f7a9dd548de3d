"""Whether ssh's configuration may forbid it to say what is wrong: ``LogLevel QUIET``."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator

_QUIET = re.compile(r"^\s*LogLevel[\s=]+\"?(?:QUIET|FATAL)\b", re.IGNORECASE | re.MULTILINE)
_INCLUDE = re.compile(r"^\s*Include[\s=]+(.+)", re.IGNORECASE | re.MULTILINE)
_SYSTEM = "/etc/ssh/ssh_config"
# As many as ssh follows.
_DEPTH = 16


def is_quiet(config: str | None) -> bool:
    """Whether a file of it says so, for whichever host. ``config`` stands for the usual ones."""
    places = [_SYSTEM, os.path.expanduser("~/.ssh/config")] if config is None else [config]
    return any(_QUIET.search(text) for place in places for text in _texts(place, _DEPTH))


def _texts(place: str, depth: int) -> Iterator[str]:
    try:
        with open(os.path.expanduser(place), encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return
    yield text
    if not depth:
        return
    within = "/etc/ssh" if place == _SYSTEM else os.path.expanduser("~/.ssh")
    for names in _INCLUDE.findall(text):
        for name in names.split():
            pattern = os.path.join(within, os.path.expanduser(name.strip('"')))
            for found in sorted(glob.glob(pattern)):
                yield from _texts(found, depth - 1)

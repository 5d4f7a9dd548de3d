"""A shorter script that still fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import msgspec

from torture.script import Script


def shrunk(script: Script, fails: Callable[[Script], bool], seconds: float) -> Script:
    """Leaves out a fault or a job at a time, for so long, as long as it ``fails``."""
    deadline = time.monotonic() + seconds
    again = True
    while again:
        again = False
        for shorter in _shorter(script):
            if time.monotonic() > deadline:
                return script
            if fails(shorter):
                script = shorter
                again = True
                break
    return script


def _shorter(script: Script) -> Iterator[Script]:
    for at in range(len(script.faults)):
        faults = script.faults[:at] + script.faults[at + 1 :]
        yield msgspec.structs.replace(script, faults=faults)
    for at in range(len(script.jobs)):
        jobs = script.jobs[:at] + script.jobs[at + 1 :]
        if jobs:
            yield msgspec.structs.replace(script, jobs=jobs)

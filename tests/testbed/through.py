"""Targets behind a command that runs another: ``command:PROGRAM WORDS…``."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path


def target(argv: Sequence[str | Path], python: str | Path | None = None) -> str:
    """``python`` is one whose name is python3: ``command:`` takes what it finds by that name."""
    search = [] if python is None else [f"PATH={Path(python).parent}:{os.defpath}"]
    return f"command:{shlex.join([*map(str, argv), 'env', *search])}"

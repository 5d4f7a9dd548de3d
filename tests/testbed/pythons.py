"""The Python interpreters of this machine, for tests that run under each."""

import os
import re
from pathlib import Path
from typing import NamedTuple

SYSTEM = Path("/usr/bin/python3")
OLDEST, NEWEST = 6, 14  # 3.6 and 3.14
# A directory of versions like that of pyenv: `testbed.unstable` makes one.
_MORE = [Path(path) for path in (os.environ.get("REMIT_TEST_PYTHONS"),) if path]


class Interpreter(NamedTuple):
    version: str  # "3.9.18", or "3.11" for the system's own
    path: Path

    @property
    def minor(self) -> int:
        return int(self.version.split(".")[1])


def found() -> list[Interpreter]:
    """One per minor version, the oldest first: the system's own, else pyenv's newest patch.

    Looks at names only and starts nothing, so it may be called while tests are collected.
    """
    best: dict[int, Interpreter] = {}
    for interpreter in [*_of_pyenv(), *_of_system()]:
        if OLDEST <= interpreter.minor <= NEWEST:
            best[interpreter.minor] = interpreter
    return [best[minor] for minor in sorted(best)]


def pyenv_versions() -> Path:
    return Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"


def _of_pyenv() -> list[Interpreter]:
    """In rising order, so that the last of a minor version is its newest patch."""
    versions = []
    for directory in [pyenv_versions(), *_MORE]:
        for path in directory.glob("3.*/bin/python3"):
            if match := re.fullmatch(r"3\.(\d+)\.(\d+)", path.parents[1].name):
                versions.append((int(match[1]), int(match[2]), path))
    return [Interpreter(path.parents[1].name, path) for _, _, path in sorted(versions)]


def _of_system() -> list[Interpreter]:
    match = re.fullmatch(r"python(3\.\d+)", SYSTEM.resolve().name)
    return [Interpreter(match[1], SYSTEM)] if match and SYSTEM.exists() else []

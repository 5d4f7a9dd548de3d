"""A clock that jumps, a slow disk, a process limit, another C library, for some processes only.

No clock of this computer is set, and nobody else meets the limit. The interpreter of these
processes is a launcher that preloads a small library into the real one; the library looks into a
file what is wrong now. Stamps that the kernel puts on files stay right, and so do the monotonic
clocks: those do not jump on any computer.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import attrs

from testbed import needs, run

_HERE = Path(__file__).parent
_WRONGS = struct.Struct("@5q")  # as in shim.c
_STRICT = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")


@attrs.frozen
class Built:
    library: Path
    launcher: Path


def build(directory: Path) -> Built:
    """Compiles both; ``directory`` is made."""
    directory.mkdir()
    compiler = needs.tool("gcc")
    built = Built(directory / "shim.so", directory / "launcher")
    library: list[str | Path] = [_HERE / "shim.c", "-shared", "-fPIC"]
    # Static: a container's libc may be older than ours.
    launcher: list[str | Path] = [_HERE / "launcher.c", "-static"]
    for source, output in ((library, built.library), (launcher, built.launcher)):
        run.command([compiler, *_STRICT, *source, "-o", output])
    return built


class Shim:
    """What is wrong for the processes of one interpreter. At first nothing is."""

    def __init__(self, built: Built, directory: Path, python: str | Path) -> None:
        """Makes ``self.python`` in the directory, which stands for ``python``. Every account can
        use it, from wherever the directory is seen."""
        self.python = directory / "python3"
        self._offset = 0.0
        self._pauses = (0.0, 0.0)
        self._no_fork = 0
        self._musl = False
        self._path = directory / "wrongs"
        self._path.write_bytes(bytes(_WRONGS.size))
        self._path.chmod(0o644)
        (directory / "shim.so").write_bytes(built.library.read_bytes())
        (directory / "real-python").symlink_to(python)
        self.python.write_bytes(built.launcher.read_bytes())
        for path in (self.python, directory / "shim.so"):
            path.chmod(0o755)

    @property
    def target(self) -> str:
        return f"local:?python={self.python}"

    def jump(self, offset: float) -> None:
        """The wall clock is this many seconds ahead of the true one from now on."""
        self._offset = offset
        self._tell()

    def slow_down(self, write: float, sync: float) -> None:
        """From now on a write takes so many seconds longer, a rename and an fsync as the other
        number says."""
        self._pauses = (write, sync)
        self._tell()

    def speed_up(self) -> None:
        self.slow_down(0.0, 0.0)

    def refuse_forks(self, percent: int) -> None:
        """So many of a hundred fail from now on as at the process limit; 0 ends it."""
        self._no_fork = percent
        self._tell()

    def imitate_musl(self) -> None:
        """Signals 32 to 34 are the C library's own from now on."""
        self._musl = True
        self._tell()

    def _tell(self) -> None:
        # In place, and each number at once: it is mapped.
        seconds = (self._offset, *self._pauses)
        values = (*(int(each * 1e9) for each in seconds), self._no_fork, self._musl)
        fd = os.open(self._path, os.O_WRONLY)
        os.write(fd, _WRONGS.pack(*values))
        os.close(fd)

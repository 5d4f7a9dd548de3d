"""A clock that jumps and a disk that is slow, for the processes of one play and nobody else.

No clock of this computer is set. The play's interpreter is a launcher that preloads a small
library into the real one; the library looks into a file what is wrong now. Stamps that the kernel
puts on files stay right, and so do the monotonic clocks: those do not jump on any computer.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import attrs

from testbed import needs, run

_HERE = Path(__file__).parent
_WRONGS = struct.Struct("@qqq")  # as in shim.c
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
    """What is wrong in one play. At first nothing is."""

    def __init__(self, built: Built, directory: Path, python: str) -> None:
        """Makes ``self.python`` in the directory, which stands for ``python``. Every account can
        use it, from wherever the directory is seen."""
        self.python = directory / "python3"
        self._offset = 0.0
        self._pauses = (0.0, 0.0)
        self._path = directory / "wrongs"
        self._path.write_bytes(_WRONGS.pack(0, 0, 0))
        self._path.chmod(0o644)
        (directory / "shim.so").write_bytes(built.library.read_bytes())
        (directory / "real-python").symlink_to(python)
        self.python.write_bytes(built.launcher.read_bytes())
        for path in (self.python, directory / "shim.so"):
            path.chmod(0o755)

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

    def _tell(self) -> None:
        # In place, and each number at once: it is mapped.
        values = (self._offset, *self._pauses)
        fd = os.open(self._path, os.O_WRONLY)
        os.write(fd, _WRONGS.pack(*(int(seconds * 1e9) for seconds in values)))
        os.close(fd)

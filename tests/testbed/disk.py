"""A small btrfs of its own in a file: there a full disk refuses to overwrite what is there, too.

It copies on write, so that blocks which were reserved beforehand are of no use once it is full.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed import needs, run

# btrfs makes none that is smaller. Files and what it knows of them are mixed: else space that was
# taken for the one would not serve the other once it is freed. The image has holes where nothing
# was written.
_SIZE = 128 << 20
_PIECE = 1 << 20


class Disk:
    """``path`` is its root directory: 0700, and empty at first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / ".filler"

    def fill(self) -> None:
        """Take all space there is, to the last byte that a write is given."""
        fd = os.open(self._filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            # What was written is counted when it gets to the disk: only then is it full.
            while _took(fd):
                os.fsync(fd)
        finally:
            os.close(fd)

    def free(self) -> None:
        """Give the space back that ``fill`` took."""
        self._filler.unlink(missing_ok=True)
        os.sync()


def _took(fd: int) -> bool:
    """Whether anything more went in."""
    size, took = _PIECE, False
    while size:
        try:
            took |= os.write(fd, bytes(size)) > 0
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            size //= 2
    return took


@contextmanager
def btrfs(directory: Path) -> Iterator[Disk]:
    """One that is mounted in ``directory``, which is made, as long as the block lasts."""
    make, mount, umount = (needs.tool(name) for name in ("mkfs.btrfs", "mount", "umount"))
    if "\tbtrfs\n" not in Path("/proc/filesystems").read_text():
        needs.missing("this kernel knows no btrfs")
    directory.mkdir(mode=0o755)
    image, path = directory / "image", directory / "root"
    with image.open("xb") as file:
        file.truncate(_SIZE)
    run.command([make, "--quiet", "--mixed", image])
    path.mkdir()
    run.command([mount, "-t", "btrfs", "-o", "loop", image, path])
    try:
        path.chmod(0o700)
        yield Disk(path)
    finally:
        # Lazily: what a test left running there shall not keep the run from its end.
        run.command([umount, "--lazy", path])

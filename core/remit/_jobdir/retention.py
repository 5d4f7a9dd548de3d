"""Keeping only the newest output of a job: what is older is freed, by holes in its files.

Offsets stay what they were. ``freed.json`` says how far a stream is freed before it is, so that
who reads first and asks afterwards never takes the zeros of a hole for output. Through ctypes,
which Debian's python3-minimal lacks. Standard library only, Python 3.6.
"""

from __future__ import annotations

import errno
import os
from functools import lru_cache
from typing import TYPE_CHECKING

from remit._jobdir import files
from remit._wire.refusal import Refused

if TYPE_CHECKING:
    from typing import Any

_KEEP_SIZE = 0x1
_PUNCH_HOLE = 0x2
# File systems free whole blocks; a page is the largest that is common.
_BLOCK = 4096
# Bytes of a stream that may be there beyond what is kept: freeing takes several system calls.
_SLACK = 1 << 18
_BATCH = 1024 * files.LINE_SIZE


def check(dir_fd: int) -> None:
    """Raises Refused where the oldest output cannot be freed. For the helper of a start."""
    fd = files.open_output(dir_fd, b"stdout")
    try:
        _punch(fd, 0, _BLOCK)
    except OSError as exc:
        raise Refused(
            "start-failed",
            "the newest output alone cannot be kept here: %s" % exc.strerror,
            hint="on_max='stop' works everywhere",
        ) from exc
    finally:
        os.close(fd)


class Retention:
    """What the supervisor of such a job frees. ``most`` bytes of each stream are kept."""

    def __init__(self, dir_fd: int, index: int, most: int) -> None:
        """``index`` is open for writing."""
        self._dir_fd = dir_fd
        self._index = index
        self._most = most
        self._slack = max(_SLACK, most // 4)
        self._freed = dict.fromkeys(files.OUTPUTS, 0)
        self._index_freed = 0
        self._lines = files.open_input(dir_fd, files.INDEX)
        self._dead = 0  # lines at the start of the index that are about freed output alone

    def is_due(self, stream: str, size: int) -> bool:
        return size - self._freed[stream] > self._most + self._slack

    def cut(self, outputs: dict[str, tuple[int, int]]) -> None:
        """Frees all but the newest of each stream: ``(descriptor or -1, size)``. Raises OSError."""
        before, index_before = dict(self._freed), self._index_freed
        for stream, (_, size) in outputs.items():
            self._freed[stream] = max(before[stream], size - self._most)
        if self._freed == before:
            return
        self._count_dead_lines()
        self._index_freed = self._dead * files.LINE_SIZE // _BLOCK * _BLOCK
        freed = dict(self._freed, index=self._index_freed)
        files.write_json(self._dir_fd, files.FREED, freed, durable=False)
        for stream, (fd, _) in outputs.items():
            if fd >= 0:
                _punch(fd, before[stream], self._freed[stream])
        _punch(self._index, index_before, self._index_freed)

    def _count_dead_lines(self) -> None:
        while True:
            lines = os.pread(self._lines, _BATCH, self._dead * files.LINE_SIZE)
            for at in range(0, len(lines) - files.LINE_SIZE + 1, files.LINE_SIZE):
                try:
                    line = files.parse_line(lines[at : at + files.LINE_SIZE])
                except files.Unreadable:
                    return  # somebody else wrote there; what follows stays
                if line.offset + line.size > self._freed.get(line.stream, 0):
                    return
                self._dead += 1
            if len(lines) < _BATCH:
                return


def _punch(fd: int, start: int, end: int) -> None:
    """Frees the bytes between the two, of which the first block may be freed in part already.

    Raises OSError.
    """
    start = start // _BLOCK * _BLOCK
    if end <= start:
        return
    fallocate = _fallocate()
    if fallocate is None:
        raise OSError(errno.ENOSYS, "this Python has no ctypes")
    if fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, start, end - start):
        import ctypes

        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@lru_cache(None)
def _fallocate() -> Any:
    try:
        import ctypes
    except ImportError:
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    # With 64 bits for sizes on every computer; musl has no other kind and needs no name for it.
    function = getattr(libc, "fallocate64", None) or libc.fallocate
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return function

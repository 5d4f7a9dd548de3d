"""Room on disk for results: blocks of one temporary file that all jobs of this process share.

One file, so that many jobs with results on disk take one descriptor. It has no name: it goes with
the process, however that ends. Blocks that are given back are used again; what is free at the end
of the file is cut off, and without a block in use there is no file.
"""

from __future__ import annotations

import heapq
import os
import threading
from collections import deque
from typing import Final

BLOCK: Final = 1 << 20


class Disk:
    """May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fd = -1
        self._count = 0  # of blocks that the file has
        self._free: list[int] = []  # a heap of those that nobody uses
        self._given: deque[list[int]] = deque()
        self._forked = False

    def take(self) -> int:
        """A block. Raises OSError where no file can be made."""
        with self._lock:
            self._gather()
            if self._free:
                return heapq.heappop(self._free)
            if self._fd < 0:
                import tempfile  # slow to import, and most output is held in memory

                with tempfile.TemporaryFile() as file:
                    self._fd = os.dup(file.fileno())
            self._count += 1
            return self._count - 1

    def give(self, blocks: list[int]) -> None:
        """Gives back all of ``blocks``, which is empty then. Never waits: a collection of garbage
        may call it anywhere."""
        self._given.append(blocks[:])
        blocks.clear()
        while self._given and self._lock.acquire(blocking=False):
            # Who holds the lock already looks here when it takes the next block.
            try:
                self._gather()
                self._shrink()
            finally:
                self._lock.release()

    def write(self, block: int, at: int, data: memoryview) -> None:
        """Raises OSError; then a part may have been written."""
        place = block * BLOCK + at
        while data:
            written = os.pwrite(self._fd, data, place)
            data = data[written:]
            place += written

    def read(self, block: int, at: int, size: int) -> bytes:
        """At most ``size`` bytes of a block from ``at`` on. Raises OSError."""
        return os.pread(self._fd, size, block * BLOCK + at)

    def forked(self) -> None:
        """In a child of this process: the file is the parent's."""
        self._forked = True

    def _gather(self) -> None:
        while self._given:
            for block in self._given.popleft():
                heapq.heappush(self._free, block)

    def _shrink(self) -> None:
        if self._forked or not self._free:
            return
        free = sorted(self._free)
        count = self._count
        while free and free[-1] == self._count - 1:
            free.pop()
            self._count -= 1
        if self._count == count:
            return
        self._free = free  # a sorted list is a heap
        if self._count:
            os.truncate(self._fd, self._count * BLOCK)
        else:
            os.close(self._fd)
            self._fd = -1


disk = Disk()


def _after_fork() -> None:
    global disk
    disk.forked()
    disk = Disk()


os.register_at_fork(after_in_child=_after_fork)

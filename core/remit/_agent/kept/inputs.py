"""What a supervisor sends to its job: stdin, and of a function the script. Python 3.6."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Union

    from remit._agent.kept.barrier import Turns

    Data = Union[bytes, bytearray]

_PIECE = 1 << 18


class Inputs:
    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._unsent: dict[int, memoryview] = {}

    def open(self, data: Data) -> int:
        """The end of a pipe that the job reads; the rest is done in turns."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        self._unsent[writer] = memoryview(data)
        self._turns.watch(writer, select.POLLOUT, self._feed)
        return reader

    def close(self) -> None:
        """Nobody is left who would read any of it. Twice is quiet."""
        for fd in list(self._unsent):
            self._close(fd)

    def _feed(self, fd: int) -> None:
        data = self._unsent[fd]
        try:
            sent = os.write(fd, data[:_PIECE])
        except BlockingIOError:
            return
        except OSError:  # the job reads no more
            sent = len(data)
        self._unsent[fd] = data[sent:]
        if not self._unsent[fd]:
            self._close(fd)

    def _close(self, fd: int) -> None:
        del self._unsent[fd]
        self._turns.unwatch(fd)
        os.close(fd)

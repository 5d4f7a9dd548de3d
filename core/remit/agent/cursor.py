"""Reading a kept job's output from any position, in the order in which it came.

A position is one byte offset per stream. Of a job that keeps its newest output only, what was
freed is passed over. Plain reads of files, nothing that waits. Standard library only, Python 3.6.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from remit._conversation import MAX_PIECE, Piece
from remit.agent import jobdir
from remit.agent.jobdir import LINE_SIZE

if TYPE_CHECKING:
    from remit.agent.jobdir import Line

NUMBERS = {"stdout": 1, "stderr": 2, "records": 3}
# Lines of the index read at once.
_BATCH = 1024 * LINE_SIZE


class Cursor:
    """Gives the pieces after a position. ``position`` is what was given out so far.

    ``freed`` is where each stream begins by now: a position before it has been moved on to it.
    """

    def __init__(self, dir_fd: int, position: dict[str, int]) -> None:
        """Raises OSError where the files cannot be opened, and Unreadable.

        ``dir_fd`` stays open for as long as the cursor is used.
        """
        self.position = dict(position)
        self.freed = dict.fromkeys(jobdir.STREAMS, 0)
        self._dir_fd = dir_fd
        self._files: dict[str, int] = {}
        self.index_fd = jobdir.open_input(dir_fd, jobdir.INDEX)
        try:
            for stream in jobdir.STREAMS:
                try:
                    self._files[stream] = jobdir.open_input(dir_fd, stream.encode())
                except FileNotFoundError:
                    if stream in jobdir.OUTPUTS:
                        raise
        except OSError:
            self.close()
            raise
        self._ahead = dict.fromkeys(jobdir.STREAMS, (0, b""))  # what was read too much, and where
        self._lines = b""
        self._at = 0  # in _lines
        self._line: Line | None = None  # the one that is being given out
        try:
            first = self._pass_over_freed()
            finds = [self._find(stream, first) for stream in self._files]
        except jobdir.Unreadable:
            self.close()
            raise
        self._next = min([_count(self.index_fd), *finds])

    def close(self) -> None:
        for fd in (self.index_fd, *self._files.values()):
            os.close(fd)
        self._files = {}

    def exhausted(self) -> bool:
        """Whether all that is in the files now was given out."""
        return all(
            os.fstat(fd).st_size <= self.position[stream] for stream, fd in self._files.items()
        )

    def _pass_over_freed(self) -> int:
        """To be called after each reading: what was read of a freed part are zeros.

        The first line of the index that is not freed.
        """
        freed = jobdir.read_freed(self._dir_fd)
        for stream, end in zip(jobdir.OUTPUTS, freed):
            self.freed[stream] = end
            self.position[stream] = max(self.position[stream], end)
        return int(freed.index) // LINE_SIZE

    # -- where to begin

    def _find(self, stream: str, low: int) -> int:
        """The first line of the index that tells of a byte of ``stream`` after the position.

        ``low`` is the first line that there is.
        """
        high = _count(self.index_fd)
        wanted = self.position[stream]
        if os.fstat(self._files[stream]).st_size <= wanted:
            return high
        while low < high:
            middle = (low + high) // 2
            number, line = self._line_of(stream, middle, high)
            if line is None or line.offset + line.size > wanted:
                high = middle
            else:
                low = number + 1
        return low

    def _line_of(self, stream: str, first: int, end: int) -> tuple[int, Line | None]:
        """The first line of the stream from line ``first`` on, before line ``end``."""
        mark = b" " + stream.encode() + b" "
        while first < end:
            lines = os.pread(
                self.index_fd, min(_BATCH, (end - first) * LINE_SIZE), first * LINE_SIZE
            )
            if not lines:
                break
            found = lines.find(mark)
            if found >= 0:
                start = found // LINE_SIZE * LINE_SIZE
                number = first + start // LINE_SIZE
                return number, jobdir.parse_line(lines[start : start + LINE_SIZE])
            first += len(lines) // LINE_SIZE
        return end, None

    # -- what comes next

    def next(self, most: int) -> Piece | None:
        """The next piece of ``most`` bytes at most, or None at the end of the index for now.

        Raises Unreadable where the index makes no sense.
        """
        most = min(most, MAX_PIECE)
        while True:
            if self._line is None:
                self._line = self._next_line()
                if self._line is None:
                    return None
            line = self._line
            start = max(line.offset, self.position[line.stream])
            size = min(line.offset + line.size - start, most)
            data = self._read(line.stream, start, size) if size > 0 else b""
            if start < self.position[line.stream]:
                continue  # it was freed as we read
            if not data:
                # Used up already, or cut off by somebody else: there is no more of this line.
                self._line = None
                continue
            self.position[line.stream] = start + len(data)
            piece = Piece(NUMBERS[line.stream], self._next - 1, start, line.time, data)
            if start + len(data) == line.offset + line.size:
                self._line = None
            return piece

    def rest(self, most: int, time: float) -> Piece | None:
        """What a supervisor that died wrote last and told nothing of, as further pieces."""
        for stream in self._files:
            start = -1
            while start < self.position[stream]:
                start = self.position[stream]
                data = os.pread(self._files[stream], min(most, MAX_PIECE), start)
                self._pass_over_freed()
            if data:
                self.position[stream] = start + len(data)
                self._next += 1
                return Piece(NUMBERS[stream], self._next - 1, start, time, data)
        return None

    def _next_line(self) -> Line | None:
        """The next line of the index that is about output."""
        while True:
            if self._at == len(self._lines):
                self._at = 0
                first = self._next
                lines = os.pread(self.index_fd, _BATCH, first * LINE_SIZE)
                self._next = max(first, self._pass_over_freed())
                if first < self._next:
                    continue  # they were freed as we read
                # What follows the last whole line is still being written.
                self._lines = lines[: len(lines) // LINE_SIZE * LINE_SIZE]
                if not self._lines:
                    return None
            line = jobdir.parse_line(self._lines[self._at : self._at + LINE_SIZE])
            self._at += LINE_SIZE
            self._next += 1
            if line.stream in NUMBERS:
                return line

    def _read(self, stream: str, start: int, size: int) -> bytes:
        """From the file, a piece at a time: a job that prints lines has many small pieces."""
        first, ahead = self._ahead[stream]
        if first <= start and start + size <= first + len(ahead):
            return ahead[start - first : start - first + size]
        most = size if size >= MAX_PIECE // 2 else MAX_PIECE
        data = os.pread(self._files[stream], most, start)
        self._pass_over_freed()
        if self.position[stream] <= start and most > size:
            self._ahead[stream] = (start, data)
        return data[:size]


def _count(index: int) -> int:
    return os.fstat(index).st_size // LINE_SIZE

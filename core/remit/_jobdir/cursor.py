"""Reading a kept job's output from any position, in the order in which it came.

A position is one byte offset per stream. Of a job that keeps its newest output only, what was
freed is passed over. Plain reads of files, nothing that waits. Standard library only, Python 3.6.
"""

from __future__ import annotations

import math
import os
import stat
import time
from typing import TYPE_CHECKING

from remit._jobdir import files
from remit._jobdir.files import LINE_SIZE
from remit._wire.conversation import MAX_PIECE, Piece

if TYPE_CHECKING:
    from typing import Iterator

    from remit._jobdir.files import Line

NUMBERS = {"stdout": 1, "stderr": 2, "records": 3}
# Lines of the index read at once.
_BATCH = 1024 * LINE_SIZE
# And where one stream's is looked for.
_SCAN = 1 << 20
# Lines passed over between two looks at the clock.
_PASSED = 256


class Cursor:
    """Gives the pieces after a position. ``position`` is what was given out so far, ``line`` the
    number of the line of the index that comes next, None where that is still being looked for.

    ``freed`` is where each stream begins by now: a position before it has been moved on to it.
    ``behind``: the last `next` came to the end of its time, and not to that of the index.
    """

    def __init__(self, dir_fd: int, position: dict[str, int], line: int | None = None) -> None:
        """Raises OSError where the files cannot be opened, and Unreadable.

        ``dir_fd`` stays open for as long as the cursor is used. ``line`` is that of an earlier
        cursor at this position.
        """
        self.position = dict(position)
        self.freed = dict.fromkeys(files.STREAMS, 0)
        self.behind = False
        self._dir_fd = dir_fd
        self.files: dict[str, int] = {}
        self.index_fd = files.open_input(dir_fd, files.INDEX)
        try:
            for stream in files.STREAMS:
                try:
                    self.files[stream] = files.open_input(dir_fd, stream.encode())
                except FileNotFoundError:
                    if stream in files.OUTPUTS:
                        raise
            for fd in (self.index_fd, *self.files.values()):
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise files.Unreadable("its output is not a regular file")
            self._ahead = dict.fromkeys(files.STREAMS, (0, b""))  # read too much, and where
            self._lines = b""
            self._at = 0  # in _lines
            self._line: Line | None = None  # the one that is being given out
            first = self._pass_over_freed()
            self._lines_there()
        except (OSError, files.Unreadable):
            self.close()
            raise
        self._next = first if line is None else line
        self._search = self._searched(first) if line is None else None

    @property
    def line(self) -> int | None:
        if self._search is not None:
            return None
        return self._next if self._line is None else self._next - 1

    def close(self) -> None:
        for fd in (self.index_fd, *self.files.values()):
            os.close(fd)
        self.files = {}

    def has_more(self) -> bool:
        """Whether there is output in the files now that was not given out."""
        return any(
            os.fstat(fd).st_size > self.position[stream] for stream, fd in self.files.items()
        )

    def _lines_there(self) -> int:
        """How many lines the index has now. Raises Unreadable where it has more than there are
        bytes to tell of: each tells of one at least, which was written before."""
        lines = os.fstat(self.index_fd).st_size // LINE_SIZE
        if lines > sum(os.fstat(fd).st_size for fd in self.files.values()):
            raise files.Unreadable("the index is longer than the output that it tells of")
        return lines

    def _pass_over_freed(self) -> int:
        """To be called after each reading: what was read of a freed part are zeros.

        The first line of the index that is not freed.
        """
        freed = files.read_freed(self._dir_fd)
        for stream, end in zip(files.OUTPUTS, freed):
            self.freed[stream] = end
            self.position[stream] = max(self.position[stream], end)
        return int(freed.index) // LINE_SIZE

    # -- where to begin

    def _searched(self, low: int) -> Iterator[None]:
        """Finds the first line to be given out, from ``low`` on. Gives way after each read."""
        found = self._lines_there()
        for stream in self.files:
            first = low
            high = found
            wanted = self.position[stream]
            if os.fstat(self.files[stream]).st_size <= wanted:
                continue
            while first < high:
                middle = (first + high) // 2
                at, line = middle, None
                while at < high and line is None:
                    yield
                    at, line = self._line_of(stream, at, high)
                if line is None or line.offset + line.size > wanted:
                    high = middle
                else:
                    first = at + 1
            found = min(found, first)
        self._next = found

    def _line_of(self, stream: str, first: int, end: int) -> tuple[int, Line | None]:
        """The first line of the stream from line ``first`` on, before line ``end``, and its number;
        or how far was looked. Raises Unreadable where there is a line that is none."""
        lines = os.pread(self.index_fd, min(_SCAN, (end - first) * LINE_SIZE), first * LINE_SIZE)
        found = lines.find(b" " + stream.encode() + b" ")
        if found < 0:
            if not lines:
                return end, None
            files.parse_line(lines[:LINE_SIZE])  # a hole is no index
            return first + len(lines) // LINE_SIZE, None
        start = found // LINE_SIZE * LINE_SIZE
        return first + start // LINE_SIZE, files.parse_line(lines[start : start + LINE_SIZE])

    # -- what comes next

    def next(self, most: int, until: float = math.inf) -> Piece | None:
        """The next piece of ``most`` bytes at most, or None at the end of the index for now, or
        where it is ``until`` by the monotonic clock: then it is `behind`.

        Raises Unreadable where the index makes no sense.
        """
        most = min(most, MAX_PIECE)
        self.behind = True
        if self._search is not None:
            for _ in self._search:
                if time.monotonic() > until:
                    return None
            self._search = None
        passed = 0
        while True:
            passed += 1
            if not passed % _PASSED and time.monotonic() > until:
                return None
            if self._line is None:
                self._line = self._next_line()
                if self._line is None:
                    self.behind = False
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
        for stream in self.files:
            start = -1
            while start < self.position[stream]:
                start = self.position[stream]
                data = os.pread(self.files[stream], min(most, MAX_PIECE), start)
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
                self._lines_there()
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
            line = files.parse_line(self._lines[self._at : self._at + LINE_SIZE])
            self._at += LINE_SIZE
            self._next += 1
            if line.stream in self.files:
                return line

    def _read(self, stream: str, start: int, size: int) -> bytes:
        """From the file, a piece at a time: a job that prints lines has many small pieces."""
        first, ahead = self._ahead[stream]
        if first <= start and start + size <= first + len(ahead):
            return ahead[start - first : start - first + size]
        most = size if size >= MAX_PIECE // 2 else MAX_PIECE
        data = os.pread(self.files[stream], most, start)
        self._pass_over_freed()
        if self.position[stream] <= start and most > size:
            self._ahead[stream] = (start, data)
        return data[:size]

"""Where the last lines of a kept job's output begin: read backwards from its end, in a helper.
Standard library only, Python 3.6."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING

from remit._agent.kept import lookup
from remit._jobdir import files
from remit._jobdir.cursor import Cursor
from remit._jobdir.files import LINE_SIZE
from remit._wire import records

if TYPE_CHECKING:
    from typing import Any, Iterator

    from remit._jobdir.files import Line

# Bytes read at once.
_BATCH = 16384 * LINE_SIZE


def tail(path: bytes, job_id: str, lines: int, stream: str | None) -> dict[str, Any]:
    """``{position}``: behind it are the last ``lines`` lines at least, a record of a function
    being one, of ``stream`` as users call it; None: of all. Of other streams nothing is. The
    position is None where the files cannot tell. Raises Refused."""
    with lookup.opened(path, job_id) as job:
        try:
            cursor = Cursor(job.dir_fd, dict.fromkeys(files.STREAMS, 0))
        except (OSError, files.Unreadable):
            return {"position": None}
        try:
            first = files.read_freed(job.dir_fd).index // LINE_SIZE
            return {"position": _Tail(cursor, first, stream).position(lines)}
        except (OSError, files.Unreadable):
            return {"position": None}
        finally:
            cursor.close()


class _Tail:
    def __init__(self, cursor: Cursor, first: int, stream: str | None) -> None:
        self._stream = stream
        self._index = cursor.index_fd
        self._fds = cursor.files
        self._first = first

    def position(self, lines: int) -> dict[str, int]:
        position = {"records": self._records(lines)} if "records" in self._fds else {}
        wanted = [name for name in files.OUTPUTS if self._wants(name)]
        for name in files.OUTPUTS:
            last = next(self._lines([name]), None) if os.fstat(self._fds[name]).st_size else None
            position[name] = 0 if last is None else last.offset + last.size
        left = lines + 1  # the first line follows that many ends
        for name in reversed(wanted):
            # What the index does not tell of yet, or never will, is given last.
            end = os.fstat(self._fds[name]).st_size
            position[name], left = self._begin(name, position[name], end, left)
        for line in self._lines(wanted):
            if not left:
                return position
            end = line.offset + line.size
            position[line.stream], left = self._begin(line.stream, line.offset, end, left)
        if left:
            # All of it, with what was freed before.
            position.update(dict.fromkeys(wanted, 0))
        return position

    def _lines(self, names: list[str]) -> Iterator[Line]:
        """Those of the index that tell of one of the streams, from the last one on."""
        marks = [b" %s " % name.encode() for name in names]
        end = os.fstat(self._index).st_size // LINE_SIZE
        while marks and end > self._first:
            start = max(self._first, end - _BATCH // LINE_SIZE)
            batch = os.pread(self._index, (end - start) * LINE_SIZE, start * LINE_SIZE)
            at = len(batch) // LINE_SIZE
            while at:
                if len(marks) == 1:
                    at = batch.rfind(marks[0], 0, at * LINE_SIZE) // LINE_SIZE + 1
                if at:
                    at -= 1
                    line = files.parse_line(batch[at * LINE_SIZE : (at + 1) * LINE_SIZE])
                    if line.stream in names:
                        yield line
            end = start

    def _wants(self, stream: str) -> bool:
        return self._stream in (None, stream)

    def _begin(self, stream: str, begin: int, end: int, left: int) -> tuple[int, int]:
        """Where in that part the lines begin, with the end before them, and how many ends are then
        still to be found."""
        while left and end > begin:
            start = max(begin, end - _BATCH)
            data = os.pread(self._fds[stream], end - start, start)
            ends = data.count(b"\n")
            if ends >= left:
                at = len(data)
                for _ in range(left):
                    at = data.rfind(b"\n", 0, at)
                return start + at, 0
            left -= ends
            end = start
        return begin, left

    def _records(self, count: int) -> int:
        """Where the last of those records begin. Forwards, from head to head."""
        fd, at, base, data = self._fds["records"], 0, 0, b""
        size = os.fstat(fd).st_size
        begins: deque[int] = deque(maxlen=count)
        while at + records.HEAD.size <= size:
            if at + records.HEAD.size > base + len(data):
                base, data = at, os.pread(fd, _BATCH, at)
            kind, _, _, length = records.HEAD.unpack_from(data, at - base)
            end = at + records.HEAD.size + length
            if end > size:
                break
            name = records.STREAMS.get(kind & ~records.PICKLED)
            if name is not None and self._wants(name):
                begins.append(at)
            at = end
        return begins[0] if begins else at

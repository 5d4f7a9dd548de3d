"""A temporary file of records: appended to, and read from any record on.

The file has no name (it goes with the process) and holds, for each record, a header and the data.
Reads and writes run in threads: a disk may be slow.
"""

from __future__ import annotations

import os
import struct
import tempfile
import weakref
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import IO, Self

import anyio.to_thread
import msgspec

import remit

# stream u8, whether the data is MessagePack of a value, seq u64, offset u64, time f64, size u32
_HEADER = struct.Struct(">B?QQdI")
_STREAMS: tuple[remit.Stream, ...] = ("stdout", "stderr", "records")
# One entry of the table of places for so many bytes of file.
_STRIDE = 1 << 20
_READ_SIZE = 1 << 18


class Spill:
    """Records are numbered from 0, in the order in which they were written."""

    def __init__(self, file: IO[bytes]) -> None:
        # A descriptor of our own, closed with whoever holds this: a session's results may be read
        # after its end, for as long as their job's handle is kept.
        with file:
            self._fd = os.dup(file.fileno())
        self._close = weakref.finalize(self, os.close, self._fd)
        self._end = 0
        self._count = 0
        self._job = ""
        self._location = ""
        # Every `_STRIDE` bytes: the number of a record, and where it begins.
        self._numbers = [0]
        self._places = [0]
        self._lock = anyio.Lock()

    @classmethod
    async def create(cls) -> Self:
        """Raises OSError where there is no room for temporary files."""
        return cls(await anyio.to_thread.run_sync(tempfile.TemporaryFile))

    async def write(self, records: Sequence[remit.Record]) -> bool:
        """Appends whole records; False once it is closed. Cancelled or failed, none of them counts
        as written."""
        parts = []
        place = self._end
        numbers: list[int] = []
        places: list[int] = []
        for number, record in enumerate(records, self._count):
            if place - (places or self._places)[-1] >= _STRIDE:
                numbers.append(number)
                places.append(place)
            is_value = not isinstance(record.data, bytes)
            data = msgspec.msgpack.encode(record.data) if is_value else record.data
            header = _HEADER.pack(
                _STREAMS.index(record.stream),
                is_value,
                record.seq,
                record.offset,
                record.time.timestamp(),
                len(data),
            )
            parts += [header, data]
            place += len(header) + len(data)
        self._job, self._location = records[0].job, records[0].location
        async with self._lock:
            if not self._close.alive:
                return False
            await anyio.to_thread.run_sync(self._put, b"".join(parts), self._end)
        self._end = place
        self._count += len(records)
        self._numbers += numbers
        self._places += places
        return True

    def _put(self, data: bytes, place: int) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._fd, view, place)
            view = view[written:]
            place += written

    async def read(
        self, number: int, place: int | None
    ) -> tuple[deque[remit.Record], int, int | None]:
        """Some records from ``number`` on (which must have been written), the number after them,
        and the place where that one begins: give it back at the next call, it saves a search."""
        if place is None:
            entry = bisect_right(self._numbers, number) - 1
            found, place = self._numbers[entry], self._places[entry]
        else:
            found = number
        records: deque[remit.Record] = deque()
        while not records:
            async with self._lock:  # `aclose` waits for it
                if not self._close.alive:
                    raise remit.JobStateError("the results were removed")
                data = await anyio.to_thread.run_sync(self._get, place, self._end)
            used = 0
            for record, end in self._parse(data):
                if found >= number:
                    records.append(record)
                found += 1
                used = end
            place += used
        return records, found, place

    def _get(self, place: int, end: int) -> bytes:
        """Whole records: as many as `_READ_SIZE` holds, and at least one."""
        size = min(_READ_SIZE, end - place)
        data = os.pread(self._fd, size, place)
        if len(data) >= _HEADER.size:
            first = _HEADER.size + _HEADER.unpack_from(data)[-1]
            if first > len(data):
                data = os.pread(self._fd, first, place)
        return data

    def _parse(self, data: bytes) -> list[tuple[remit.Record, int]]:
        found = []
        at = 0
        while at + _HEADER.size <= len(data):
            stream, is_value, seq, offset, time, size = _HEADER.unpack_from(data, at)
            end = at + _HEADER.size + size
            if end > len(data):
                break
            raw = data[at + _HEADER.size : end]
            record = remit.Record(
                _STREAMS[stream],
                msgspec.msgpack.decode(raw) if is_value else raw,
                offset,
                seq,
                datetime.fromtimestamp(time, UTC),
                self._job,
                self._location,
            )
            found.append((record, end))
            at = end
        return found

    async def aclose(self) -> None:
        async with self._lock:
            self._close()

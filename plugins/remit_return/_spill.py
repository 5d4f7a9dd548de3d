"""Records on disk: appended to, and read from any record on.

For each record a header and the data, one after another, over blocks of `_disk`. Reads and writes
run in threads: a disk may be slow.
"""

from __future__ import annotations

import struct
import weakref
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import anyio.to_thread
import msgspec

import remit
from remit_return import _disk

# stream u8, whether the data is MessagePack of a value, seq u64, offset u64, time f64, size u32
_HEADER = struct.Struct(">B?QQdI")
_STREAMS: tuple[remit.Stream, ...] = ("stdout", "stderr", "records")
# One entry of the table of places for so many bytes.
_STRIDE: Final = 1 << 20
_READ_SIZE: Final = 1 << 18


class Cursor(NamedTuple):
    """The next record to read: its number, and where on disk it is, once that is known. Both
    change together."""

    number: int
    place: int | None = None


class _Room:
    """A row of bytes in blocks. What runs in threads holds this: an idle thread may remember for
    long what it did last, and the results are not to be kept by that."""

    def __init__(self, disk: _disk.Disk) -> None:
        self._disk = disk
        self._blocks: list[int] = []

    def give_back(self) -> None:
        self._disk.give(self._blocks)

    def put(self, data: bytes, place: int) -> bool:
        """False where there is no room."""
        view = memoryview(data)
        while view:
            index, at = divmod(place, _disk.BLOCK)
            part = view[: _disk.BLOCK - at]
            try:
                if index == len(self._blocks):
                    self._blocks.append(self._disk.take())
                self._disk.write(self._blocks[index], at, part)
            except OSError:
                return False
            view = view[len(part) :]
            place += len(part)
        return True

    def get(self, place: int, end: int) -> bytes:
        """Whole records: as many as `_READ_SIZE` holds, and at least one."""
        data = self._bytes(place, min(_READ_SIZE, end - place))
        if len(data) >= _HEADER.size:
            first = _HEADER.size + _HEADER.unpack_from(data)[-1]
            if first > len(data):
                data = self._bytes(place, first)
        return data

    def _bytes(self, place: int, size: int) -> bytes:
        parts = []
        while size:
            index, at = divmod(place, _disk.BLOCK)
            part = self._disk.read(self._blocks[index], at, min(size, _disk.BLOCK - at))
            if not part:
                break
            parts.append(part)
            place += len(part)
            size -= len(part)
        return b"".join(parts)


class Spill:
    """Records are numbered in the order in which they were written, from ``first`` on."""

    def __init__(self, first: int) -> None:
        self.first = first
        self._room = _Room(_disk.disk)
        # A session's results may be read after its end, for as long as their job's handle is kept.
        self._free = weakref.finalize(self, self._room.give_back)
        self._end = 0
        self._count = first
        self._job = ""
        self._location = ""
        # Every `_STRIDE` bytes: the number of a record, and where it begins.
        self._numbers = [first]
        self._places = [0]
        self._lock = anyio.Lock()
        # Of our own: an application whose threads are all busy does not hold up results.
        self._threads = anyio.CapacityLimiter(1)

    async def write(self, records: Sequence[remit.Record]) -> bool:
        """Appends whole records; False where the disk has no room for them. Then, and cancelled,
        none of them counts as written; once it is closed none is."""
        parts = []
        place = self._end
        numbers: list[int] = []
        places: list[int] = []
        for number, record in enumerate(records, self._count):
            if place - (places or self._places)[-1] >= _STRIDE:
                numbers.append(number)
                places.append(place)
            head, data = _packed(record)
            parts += [head, data]
            place += len(head) + len(data)
        self._job, self._location = records[0].job, records[0].location
        async with self._lock:
            if not self._free.alive:
                return True
            # No exception out of the thread: with its frames it would outlive the results.
            if not await self._run(self._room.put, b"".join(parts), self._end):
                return False
        self._end = place
        self._count += len(records)
        self._numbers += numbers
        self._places += places
        return True

    async def read(self, cursor: Cursor) -> tuple[deque[remit.Record], Cursor]:
        """Some records from ``cursor`` on (which must have been written), and where the next are.

        Raises JobStateError once it is closed, ResultError where the disk fails.
        """
        number, place = cursor
        if place is None:
            entry = bisect_right(self._numbers, number) - 1
            found, place = self._numbers[entry], self._places[entry]
        else:
            found = number
        records: deque[remit.Record] = deque()
        while not records:
            async with self._lock:  # `aclose` waits for it
                if not self._free.alive:
                    raise remit.JobStateError("the results were removed")
                try:
                    data = await self._run(self._room.get, place, self._end)
                except OSError as exc:
                    raise remit.ResultError(f"results on disk cannot be read: {exc}") from exc
            used = 0
            for record, end in self._parse(data):
                if found >= number:
                    records.append(record)
                found += 1
                used = end
            if not used:
                raise remit.LocalProtocolError(f"record {found} is not where it was put")
            place += used
        return records, Cursor(found, place)

    def close(self) -> None:
        """Gives its room back; where somebody is reading just now, when that is over."""
        if not self._lock.statistics().locked:
            self._free()

    async def aclose(self) -> None:
        """Gives the room back, once what writes or reads has ended."""
        async with self._lock:
            self._free()

    async def _run(self, function: Any, *args: Any) -> Any:
        return await anyio.to_thread.run_sync(function, *args, limiter=self._threads)

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


def _packed(record: remit.Record) -> tuple[bytes, bytes]:
    is_value = not isinstance(record.data, bytes)
    data = msgspec.msgpack.encode(record.data) if is_value else record.data
    head = _HEADER.pack(
        _STREAMS.index(record.stream),
        is_value,
        record.seq,
        record.offset,
        record.time.timestamp(),
        len(data),
    )
    return head, data

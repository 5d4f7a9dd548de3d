"""A job's link without a link: what a placement is given, in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import anyio
import attrs
from anyio.abc import TaskGroup

from remit._errors import JobStateError
from remit._link.messages import encode
from remit._types import LogRecord, Record, Stream
from remit._values import codec
from remit._wire import records
from remit.abc import Position, StoreReader

# What a target may send before the store is there to say: `remit.abc.Channel`.
_FIRST_CREDIT = 1 << 20
_TIME = datetime(2024, 2, 29, 12, tzinfo=UTC)


class FakeChannel:
    """A `remit.abc.Channel`. ``granted`` is how many bytes the target may send in all, by now.

    For placements that spool, ``spooled`` holds what lies on the target; `spool` puts a record
    there and `end_spool` says that no more comes.
    """

    def __init__(
        self, tasks: TaskGroup, *, full: str = "spill", buffer_limit: int = 1 << 20
    ) -> None:
        self.full = full
        self.buffer_limit = buffer_limit
        self.granted = min(buffer_limit, _FIRST_CREDIT)
        self.spooled: list[Record] = []
        self.running = 0  # tasks that `start_soon` was given and that have not ended
        self._used: dict[str, int] = {}
        self._tasks = tasks
        self._spool_ended = False
        self._changed = anyio.Event()
        self._consumer: _SpoolReader | None = None

    @property
    def size(self) -> Position:
        """Where the spooled records end, by stream."""
        return {record.stream: record.end for record in self.spooled}

    @property
    def used(self) -> Position:
        """What readers of the spool have marked as consumed, by stream."""
        return self._used

    def grant(self, size: int) -> None:
        """Adds ``size`` bytes to ``granted``."""
        self.granted += size

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """Runs ``function(*args)`` in the task group; ``running`` counts it until it ends. What it
        raises ends the group."""

        async def run() -> None:
            try:
                await function(*args)
            finally:
                self.running -= 1
                self._tell()

        self.running += 1
        self._tasks.start_soon(run)

    async def tasks_ended(self) -> None:
        """Waits until nothing runs any more that `start_soon` was given."""
        while self.running:
            await self._changed.wait()

    def open_reader(self, position: Position | None, *, follow: bool, consume: bool) -> StoreReader:
        """Reads ``spooled`` from ``position`` on. A consuming one takes over from the one before
        it."""
        start = dict(self._used if position is None else position)
        reader = _SpoolReader(self, start, follow)
        if consume:
            self._consumer = reader
            reader.consumes = True
            self._tell()
        return reader

    def spool(self, record: Record) -> None:
        """Puts a record where a target would spool it."""
        self.spooled.append(record)
        self._tell()

    def end_spool(self) -> None:
        """Readers that follow end after what is spooled by now."""
        self._spool_ended = True
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()


class _SpoolReader:
    def __init__(self, channel: FakeChannel, start: dict[str, int], follow: bool) -> None:
        self.consumes = False
        self._channel = channel
        self._position = start
        self._follow = follow
        self._next = 0
        self._closed = False

    async def next(self) -> Record | None:
        channel = self._channel
        while not self._closed:
            if self.consumes and channel._consumer is not self:
                raise JobStateError("another reader has taken over")
            while self._next < len(channel.spooled):
                record = after(channel.spooled[self._next], self._position)
                self._next += 1
                if record is not None:
                    return record
            if channel._spool_ended or not self._follow:
                break
            await channel._changed.wait()
        return None

    def used(self, record: Record) -> None:
        used = self._channel._used
        for earlier in self._channel.spooled:
            if earlier.seq <= record.seq:
                used[earlier.stream] = max(used.get(earlier.stream, 0), earlier.end)

    def close(self) -> None:
        self._closed = True
        self._channel._tell()


def after(record: Record, position: Position) -> Record | None:
    """The part of ``record`` that lies after ``position``; None where there is none."""
    start = position.get(record.stream, 0)
    if record.end <= start:
        return None
    if record.offset >= start:
        return record
    return _record(record.stream, record.data[start - record.offset :], start, record.seq)


class Producer:
    """Makes the records of one job, in order."""

    def __init__(self) -> None:
        self._ends: dict[str, int] = {}
        self._seq = 0
        self._numbers = {records.ITEM: 0, records.LOG: 0}

    def said(self, value: object) -> bytes:
        """One record of the stream ``records``: a value, or a `LogRecord`."""
        if isinstance(value, LogRecord):
            kind, body = records.LOG, encode(attrs.astuple(value))
        else:
            kind, body = records.ITEM, b"".join(codec.encode(value))
        number = self._numbers[kind]
        self._numbers[kind] += 1
        return records.HEAD.pack(kind, number, _TIME.timestamp(), len(body)) + body

    def record(self, stream: Stream, data: bytes) -> Record:
        """The next piece of ``stream``: it begins where the one before it ended."""
        made = _record(stream, data, self._ends.get(stream, 0), self._seq)
        self._ends[stream] = made.end
        self._seq += 1
        return made


def _record(stream: Stream, data: bytes, offset: int, seq: int) -> Record:
    return Record(stream, data, offset, seq, _TIME, "jaaaaaaaaaaaa", "testing")

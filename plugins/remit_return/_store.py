"""A store in memory that spills to disk, holds the job back, or drops the oldest: as was asked."""

from __future__ import annotations

import weakref
from collections import deque
from typing import Final

import anyio
import anyio.lowlevel

import remit
from remit.abc import Channel, Position
from remit_return._spill import Spill

# What a record weighs in memory beside its data.
_OVERHEAD: Final = 400
# Credit is granted in lots: a frame for each small record would cost more than the record.
_LOT: Final = 1 << 17


class MemoryStore:
    """The records of one job: `remit.abc.ResultStore`.

    Numbered from 0 in the order of arrival: first those that were spilled or let go, then those in
    memory. ``spill``: the oldest go to a temporary file once the limit is passed, and credit waits
    until they are there. ``block``: credit is granted as records are used up, which lets go of
    them. ``drop``: the oldest are let go, and a reader that misses some is given a Gap.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._limit = channel.buffer_limit
        self._memory: deque[remit.Record] = deque()
        self._weight = 0  # bytes of memory that the records in it take
        self._first = 0  # the number of the first record in memory
        self._owed = 0  # credit to grant
        self._lent = 0  # credit granted for records that are still held
        self._size: dict[str, int] = {}
        self._used: dict[str, int] = {}
        self._closed = False
        self._freed = False
        self._news = anyio.Event()
        self._consumer: weakref.ref[Reader] | None = None
        self._spill: Spill | None = None
        self._spilling = False

    # -- records come

    def append(self, record: remit.Record) -> None:
        self._memory.append(record)
        self._weight += _size(record) + _OVERHEAD
        self._size[record.stream] = record.end
        self._ring()
        if self._channel.full == "block":
            return
        self._owed += _size(record)
        if self._weight <= self._limit:
            self._grant(_LOT)
        elif self._channel.full == "drop":
            while self._weight > self._limit and len(self._memory) > 1:
                self._let_go()
            self._grant(_LOT)
        elif not self._spilling:
            self._spilling = True
            self._channel.start_soon(self._move_to_disk)

    async def _move_to_disk(self) -> None:
        """Moves the older records to the file until half of the limit is free."""
        try:
            if self._spill is None:
                self._spill = await Spill.create()
            while self._weight > self._limit // 2 and self._memory and not self._freed:
                # They stay in memory, for readers, until they are in the file.
                batch = []
                weight = 0
                for record in self._memory:
                    batch.append(record)
                    weight += _size(record) + _OVERHEAD
                    if weight > self._limit // 4:
                        break
                if not await self._spill.write(batch):
                    return
                for _ in batch:
                    self._let_go()
                self._grant(0)
        finally:
            self._spilling = False

    def _let_go(self) -> None:
        record = self._memory.popleft()
        self._weight -= _size(record) + _OVERHEAD
        self._first += 1

    def _grant(self, least: int) -> None:
        if self._owed and self._owed >= least and not self._closed:
            self._channel.grant(self._owed)
            self._owed = 0

    def close(self, outcome: remit.Outcome | None) -> None:
        self._closed = True
        self._ring()

    async def aclose(self) -> None:
        self.close(None)
        self._freed = True
        if self._spill is not None:
            await self._spill.aclose()

    # -- records go

    @property
    def size(self) -> Position:
        return self._size

    @property
    def used(self) -> Position:
        return self._used

    def read(self, position: Position | None, *, follow: bool, consume: bool) -> Reader:
        start = dict(self._used if position is None else position)
        reader = Reader(self, start, follow=follow, consume=consume)
        if consume:
            earlier = None if self._consumer is None else self._consumer()
            if earlier is not None:
                earlier.supersede()
            self._consumer = weakref.ref(reader)
            self._ring()
        return reader

    def mark_used(self, record: remit.Record) -> None:
        self._used[record.stream] = max(self._used.get(record.stream, 0), record.end)
        if self._channel.full == "block":
            while self._memory and self._memory[0].end <= self._used.get(self._memory[0].stream, 0):
                self._owed += _size(self._memory[0])
                self._let_go()
            paid = min(self._owed, self._lent)
            self._owed -= paid
            self._lent -= paid
            # All that may come at once may be as little as one lot.
            self._grant(0 if not self._memory else min(_LOT, self._limit // 2))

    def lend(self) -> None:
        """A reader has all there is and uses up none of it: what it gathers is larger than the
        limit. For it to end, more has to come."""
        if self._channel.full == "block" and not self._closed:
            held = sum(map(_size, self._memory))
            if held > self._lent:
                self._channel.grant(held - self._lent)
                self._lent = held

    def _ring(self) -> None:
        self._news.set()
        self._news = anyio.Event()


def _size(record: remit.Record) -> int:
    """Bytes of data; what comes as values is small or comes in pieces."""
    return len(record.data) if isinstance(record.data, bytes) else 0


class Reader:
    """One pass over a MemoryStore: `remit.abc.StoreReader`."""

    def __init__(
        self, store: MemoryStore, start: dict[str, int], *, follow: bool, consume: bool
    ) -> None:
        self._store = store
        self._at = start  # what lies before the next record, by stream
        self._number = 0  # of the next record to look at
        self._follow = follow
        self._consume = consume
        self._superseded = False
        self._ahead: deque[remit.Record] = deque()  # read from the file, not yet given out
        self._place: int | None = None  # where in the file the next records are

    def supersede(self) -> None:
        self._superseded = True

    async def next(self) -> remit.Record | None:
        store = self._store
        while True:
            if self._superseded:
                raise remit.JobStateError(
                    "another reader has taken over the results",
                    hint="receive(keep=True) reads along without using anything up",
                )
            record = self._look()
            if record is not None:
                await anyio.lowlevel.checkpoint_if_cancelled()
                return self._give(record)
            if store._spill is not None and self._number < store._first:
                self._ahead, self._number, self._place = await store._spill.read(
                    self._number, self._place
                )
            elif store._closed or not self._follow:
                return None
            else:
                if self._consume:
                    store.lend()
                await store._news.wait()

    def used(self, record: remit.Record) -> None:
        if self._consume and not self._superseded:
            self._store.mark_used(record)

    def close(self) -> None:
        self._ahead.clear()

    def _look(self) -> remit.Record | None:
        """The next record that is not wholly before the position, if it is in memory."""
        store = self._store
        while self._ahead:
            if self._ahead[0].end > self._at.get(self._ahead[0].stream, 0):
                return self._ahead[0]
            self._ahead.popleft()
        if store._spill is None:
            self._number = max(self._number, store._first)
        while self._number >= store._first:
            index = self._number - store._first
            if index >= len(store._memory):
                return None
            record = store._memory[index]
            if record.end > self._at.get(record.stream, 0):
                return record
            self._number += 1
        return None

    def _give(self, record: remit.Record) -> remit.Record:
        at = self._at.get(record.stream, 0)
        if record.offset > at:
            gap = remit.Gap(record.offset - at)
            self._at[record.stream] = record.offset
            return remit.Record(
                record.stream, gap, at, record.seq, record.time, record.job, record.location
            )
        if self._ahead:
            self._ahead.popleft()
        else:
            self._number += 1
        self._at[record.stream] = record.end
        if record.offset == at:
            return record
        return remit.Record(
            record.stream,
            record.data[at - record.offset :],
            at,
            record.seq,
            record.time,
            record.job,
            record.location,
        )

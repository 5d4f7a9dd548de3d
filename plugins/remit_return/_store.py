"""A store in memory that spills to disk, holds the job back, or drops the oldest: as was asked."""

from __future__ import annotations

import weakref
from collections import deque
from typing import Final

import anyio
import anyio.lowlevel
import attrs

import remit
from remit.abc import Channel, Position
from remit_return._spill import Cursor, Spill

# What a record weighs in memory beside its data.
_OVERHEAD: Final = 400
# Credit is granted in lots: a frame for each small record would cost more than the record.
_LOT: Final = 1 << 17
# What the target may send before the store says more: `remit.abc.Channel`.
_FIRST_CREDIT: Final = 1 << 20
# Under a smaller limit as much is on its way all the same, where the job is not to be held back.
_LEAST_CREDIT: Final = 1 << 17
# Seconds until a disk that was full is tried again.
_TRY_AGAIN: Final = 1.0


class _Memory:
    """The records in memory. They are numbered from 0 in the order of arrival, and begin with
    ``first``: those before it are on disk or were let go."""

    def __init__(self) -> None:
        self.records: deque[remit.Record] = deque()
        self.held = 0  # bytes of their data
        self.first = 0
        self.gone: dict[str, remit.Record] = {}  # by stream: up to the end of this it was let go

    def add(self, record: remit.Record) -> None:
        self.records.append(record)
        self.held += _size(record)

    @property
    def weight(self) -> int:
        """Bytes of memory that they take."""
        return self.held + _OVERHEAD * len(self.records)

    def over(self, limit: int) -> int:
        """Bytes of data over the limit, or over twice as much with what they weigh beside."""
        return max(self.held - limit, self.weight - _OVERHEAD - 2 * limit)

    def oldest(self, most: int) -> list[remit.Record]:
        """The first ones, of about that weight."""
        batch = []
        weight = 0
        for record in self.records:
            batch.append(record)
            weight += _size(record) + _OVERHEAD
            if weight > most:
                break
        return batch

    def forget(self) -> remit.Record:
        """Takes the oldest one out."""
        self.held -= self._left_of(self.records[0])
        self.first += 1
        return self.records.popleft()

    def let_go(self) -> None:
        """Of the oldest one, for good."""
        record = self.forget()
        self.gone[record.stream] = _cut(record, record.offset, record.end)

    def drop(self, limit: int) -> None:
        """Lets go of the oldest bytes over the limit; of what a function said whole records."""
        while (over := self.over(limit)) > 0:
            oldest = self.records[0]
            left = self._left_of(oldest)
            if oldest.stream != "records" and over < left:
                # The record itself stays: to cut it anew at each append would cost a copy of it.
                end = oldest.end - left + over
                self.gone[oldest.stream] = _cut(oldest, oldest.offset, end)
                self.held -= over
                return
            if len(self.records) == 1:
                return
            self.let_go()

    def _left_of(self, oldest: remit.Record) -> int:
        gone = self.gone.get(oldest.stream)
        cut = 0 if gone is None else max(0, gone.end - oldest.offset)
        return max(0, _size(oldest) - cut)

    def clear(self) -> None:
        self.first += len(self.records)
        self.records.clear()
        self.held = 0


class MemoryStore:
    """The records of one job: `remit.abc.ResultStore`.

    ``spill``: the oldest go to disk once the limit is passed, and credit waits until they are
    there. ``block``: credit is granted as records are used up, which lets go of them. ``drop``: the
    oldest bytes are let go, and a reader that misses some is given a Gap.

    Where the disk has no room, or there is no descriptor for it, ``spill`` does as ``block`` until
    there is.
    """

    # Who has a handle of the job reads it after its session, too.
    outlives_session: Final = True

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._limit = channel.buffer_limit
        self.memory = _Memory()
        self._owed = 0  # bytes that came and were not granted again
        self._size: dict[str, int] = {}
        self._used: dict[str, int] = {}
        self._closed = False
        self._freed = False
        self._news = anyio.Event()
        self._consumer: weakref.ref[Reader] | None = None
        self._spill: Spill | None = None
        self._spilling = False
        self._stuck = False  # a disk without room is waited for
        self._window = min(self._limit, _FIRST_CREDIT)
        if channel.full == "drop":
            self._widen()

    # -- records come

    def _widen(self) -> None:
        """With a window as small as a small limit, each few bytes would take a round trip."""
        if self._window < _LEAST_CREDIT and not self._closed:
            self._channel.grant(_LEAST_CREDIT - self._window)
            self._window = _LEAST_CREDIT

    def append(self, record: remit.Record) -> None:
        """Takes a record, and moves or drops older ones as ``full`` asks."""
        if record.end == record.offset:
            return
        self.memory.add(record)
        self._owed += _size(record)
        self._size[record.stream] = record.end
        self._ring()
        if self._channel.full == "drop":
            self.memory.drop(self._limit)
        elif (
            self._channel.full == "spill"
            and self.memory.weight > self._limit
            and not self._spilling
        ):
            self._spilling = True
            self._channel.start_soon(self._move_to_disk)
        self._grant()

    async def _move_to_disk(self) -> None:
        """Moves the older records to disk until half of the limit is free."""
        try:
            while self.memory.weight > self._limit // 2 and self.memory.records and not self._freed:
                self._stuck = not await self._move(self.memory.oldest(self._limit // 4))
                if self._stuck:
                    self._let_go_of_used()
                    self._ring()  # a reader that gathers may lend
                    await anyio.sleep(_TRY_AGAIN)
        finally:
            self._spilling = self._stuck = False

    async def _move(self, batch: list[remit.Record]) -> bool:
        """False where the disk has no room for them."""
        self._stuck = False
        if self._spill is None:
            self._spill = Spill(self.memory.first)
        # They stay in memory, for readers, until they are on disk.
        if not await self._spill.write(batch):
            return False
        if not self._freed:
            for _ in batch:
                self.memory.forget()
            self._widen()
            self._grant()
        return True

    def _let_go_of_used(self) -> None:
        """Of records in memory that are used up, and of what is older than they."""
        used = self._used
        records = self.memory.records
        while records and records[0].end <= used.get(records[0].stream, 0):
            self.memory.let_go()
            if self._spill is not None:
                self._spill.close()
                self._spill = None

    @property
    def begin(self) -> int:
        """The number of the first record that is still here."""
        return self.memory.first if self._spill is None else self._spill.first

    def _grant(self) -> None:
        due = self._owed
        if self._channel.full == "block":
            due -= self.memory.held
        elif self._channel.full == "spill" and self.memory.weight > self._limit:
            return
        # All that may come at once may be as little as one lot.
        if due >= min(_LOT, max(1, self._window // 2)):
            self._grant_now(due)

    def _grant_now(self, size: int) -> None:
        if not self._closed:
            self._owed -= size
            self._channel.grant(size)

    def close(self, outcome: remit.Outcome | None) -> None:
        """Nothing more comes; readers end after what there is. What is stored stays."""
        self._closed = True
        self._ring()

    async def aclose(self) -> None:
        """Frees what is stored, on disk too. Readers get JobStateError."""
        self.close(None)
        self._freed = True
        self.memory.clear()
        if self._spill is not None:
            await self._spill.aclose()

    # -- records go

    @property
    def size(self) -> Position:
        """Bytes that came, by stream."""
        return self._size

    @property
    def used(self) -> Position:
        """Bytes that are consumed, by stream."""
        return self._used

    def read(self, position: Position | None, *, follow: bool, consume: bool) -> Reader:
        """A pass from ``position`` on; see `remit.abc.ResultStore.read`."""
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
        """Consumes up to the end of ``record``, and frees it where room is short."""
        self._used[record.stream] = max(self._used.get(record.stream, 0), record.end)
        if self._channel.full == "block" or self._stuck:
            self._let_go_of_used()
            self._grant()

    def lend(self) -> None:
        """A reader has all there is and uses up none of it: what it gathers is larger than the
        limit. For it to end, more has to come."""
        if self._owed and (self._channel.full == "block" or self._stuck):
            self._grant_now(self._owed)

    def missing(self, at: Position) -> remit.Record | None:
        """Of a stream whose records after ``at`` were let go, a Gap for those.

        Raises JobStateError where they were let go because somebody had used them up.
        """
        for stream, gone in self.memory.gone.items():
            begin = at.get(stream, 0)
            if begin >= gone.end:
                continue
            if self._channel.full != "drop":
                raise remit.JobStateError(
                    f"{gone.end - begin} bytes of {stream} were used up and are no longer held",
                    hint="full='spill' keeps them, as long as there is room for temporary files",
                )
            return attrs.evolve(gone, data=remit.Gap(gone.end - begin), offset=begin)
        return None

    def _ring(self) -> None:
        self._news.set()
        self._news = anyio.Event()


def _size(record: remit.Record) -> int:
    """Bytes of data; what comes as values is small or comes in pieces."""
    return len(record.data) if isinstance(record.data, bytes) else 0


def _cut(record: remit.Record, begin: int, end: int) -> remit.Record:
    """A Gap from ``begin`` to ``end``, of the time of ``record``."""
    return attrs.evolve(record, data=remit.Gap(end - begin), offset=begin)


class Reader:
    """One pass over a MemoryStore: `remit.abc.StoreReader`."""

    def __init__(
        self, store: MemoryStore, start: dict[str, int], *, follow: bool, consume: bool
    ) -> None:
        self._store = store
        self._at = start  # what lies before the next record, by stream
        self._cursor = Cursor(0)  # of the next record to look at, after those in `_ahead`
        self._follow = follow
        self._consume = consume
        self._superseded = False
        self._ahead: deque[remit.Record] = deque()  # read from disk, not yet given out

    def supersede(self) -> None:
        """Its next step raises JobStateError: another consuming reader took over."""
        self._superseded = True

    async def next(self) -> remit.Record | None:
        """The next record or Gap; see `remit.abc.StoreReader.next`."""
        store = self._store
        while True:
            self._check()
            await anyio.lowlevel.checkpoint_if_cancelled()
            record = self._take()
            if record is not None:
                return record
            if self._cursor.number < store.memory.first:
                assert store._spill is not None  # else all before `_first` was let go
                self._ahead, self._cursor = await store._spill.read(self._cursor)
            elif store._closed or not self._follow:
                return None
            else:
                if self._consume:
                    store.lend()
                await store._news.wait()

    def used(self, record: remit.Record) -> None:
        """Consumes up to the end of ``record``, unless another reader took over."""
        if self._consume and not self._superseded:
            self._store.mark_used(record)

    def close(self) -> None:
        """Lets go of what was read ahead."""
        self._ahead.clear()

    def _check(self) -> None:
        if self._superseded:
            raise remit.JobStateError(
                "another reader has taken over the results",
                hint="receive(keep=True) reads along without using anything up",
            )
        if self._store._freed and any(
            size > self._at.get(stream, 0) for stream, size in self._store._size.items()
        ):
            raise remit.JobStateError("the results were removed")

    def _take(self) -> remit.Record | None:
        """The next record after the position, if it is in memory."""
        while True:
            if not self._ahead:
                gap = self._store.missing(self._at)
                if gap is not None:
                    self._at[gap.stream] = gap.end
                    return gap
            record = self._step()
            if record is None:
                return None
            at = self._at.get(record.stream, 0)
            if record.offset > at:
                raise remit.LocalProtocolError(
                    f"{record.stream} of job {record.job} goes on at {record.offset} and not {at}"
                )
            if record.end <= at:
                continue
            self._at[record.stream] = record.end
            if record.offset == at:
                return record
            return attrs.evolve(record, data=record.data[at - record.offset :], offset=at)

    def _step(self) -> remit.Record | None:
        if self._ahead:
            return self._ahead.popleft()
        store = self._store
        number = max(self._cursor.number, store.begin)
        if number > self._cursor.number:
            self._cursor = Cursor(number)
        index = number - store.memory.first
        if not 0 <= index < len(store.memory.records):
            return None
        self._cursor = Cursor(number + 1)
        return store.memory.records[index]

"""Results in an SQLite database: ``session.start(…, placement="sqlite-like")``.

``REMIT_SQLITE`` names the file. Table ``output`` holds the pieces of stdout, stderr and records;
``said`` what functions said, as JSON, for programs that know nothing of remit.
"""

import json
import os
import sqlite3
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime

import anyio
import anyio.to_thread
import attrs

import remit
from remit.abc import RecordDecoder

TABLES = """
CREATE TABLE IF NOT EXISTS output (
    job TEXT, seq INTEGER, stream TEXT, offset INTEGER, time REAL, data BLOB,
    PRIMARY KEY (job, seq, offset)
);
CREATE TABLE IF NOT EXISTS said (
    job TEXT, offset INTEGER, kind TEXT, number INTEGER, time REAL, data TEXT,
    PRIMARY KEY (job, offset)
);
CREATE TABLE IF NOT EXISTS ended (job TEXT PRIMARY KEY, exit_status INTEGER, reason TEXT);
"""


class Database:
    """The rows of one job. To be called in threads; each call has a connection of its own."""

    def __init__(self, path: str, job: str) -> None:
        self._path = path
        self._job = job

    def connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=30)
        connection.executescript(TABLES)
        return connection

    def write(self, records: list[remit.Record], said: list[tuple[object, ...]]) -> None:
        rows = [(self._job, r.seq, r.stream, r.offset, r.time.timestamp(), r.data) for r in records]
        connection = self.connect()
        with connection:
            connection.executemany("INSERT INTO output VALUES (?, ?, ?, ?, ?, ?)", rows)
            connection.executemany("INSERT INTO said VALUES (?, ?, ?, ?, ?, ?)", said)
        connection.close()

    def end(self, outcome: remit.Outcome) -> None:
        connection = self.connect()
        with connection:
            row = (self._job, outcome.exit_status, outcome.reason)
            connection.execute("INSERT OR REPLACE INTO ended VALUES (?, ?, ?)", row)
        connection.close()

    def after(self, seq: int, offset: int) -> list[tuple[int, str, int, float, bytes]]:
        """Some rows after that one, in order."""
        connection = self.connect()
        rows = connection.execute(
            "SELECT seq, stream, offset, time, data FROM output"
            " WHERE job = ? AND (seq, offset) > (?, ?) ORDER BY seq, offset LIMIT 64",
            (self._job, seq, offset),
        ).fetchall()
        connection.close()
        return rows


class Store:
    """What came is in memory until it is written, by a task that ends when all of it is."""

    def __init__(self, job: remit.JobInfo, channel: remit.Channel, path: str) -> None:
        self.job = job
        self.database = Database(path, job.id)
        self.unwritten: deque[remit.Record] = deque()
        self.closed = False
        self.changed = anyio.Event()
        self.consumer: Reader | None = None
        self._channel = channel
        self._size: dict[str, int] = {}
        self._used: dict[str, int] = {}
        self._outcome: remit.Outcome | None = None
        self._decoder: RecordDecoder | None = RecordDecoder()
        self._writing = False

    @property
    def size(self) -> Mapping[str, int]:
        return self._size

    @property
    def used(self) -> Mapping[str, int]:
        return self._used

    def append(self, record: remit.Record) -> None:
        self.unwritten.append(record)
        self._size[record.stream] = record.end
        self._write_soon()
        self.notify()

    def close(self, outcome: remit.Outcome | None) -> None:
        if not self.closed:
            self.closed = True
            self._outcome = outcome
            self._write_soon()
            self.notify()

    async def aclose(self) -> None:
        self.closed = True
        self.notify()

    def read(self, position: Mapping[str, int] | None, *, follow: bool, consume: bool) -> "Reader":
        start = dict(self._used if position is None else position)
        reader = Reader(self, start, follow=follow, consume=consume)
        if consume:
            self.consumer = reader
            self.notify()
        return reader

    def mark(self, record: remit.Record) -> None:
        before = self._used.get(record.stream, 0)
        if record.end > before:
            self._used[record.stream] = record.end
            if self._channel.full == "block":
                self._channel.grant(record.end - before)

    def notify(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()

    def _write_soon(self) -> None:
        if not self._writing:
            self._writing = True
            self._channel.start_soon(self._write)

    async def _write(self) -> None:
        try:
            while self.unwritten:
                batch = list(self.unwritten)
                said = [row for record in batch for row in self._said(record)]
                await anyio.to_thread.run_sync(self.database.write, batch, said)
                for _ in batch:
                    self.unwritten.popleft()
                if self._channel.full != "block" and not self.closed:
                    self._channel.grant(sum(len(record.data) for record in batch))
            if self._outcome is not None:
                await anyio.to_thread.run_sync(self.database.end, self._outcome)
        finally:
            self._writing = False

    def _said(self, record: remit.Record) -> list[tuple[object, ...]]:
        if record.stream != "records":
            return []
        if self._decoder is None:
            self._decoder = RecordDecoder(record.offset)
        rows: list[tuple[object, ...]] = []
        for one in self._decoder.feed(record.data):
            try:
                data = json.dumps(one.data, default=attrs.asdict)
            except (remit.ResultError, TypeError, ValueError):
                data = None  # no JSON; the bytes are in `output` all the same
            row = (self.job.id, one.offset, one.kind, one.number, one.time.timestamp(), data)
            rows.append(row)
        return rows


class Reader:
    def __init__(self, store: Store, start: dict[str, int], *, follow: bool, consume: bool) -> None:
        self._store = store
        self._at = start
        self._follow = follow
        self._consume = consume
        self._row = (-1, -1)  # the sequence number and the offset of the last one looked at
        self._ahead: deque[remit.Record] = deque()

    async def next(self) -> remit.Record | None:
        store = self._store
        while True:
            if self._consume and store.consumer is not self:
                raise remit.JobStateError("another reader has taken over the results")
            changed, closed = store.changed, store.closed
            waiting = list(store.unwritten)
            if not self._ahead:
                rows = await anyio.to_thread.run_sync(store.database.after, *self._row)
                self._ahead.extend(map(self._record, rows))
                if not rows:
                    self._ahead.extend(r for r in waiting if (r.seq, r.offset) > self._row)
            while self._ahead:
                record = self._ahead.popleft()
                self._row = (record.seq, record.offset)
                at = self._at.get(record.stream, 0)
                if record.end > at:
                    self._at[record.stream] = record.end
                    skipped = max(0, at - record.offset)
                    return attrs.evolve(
                        record, data=record.data[skipped:], offset=record.offset + skipped
                    )
            if not rows and not waiting and (closed or not self._follow):
                return None
            if not rows and not waiting:
                await changed.wait()

    def _record(self, row: tuple[int, str, int, float, bytes]) -> remit.Record:
        seq, stream, offset, time, data = row
        when = datetime.fromtimestamp(time, UTC)
        job = self._store.job
        return remit.Record(stream, data, offset, seq, when, job.id, job.location)  # type: ignore[arg-type]

    def used(self, record: remit.Record) -> None:
        if self._consume and self._store.consumer is self:
            self._store.mark(record)

    def close(self) -> None:
        self._ahead.clear()


@attrs.frozen
class SqliteLike:
    name: str = "sqlite-like"
    api: int = 1
    spools: bool = False

    def open_store(self, job: remit.JobInfo, channel: remit.Channel) -> Store:
        return Store(job, channel, os.environ["REMIT_SQLITE"])


@remit.hookimpl
def remit_placements() -> list[remit.Placement]:
    return [SqliteLike()]

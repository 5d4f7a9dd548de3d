"""What `result` gathers of a job that waits for its reader: used up in the store, and not for
users before they have it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import remit
from remit._jobs.stores import Reader, Store, Stores
from remit.testing import FakeChannel
from remit_return import Return

TIME = datetime(2024, 2, 29, 12, tzinfo=UTC)
INFO = remit.JobInfo(
    "jaaaaaaaaaaaa", None, remit.JobState.RUNNING, "here", ("true",), "return", "session", True
)

moves = st.one_of(
    st.tuples(st.just("append"), st.sampled_from(["stdout", "stderr"]), st.integers(1, 50)),
    st.tuples(st.just("gather"), st.integers(0, 5)),
    st.tuples(st.just("gather all")),
    st.tuples(st.just("read"), st.integers(0, 5), st.booleans()),
    st.tuples(st.just("along"), st.integers(0, 5)),
    st.tuples(st.just("from"), st.floats(0, 1), st.integers(0, 5)),
)


class Walk:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.sent = {"stdout": 0, "stderr": 0}
        self.used = {"stdout": 0, "stderr": 0}  # as users see it
        self.seq = 0

    def append(self, stream: Any, size: int) -> None:
        begin = self.sent[stream]
        data = bytes(at % 251 for at in range(begin, begin + size))
        self.store.append(remit.Record(stream, data, begin, self.seq, TIME, "j", "here"))
        self.sent[stream] += size
        self.seq += 1

    async def step(self, reader: Reader, at: dict[str, int]) -> remit.Record | None:
        record = await reader.next()
        if record is not None:
            assert record.offset == at[record.stream]
            assert record.data == bytes(n % 251 for n in range(record.offset, record.end))
            at[record.stream] = record.end
        return record

    async def gather(self, most: int) -> None:
        """As a `result` that is cancelled."""
        reader, at = self.store.read(None, follow=False, consume=True), dict(self.used)
        for _ in range(most):
            if (record := await self.step(reader, at)) is None:
                return
            reader.take(record)

    async def gather_all(self) -> None:
        reader, at = self.store.read(None, follow=False, consume=True), dict(self.used)
        last: dict[str, remit.Record] = {}
        while (record := await self.step(reader, at)) is not None:
            last[record.stream] = record
            reader.take(record)
        for record in last.values():
            reader.used(record)
        self.used = dict(self.sent)

    async def read(self, most: int, in_part: bool) -> None:
        reader, at = self.store.read(None, follow=False, consume=True), dict(self.used)
        for _ in range(most):
            if (record := await self.step(reader, at)) is None:
                return
            if in_part:  # as of a record of a function, which may end anywhere in a piece
                end = record.offset + (record.end - record.offset + 1) // 2
                part = remit.Record(record.stream, b"", end, record.seq, TIME, "j", "here")
                reader.used(part)
                self.used[record.stream] = end
                return
            reader.used(record)
            self.used[record.stream] = record.end

    async def along(self, start: dict[str, int] | None, most: int) -> None:
        at = dict(self.used if start is None else start)
        reader = self.store.read(start, follow=False, consume=False)
        for _ in range(most):
            try:
                if await self.step(reader, at) is None:
                    assert at == self.sent
                    return
            except remit.JobStateError:
                # Only what users have used up may be gone.
                assert start is not None
                assert any(start[stream] < self.used[stream] for stream in start)
                return

    async def move(self, what: str, *how: Any) -> None:
        match what:
            case "append":
                self.append(*how)
            case "gather":
                await self.gather(*how)
            case "gather all":
                await self.gather_all()
            case "read":
                await self.read(*how)
            case "along":
                await self.along(None, *how)
            case "from":
                start = {stream: int(size * how[0]) for stream, size in self.sent.items()}
                await self.along(start, how[1])
        used = {stream: self.store.used.get(stream, 0) for stream in self.used}
        assert used == self.used


async def walk(full: str, script: list[Any]) -> None:
    async with anyio.create_task_group() as tasks:
        channel = FakeChannel(tasks, full=full, buffer_limit=1 << 20)
        store = Store(Stores(), "testing", _fail, takes=True, ours=False)
        store.open(Return(), INFO, channel)
        it = Walk(store)
        for what, *how in script:
            await it.move(what, *how)
        await it.move("along", 1000)
        await it.move("read", 1000, False)
        assert it.used == it.sent
        tasks.cancel_scope.cancel()


def _fail(exc: Exception) -> None:
    raise exc


@pytest.mark.parametrize("full", ["block", "spill"])
@settings(max_examples=150, deadline=None)
@given(script=st.lists(moves, max_size=40))
def test_what_was_taken_comes_to_the_next_reader_once(full: str, script: list[Any]) -> None:
    anyio.run(walk, full, script)

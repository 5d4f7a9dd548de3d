"""The store of return jobs, against a model: whatever happens in whatever order, every reader is
given each byte once, in order, or a Gap where the job was asked to drop."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import remit
from remit.testing import FakeChannel
from remit_return import _disk, _spill, _store
from remit_return._store import MemoryStore

TIME = datetime(2024, 2, 29, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that few bytes take many blocks, reads and places."""
    monkeypatch.setattr(_disk, "BLOCK", 64)
    monkeypatch.setattr(_disk, "disk", _disk.Disk())
    monkeypatch.setattr(_spill, "_STRIDE", 150)
    monkeypatch.setattr(_spill, "_READ_SIZE", 100)
    monkeypatch.setattr(_store, "_TRY_AGAIN", 0.001)


def content(stream: str, begin: int, end: int) -> bytes:
    """What a stream holds from one byte to another: no two places look alike."""
    salt = len(stream)
    return bytes((at * 7 + at // 256 + salt) % 256 for at in range(begin, end))


class Along:
    """A reader, and what it has been given so far."""

    def __init__(self, store: MemoryStore, *, consume: bool, from_start: bool) -> None:
        start = {} if from_start else dict(store.used)
        self.at = dict(start)
        self.reader = store.read({} if from_start else None, follow=False, consume=consume)
        self.last: remit.Record | None = None


class Walk:
    """One store, the job that fills it, and those who read it."""

    def __init__(self, channel: FakeChannel) -> None:
        self.channel = channel
        self.store = MemoryStore(channel)
        self.sent = {"stdout": 0, "stderr": 0, "records": 0}
        self.seq = 0
        self.consumer = Along(self.store, consume=True, from_start=False)
        self.others: list[Along] = []

    @property
    def credit(self) -> int:
        return self.channel.granted - sum(self.sent.values())

    def append(self, stream: Any, size: int) -> None:
        size = min(size, self.credit)
        begin = self.sent[stream]
        self.sent[stream] += size
        data = content(stream, begin, begin + size)
        self.store.append(remit.Record(stream, data, begin, self.seq, TIME, "j", "here"))
        self.seq += 1

    async def settle(self) -> None:
        while self.store._spilling and not self.store._stuck:
            await anyio.sleep(0.0002)

    async def step(self, who: Along) -> bool:
        """Whether it was given something; what it is given is checked."""
        record = await who.reader.next()
        if record is None:
            return False
        at = who.at.get(record.stream, 0)
        assert record.offset == at
        who.at[record.stream] = record.end
        who.last = record
        if isinstance(record.data, remit.Gap):
            assert self.channel.full == "drop"
            assert record.data.size > 0
        else:
            assert record.data == content(record.stream, at, record.end)
            assert record.data
        return True

    async def read(self, who: Along, most: int) -> None:
        for _ in range(most):
            if who.last is not None and who is self.consumer:
                who.reader.used(who.last)
            if not await self.step(who):
                return

    def let_go(self, at: dict[str, int]) -> bool:
        """Whether something after ``at`` was used up and may have been let go."""
        return any(at.get(stream, 0) < used for stream, used in self.store.used.items())

    async def end(self) -> None:
        """All that was sent comes to all who read, as far as it is to be had."""
        self.store.close(remit.Outcome())
        for who in [*self.others, self.consumer]:
            expected = {stream: size for stream, size in self.sent.items() if size}
            try:
                await self.read(who, 10_000)
            except remit.JobStateError:
                assert self.channel.full == "block" or self.store.memory.gone
                assert self.let_go(who.at)
            else:
                assert {stream: at for stream, at in who.at.items() if at} == expected
        assert dict(self.store.used) == {s: n for s, n in self.sent.items() if n}
        assert self.store.memory.held == sum(
            map(self.store.memory._left_of, self.store.memory.records)
        )


class Full(_disk.Disk):
    """A disk that can be full."""

    full = False

    def write(self, block: int, at: int, data: memoryview) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(block, at, data)


moves = st.one_of(
    st.tuples(
        st.just("append"),
        st.sampled_from(["stdout", "stdout", "stderr", "records"]),
        st.integers(0, 700),
    ),
    st.tuples(st.just("read"), st.integers(1, 6)),
    st.tuples(st.just("settle")),
    st.tuples(st.just("leave")),
    st.tuples(st.just("open"), st.booleans()),
    st.tuples(st.just("along"), st.integers(0, 3), st.integers(1, 6)),
    st.tuples(st.just("disk full"), st.booleans()),
)


async def walk(full: str, limit: int, script: list[Any]) -> None:
    disk = Full()
    _disk.disk = disk
    async with anyio.create_task_group() as tasks:
        it = Walk(FakeChannel(tasks, full=full, buffer_limit=limit))
        for move in script:
            match move:
                case ("append", stream, size):
                    it.append(stream, size)
                case ("read", most):
                    await it.read(it.consumer, most)
                case ("settle",):
                    await it.settle()
                case ("leave",):
                    it.consumer = Along(it.store, consume=True, from_start=False)
                case ("open", from_start):
                    it.others.append(Along(it.store, consume=False, from_start=from_start))
                case ("along", index, most):
                    if index < len(it.others):
                        try:
                            await it.read(it.others[index], most)
                        except remit.JobStateError:
                            assert full == "block" or it.store.memory.gone
                            assert it.let_go(it.others.pop(index).at)
                case ("disk full", now):
                    disk.full = now
        await it.end()
        await it.store.aclose()
        tasks.cancel_scope.cancel()
    del it
    assert disk._count == len(disk._free) == 0


@pytest.mark.parametrize(
    ("full", "backend"),
    [("spill", "asyncio"), ("spill", "trio"), ("block", "trio"), ("drop", "asyncio")],
)
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(limit=st.sampled_from([1, 300, 3000]), script=st.lists(moves, max_size=60))
def test_every_reader_is_given_each_byte_once(
    full: str, backend: str, limit: int, script: list[Any]
) -> None:
    anyio.run(walk, full, limit, script, backend=backend)

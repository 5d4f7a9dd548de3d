"""What every placement's stores promise, a test each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from remit._errors import JobStateError
from remit._types import Gap, JobInfo, JobState, LogRecord, Outcome, Record, Stream
from remit.abc import (
    API,
    Placement,
    Position,
    ResultStore,
)
from remit.testing._channel import FakeChannel, Producer
from remit.testing._records import decoded, read_all, read_into, streams

# Seconds for what takes milliseconds on a machine with nothing else to do.
_LIMIT = 30.0
_BUFFER = 1 << 16
_SUCCESS = Outcome(exit_status=0, reason="exited")


class PlacementConformance:
    """Subclass it with one fixture, ``placement``. Runs on asyncio and trio."""

    pytestmark = pytest.mark.anyio

    def test_it_is_a_placement_of_this_api(self, placement: Placement) -> None:
        """It has what `remit.abc.Placement` asks for, and says this ``api``."""
        assert isinstance(placement, Placement)
        assert placement.api == API
        assert placement.name
        assert isinstance(placement.spools, bool)

    # -- reading

    async def test_records_come_in_the_order_they_were_produced(self, placement: Placement) -> None:
        """The order holds across streams."""
        async with _opened(placement) as job:
            sent = [
                job.produce("stdout", b"one"),
                job.produce("stderr", b"two"),
                job.produce("stdout", b"three"),
                *job.say({"four": 4}),
            ]
            job.end()
            got = await read_all(job.store.read(None, follow=False, consume=True))
        assert streams(got) == streams(sent)
        # Where pieces are cut is no promise; the order across streams is.
        assert [record.stream for record in got] == [record.stream for record in sent]

    async def test_without_follow_a_reader_ends_with_what_there_is(
        self, placement: Placement
    ) -> None:
        """Such a reader gives None while the job still runs."""
        async with _opened(placement) as job:
            assert await job.store.read(None, follow=False, consume=False).next() is None
            job.produce("stdout", b"now")
            got = await read_all(job.store.read(None, follow=False, consume=False))
        assert streams(got) == {"stdout": b"now"}

    async def test_a_following_reader_waits_and_ends_with_the_job(
        self, placement: Placement
    ) -> None:
        """It waits for records, and gives None once the store is closed."""
        async with _opened(placement) as job:
            got: list[Record] = []
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read_into, got, job.store.read(None, follow=True, consume=True))
                await anyio.wait_all_tasks_blocked()
                assert got == []
                job.produce("stdout", b"early ")
                while not got:
                    await _moment()
                assert streams(got) == {"stdout": b"early "}
                job.produce("stdout", b"late")
                job.end()
        assert streams(got) == {"stdout": b"early late"}

    async def test_any_number_may_read_along(self, placement: Placement) -> None:
        """Each of several readers that do not consume gets everything."""
        async with _opened(placement) as job:
            consuming = job.store.read(None, follow=False, consume=True)
            along = [job.store.read(None, follow=False, consume=False) for _ in range(3)]
            job.produce("stdout", b"for all")
            job.end()
            for reader in [*along, consuming]:
                assert streams(await read_all(reader)) == {"stdout": b"for all"}

    async def test_a_reader_starts_where_it_is_told(self, placement: Placement) -> None:
        """A position in the middle of a record gives the rest of that record."""
        async with _opened(placement) as job:
            job.produce("stdout", b"0123")
            job.produce("stderr", b"abc")
            job.produce("stdout", b"4567")
            first, second = job.say("first"), job.say("second")
            job.end()
            start = {"stdout": 3, "records": first[-1].end}
            got = await read_all(job.store.read(start, follow=True, consume=False))
        expected = {"stdout": b"34567", "stderr": b"abc", "records": second[0].data}
        assert streams(got) == expected
        assert {record.offset for record in got if record.stream == "stdout"} >= {3}

    async def test_a_cancelled_next_loses_nothing(self, placement: Placement) -> None:
        """The record comes at the next call, also where it arrived together with the cancel."""
        async with _opened(placement) as job:
            reader = job.store.read(None, follow=True, consume=True)
            got: list[Record] = []
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read_into, got, reader)
                await anyio.wait_all_tasks_blocked()
                # The record and the cancel come in the same turn of the loop.
                job.produce("stdout", b"kept")
                tasks.cancel_scope.cancel()
            with anyio.CancelScope() as scope:
                scope.cancel()
                await read_into(got, reader)
            job.end()
            await read_into(got, reader)
        assert streams(got) == {"stdout": b"kept"}

    async def test_closing_a_reader_twice_is_quiet(self, placement: Placement) -> None:
        """`StoreReader.close` may be called twice."""
        async with _opened(placement) as job:
            reader = job.store.read(None, follow=True, consume=True)
            reader.close()
            reader.close()

    # -- what is used up

    async def test_only_what_is_said_to_be_used_is_used_up(self, placement: Placement) -> None:
        """To be given a record consumes nothing; `StoreReader.used` does."""
        async with _opened(placement) as job:
            job.produce("stdout", b"first")
            job.produce("stderr", b"second")
            job.produce("stdout", b"third")
            job.end()
            reader = job.store.read(None, follow=False, consume=True)
            assert _sum(job.store.used) == 0
            first, second = await reader.next(), await reader.next()
            assert first is not None
            assert second is not None
            assert _sum(job.store.used) == 0
            reader.used(first)
            reader.used(second)
            assert dict(job.store.used) == {"stdout": 5, "stderr": 6}
            rest = await read_all(job.store.read(None, follow=False, consume=True))
            assert streams(rest) == {"stdout": b"third"}

    async def test_reading_along_uses_nothing_up(self, placement: Placement) -> None:
        """A reader that does not consume leaves all to the one that does."""
        async with _opened(placement) as job:
            job.produce("stdout", b"kept")
            job.end()
            await read_all(job.store.read(None, follow=False, consume=False))
            assert _sum(job.store.used) == 0
            got = await read_all(job.store.read(None, follow=False, consume=True))
        assert streams(got) == {"stdout": b"kept"}

    async def test_what_is_used_up_can_be_read_again(self, placement: Placement) -> None:
        """What is consumed is there for a reader that begins before it."""
        async with _opened(placement) as job:
            job.produce("stdout", b"once more")
            job.end()
            reader = job.store.read(None, follow=False, consume=True)
            for record in await read_all(reader):
                reader.used(record)
            assert await job.store.read(None, follow=False, consume=True).next() is None
            again = await read_all(job.store.read({}, follow=False, consume=False))
        assert streams(again) == {"stdout": b"once more"}

    async def test_a_new_consuming_reader_takes_over(self, placement: Placement) -> None:
        """The earlier one gets JobStateError; readers that do not consume go on."""
        async with _opened(placement) as job:
            first = job.store.read(None, follow=True, consume=True)
            along = job.store.read(None, follow=False, consume=False)
            second = job.store.read(None, follow=True, consume=True)
            job.produce("stdout", b"for the second")
            job.end()
            with pytest.raises(JobStateError):
                await first.next()
            assert streams(await read_all(along)) == {"stdout": b"for the second"}
            assert streams(await read_all(second)) == {"stdout": b"for the second"}

    async def test_a_waiting_reader_learns_that_another_took_over(
        self, placement: Placement
    ) -> None:
        """The JobStateError comes at once, not with the next record."""
        async with _opened(placement) as job:
            first = job.store.read(None, follow=True, consume=True)
            told = anyio.Event()

            async def wait() -> None:
                with pytest.raises(JobStateError):
                    await first.next()
                told.set()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                second = job.store.read(None, follow=True, consume=True)
                await told.wait()
            job.produce("stdout", b"goes on")
            job.end()
            assert streams(await read_all(second)) == {"stdout": b"goes on"}

    # -- what is held here

    async def test_size_counts_bytes(self, placement: Placement) -> None:
        """Also of what a function says: the bytes of its records."""
        async with _opened(placement) as job:
            job.produce("stdout", b"five!")
            last = [*job.say("a longer value"), *job.say(None)][-1]
            size = dict(job.store.size)
        assert {stream: count for stream, count in size.items() if count} == {
            "stdout": 5,
            "records": last.end,
        }

    # -- what a function says

    @pytest.mark.parametrize("step", [1, 7, 30, 1000])
    async def test_what_a_function_says_comes_back_however_it_was_cut(
        self, placement: Placement, step: int
    ) -> None:
        """A store need not know what a record is: pieces of the stream ``records`` may be cut
        anywhere."""
        async with _opened(placement) as job:
            job.say({"a": [1, 2.5, "three"]}, step)
            job.produce("stdout", b"between")
            job.say(LogRecord(20, "here", "said", 1.5), step)
            job.say(None, step)
            job.end()
            got = await read_all(job.store.read(None, follow=True, consume=True))
            said = decoded(got, 0)
            again = decoded(
                await read_all(
                    job.store.read({"records": said[1].offset}, follow=True, consume=False)
                ),
                said[1].offset,
            )
        told = [(one.kind, one.data) for one in said]
        assert told == [
            ("value", {"a": [1, 2.5, "three"]}),
            ("log", LogRecord(20, "here", "said", 1.5)),
            ("value", None),
        ]
        assert again == said[1:], "a reading may begin at each record"

    async def test_a_store_that_blocks_grants_room_as_it_is_used_up(
        self, placement: Placement
    ) -> None:
        """Under ``block`` the target may send ``buffer_limit`` bytes, and more as they are
        consumed."""
        async with _opened(placement, full="block") as job:
            sent = await job.flood(4 * _BUFFER)
            assert sent == job.channel.granted == _BUFFER
            if placement.spools:
                return  # nothing is sent here: the output has no need of room here
            reader = job.store.read(None, follow=False, consume=True)
            for record in await read_all(reader):
                reader.used(record)
            await anyio.wait_all_tasks_blocked()
            assert job.channel.granted > sent, "what was used up makes room"

    async def test_a_store_that_spills_takes_all_and_gives_it_back(
        self, placement: Placement
    ) -> None:
        """Under ``spill`` eight times the limit goes in and comes out whole."""
        async with _opened(placement, full="spill") as job:
            most = _BUFFER if placement.spools else 8 * _BUFFER
            while job.produced < most:
                await job.flood(most - job.produced)
                await _moment()
            job.end()
            got = streams(await read_all(job.store.read(None, follow=True, consume=True)))
        assert got == {"stdout": job.flooded}

    async def test_a_store_that_drops_never_holds_the_job_up(self, placement: Placement) -> None:
        """Under ``drop`` all is granted at once, and a Gap stands for what a reader misses."""
        if placement.spools:
            return  # nothing is sent here
        async with _opened(placement, full="drop") as job:
            most = 8 * _BUFFER
            while job.produced < most:
                await job.flood(most - job.produced)
                await _moment()
            job.end()
            at = 0
            for record in await read_all(job.store.read(None, follow=True, consume=True)):
                assert record.offset == at, "a Gap stands for what was dropped"
                if not isinstance(record.data, Gap):
                    assert record.data == job.flooded[at : record.end]
                at = record.end
        assert at == most, "to its end"

    async def test_a_store_that_blocks_lets_all_pass_that_is_used_up(
        self, placement: Placement
    ) -> None:
        """A reader that consumes gets a stream of any length through a small buffer."""
        if placement.spools:
            return  # nothing is sent here
        async with _opened(placement, full="block") as job:
            reader = job.store.read(None, follow=True, consume=True)
            most, got = 8 * _BUFFER, 0
            while got < most:
                await job.flood(most - job.produced)
                record = await reader.next()
                assert record is not None
                assert record.data == job.flooded[got : record.end]
                got = record.end
                reader.used(record)
        assert got == most

    async def test_its_tasks_end_once_it_is_closed(self, placement: Placement) -> None:
        """What it gave to `Channel.start_soon` ends after `close`, with all that came."""
        async with _opened(placement) as job:
            job.produce("stdout", b"on its way")
            job.end()
            await job.channel.tasks_ended()
            got = await read_all(job.store.read(None, follow=True, consume=False))
        assert streams(got) == {"stdout": b"on its way"}

    async def test_closing_it_again_is_quiet(self, placement: Placement) -> None:
        """`ResultStore.close` may be called twice."""
        async with _opened(placement) as job:
            job.end()
            job.end()

    async def test_closing_frees_and_twice_is_quiet(self, placement: Placement) -> None:
        """`ResultStore.aclose` may be called twice."""
        async with _opened(placement) as job:
            job.produce("stdout", b"gone")
            job.end()
            await job.store.aclose()
            await job.store.aclose()


class _Job:
    """A store, and the job whose output it is to hold."""

    def __init__(self, placement: Placement, channel: FakeChannel) -> None:
        self.channel = channel
        self.store: ResultStore = placement.open_store(_INFO, channel)
        self.flooded = b""
        self._spools = placement.spools
        self._producer = Producer()

    @property
    def produced(self) -> int:
        return len(self.flooded)

    def produce(self, stream: Stream, data: bytes) -> Record:
        record = self._producer.record(stream, data)
        if self._spools:
            self.channel.spool(record)
        else:
            self.store.append(record)
        return record

    def say(self, value: object, step: int = 1000) -> list[Record]:
        """As a function that gives ``value`` (or logs it), cut into pieces of ``step`` bytes."""
        data = self._producer.said(value)
        return [self.produce("records", data[at : at + step]) for at in range(0, len(data), step)]

    async def flood(self, most: int) -> int:
        """Sends ``most`` bytes, or what there is credit for. Returns how many."""
        size = min(most, self.channel.granted - self.produced)
        for start in range(self.produced, self.produced + size, 4096):
            end = min(start + 4096, self.produced + size)
            self.produce("stdout", bytes(at % 251 for at in range(start, end)))
        self.flooded += bytes(at % 251 for at in range(self.produced, self.produced + size))
        await anyio.wait_all_tasks_blocked()
        return size

    def end(self) -> None:
        self.channel.end_spool()
        self.store.close(_SUCCESS)


_INFO = JobInfo(
    id="jaaaaaaaaaaaa",
    name=None,
    state=JobState.RUNNING,
    location="testing",
    command=("true",),
    placement="testing",
    lifetime="session",
    has_more_data=True,
)


@asynccontextmanager
async def _opened(placement: Placement, full: str = "spill") -> AsyncIterator[_Job]:
    raised: list[Exception] = []
    with anyio.fail_after(_LIMIT):
        async with anyio.create_task_group() as tasks:
            job = _Job(placement, FakeChannel(tasks, full=full, buffer_limit=_BUFFER))
            try:
                yield job
            except Exception as exc:
                raised.append(exc)  # raised again outside: the task group would wrap it
            finally:
                with anyio.CancelScope(shield=True):
                    await job.store.aclose()
                tasks.cancel_scope.cancel()
    for error in raised:
        raise error


async def _moment() -> None:
    """A store may read and write in threads."""
    await anyio.sleep(0.001)


def _sum(position: Position) -> int:
    return sum(position.values())

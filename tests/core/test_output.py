"""What comes back of a return job: all of it, or words for what is missing."""

from __future__ import annotations

import errno
import gc
import os
import pickle
import resource
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import remit
from core.conftest import Play, on_virtual_time, until
from core.fake_agent import FakeAgent, agent_script, job_map, pack
from remit._jobs import limits
from remit._wire import frames
from remit._wire import records as wire_records
from remit._wire.conversation import Piece
from remit_return import _disk, _store

pytestmark = pytest.mark.anyio


class Job:
    """The agent's side of one return job."""

    def __init__(self, agent: FakeAgent, channel: int, job_id: str) -> None:
        self.agent = agent
        self.id = job_id
        self.sent = {1: 0, 2: 0}
        self._channel = channel
        self._seq = 0

    async def accept(self) -> None:
        self.agent.conversation.accept(self._channel, pack(job_map(self.id, started=1.0)))
        await self.agent.flush()

    async def print(self, size: int, stream: int = 1) -> None:
        """So much, as the caller gives credit for it."""
        conversation = self.agent.conversation
        while size:
            most = min(size, conversation.credit(self._channel), 1 << 18)
            if not most:
                await self.agent.next(frames.CREDIT)
                continue
            data = bytes(most)
            piece = Piece(stream, self._seq, self.sent[stream], 1.0, data)
            conversation.data(self._channel, piece)
            self._seq += 1
            self.sent[stream] += most
            size -= most
            await self.agent.flush()

    async def say(self, data: bytes) -> None:
        """What a function says, with no regard to credit."""
        piece = Piece(3, self._seq, 0, 1.0, data)
        self.agent.conversation.data(self._channel, piece)
        self._seq += 1
        await self.agent.flush()

    async def end(self, state: str = "COMPLETED", **outcome: Any) -> None:
        outcome = {"exit_status": 0, "reason": "exited", **outcome}
        body = {"job": job_map(self.id, state, outcome=outcome)}
        self.agent.conversation.end(self._channel, pack(body))
        await self.agent.flush()


async def started(agent: FakeAgent) -> Job:
    channel, verb, arguments = await agent.request()
    assert verb == "start"
    job = Job(agent, channel, arguments["id"])
    await job.accept()
    return job


def record(kind: int, number: int, body: bytes) -> bytes:
    return wire_records.HEAD.pack(kind, number, 1.0, len(body)) + body


Act = Callable[[Job], Awaitable[None]]


def acting(act: Act) -> Any:
    """An agent that starts one job, and does that with it; then it waits to be left."""

    async def script(agent: FakeAgent) -> None:
        await act(await started(agent))
        await agent.next(frames.GOODBYE)
        agent.conversation.goodbye(pack({}))
        await agent.flush()

    return agent_script(script)


# -- an end that is not recorded


async def test_reading_ends_with_the_error_that_cut_the_link(play: Play) -> None:
    async def cut(agent: FakeAgent) -> None:
        await (await started(agent)).print(10)

    play(agent_script(cut))
    async with remit.connect("fake:", reconnect=0) as session:
        job = await session.start(["true"])
        for how in ({"keep": True}, {}, {"from_start": True}):
            reader = job.receive(**how)
            assert (await anext(reader)).data == bytes(10)
            with pytest.raises(remit.LinkLost, match="the stream ended"):
                await anext(reader)
        # What there is now, without waiting for the end, is no more than that.
        assert [record async for record in job.receive(wait=False)] == []
        assert await job.stop() == []


async def test_reading_ends_with_the_session(session: remit.Session) -> None:
    async with remit.connect("local:") as session:
        job = await session.start("echo on; sleep 1000")
        reader = job.receive()
        assert (await anext(reader)).data == b"on\n"
    for _ in range(2):
        with pytest.raises(remit.SessionClosed, match=r"is closed|was stopped with its session"):
            await anext(reader)
    assert job.state is remit.JobState.STOPPED


async def test_reading_a_lost_job_ends_with_its_failure(play: Play) -> None:
    async def lose(job: Job) -> None:
        await job.print(10)
        await job.end("LOST", exit_status=None, reason="may-have-run")

    play(acting(lose))
    async with remit.connect("fake:") as session:
        job = await session.start(["true"])
        reader = job.receive()
        await anext(reader)
        with pytest.raises(remit.JobFailed, match="may-have-run"):
            await anext(reader)


async def test_a_stop_on_its_way_when_the_link_is_lost_does_not_wait_for_another(
    play: Play,
) -> None:
    async def deaf(agent: FakeAgent) -> None:
        job = await started(agent)
        while (await agent.request())[1] != "stop":
            pass
        assert job.id

    play(agent_script(deaf))
    async with remit.connect("fake:", reconnect=3600) as session:
        job = await session.start(["true"])
        with anyio.fail_after(20):
            assert await job.stop() == []
            assert job.state is remit.JobState.LOST
            for act in (job.suspend, job.resume):
                with pytest.raises(remit.LinkLost, match="was lost"):
                    await act()


async def test_a_reader_that_is_closed_ends_and_gives_nothing_up(session: remit.Session) -> None:
    job = await session.start("echo a; echo b >&2")
    await job.wait()
    reader = job.receive()
    first = await anext(reader)
    await reader.aclose()
    await reader.aclose()
    assert [record async for record in reader] == []
    assert await anext(job.receive()) == first


# -- failures bring what was printed


@pytest.mark.parametrize("placement", ["return", "keep"])
@pytest.mark.parametrize(
    ("line", "options", "reason"),
    [
        ("echo out; echo err >&2; exit 3", {}, "exited"),
        ("echo out; echo err >&2; kill -9 $$", {}, "signalled"),
        ("echo out; echo err >&2; sleep 1000", {"timeout": 2.0}, "timeout"),
    ],
)
async def test_a_failure_holds_what_was_printed(
    session: remit.Session, placement: str, line: str, options: Any, reason: str
) -> None:
    with pytest.raises(remit.JobFailed) as caught:
        await session.run(line, check=True, placement=placement, **options)
    assert caught.value.reason == reason
    result = caught.value.result
    assert result is not None
    assert (result.stdout, result.stderr) == (b"out\n", b"err\n")
    assert result.exit_status == (3 if reason == "exited" else None)
    assert result.dropped == {}
    assert result.dropped["stdout"] == 0


# -- what is dropped


@pytest.mark.parametrize("limit", [1, 1000, 200_000])
async def test_any_limit_moves_and_keeps_the_newest(session: remit.Session, limit: int) -> None:
    size = 3_000_000
    with anyio.fail_after(60):
        job = await session.start(
            f"head -c {size} /dev/zero; printf end; echo err >&2", full="drop", buffer_limit=limit
        )
        await job.wait()
    result = await job.result()
    assert b"end".endswith(result.stdout[-3:])
    for stream, sent in (("stdout", size + 3), ("stderr", 4)):
        held = len(getattr(result, stream))
        assert held + result.dropped.get(stream, 0) == sent
    assert limit // 2 <= len(result.stdout + result.stderr) <= limit
    assert not job.has_more_data


async def test_a_stream_that_is_dropped_to_its_end_leaves_a_gap(
    session: remit.Session, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    line = f"echo one >&2; {until(gate)}; head -c 300000 /dev/zero"
    job = await session.start(line, full="drop", buffer_limit=100_000)
    await anext(job.receive(keep=True))
    gate.touch()
    await job.wait()
    records = [record async for record in job.receive()]
    assert [r.data for r in records if r.stream == "stderr"] == [remit.Gap(4)]
    assert sum(r.end - r.offset for r in records if r.stream == "stdout") == 300_000
    assert not job.has_more_data


async def test_of_what_was_dropped_the_rest_is_saved(
    session: remit.Session, tmp_path: Path
) -> None:
    job = await session.start(["seq", "100000"], full="drop", buffer_limit=1000)
    await job.wait()
    await job.save(tmp_path / "out")
    saved = (tmp_path / "out").read_bytes()
    assert saved == (await job.result()).stdout
    assert saved.endswith(b"\n99999\n100000\n")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def items(most: int) -> Iterator[bytes]:
    for _ in range(most):
        yield bytes(1000)


async def test_a_list_of_items_with_some_dropped_is_no_result(session: remit.Session) -> None:
    job = await session.start(items, 1000, full="drop", buffer_limit=10_000)
    await job.wait()
    with pytest.raises(remit.ResultError, match="were dropped"):
        await job.result()
    records = [record async for record in job.receive()]
    assert isinstance(records[0].data, remit.Gap)
    assert 0 < len(records) < 20


@pytest.mark.parametrize("full", ["spill", "block", "drop"])
async def test_a_value_that_cannot_be_read_is_told_once(play: Play, full: Any) -> None:
    said = [(wire_records.ITEM, pack(n)) for n in range(8)]
    said[2] = said[5] = (wire_records.ITEM, b"\xc1")
    said[3] = (wire_records.LOG, b"\xc1")

    async def talk(job: Job) -> None:
        await job.say(b"".join(record(kind, n, body) for n, (kind, body) in enumerate(said)))
        await job.end()

    play(acting(talk))
    async with remit.connect("fake:") as session:
        job = await session.start(["true"], full=full)
        for how in ({"keep": True}, {}):
            got: list[Any] = []
            reader = job.receive(**how)
            while not got or got[-1] != 7:
                try:
                    got.append((await anext(reader)).data)
                except (remit.ResultError, remit.RemoteProtocolError) as exc:
                    got.append(exc.message.partition(" (")[0])
            assert got == [0, 1, "value 2", "log 3", 4, "value 5", 6, 7]
        assert [one async for one in reader] == []
        assert not job.has_more_data
        # Who comes new does not meet it again.
        assert [one async for one in job.receive()] == []


# -- limits that hold whatever the target does


@on_virtual_time()
async def test_a_flood_that_ignores_its_time_limit_is_cut_off(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_LAST_WORDS", 1 << 20)
    over = anyio.Event()

    async def flood(agent: FakeAgent) -> None:
        job = await started(agent)
        await job.print(1 << 20)
        await anyio.sleep(1)  # its time is over
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(job.print, 1 << 40)
            await over.wait()
            tasks.cancel_scope.cancel()

    play(agent_script(flood))
    async with remit.connect("fake:", reconnect=0) as session:
        with anyio.fail_after(20), pytest.raises(remit.JobFailed, match="did not end it") as caught:
            await session.run(["true"], timeout=0.5)
        over.set()
        assert caught.value.reason == "timeout"
        assert caught.value.result is not None
        assert 1 << 20 <= len(caught.value.result.stdout) <= 4 << 20


@on_virtual_time()
async def test_a_job_that_waits_for_its_reader_is_not_cut_off(play: Play) -> None:
    async def wait(job: Job) -> None:
        await job.print(3000)  # the last of it once somebody reads
        await job.end("FAILED", exit_status=None, reason="timeout")

    play(acting(wait))
    async with remit.connect("fake:", silence=3600) as session:
        job = await session.start(["true"], full="block", buffer_limit=1000, timeout=0.1)
        await anyio.sleep(600)  # more than all patience
        assert not job.state.finished
        assert [record.end async for record in job.receive()][-1] == 3000
        assert job.outcome == remit.Outcome(reason="timeout")


async def test_no_more_is_printed_than_asked_for(session: remit.Session) -> None:
    job = await session.start("echo err >&2; sleep 0.3; exec yes", max_output=100_000)
    with anyio.fail_after(30):
        assert await job.wait() is remit.JobState.FAILED
    assert job.outcome is not None
    assert job.outcome.reason == "max-output"
    with pytest.raises(remit.JobFailed, match="max-output") as caught:
        await job.result()
    assert caught.value.result is not None
    assert len(caught.value.result.stdout) + len(caught.value.result.stderr) == 100_000
    assert (await session.run(["echo", "four"], max_output=5)).stdout == b"four\n"
    with pytest.raises(ValueError, match="full='drop'"):
        await session.run(["true"], max_output=5, on_max="truncate")


# -- run


def add(a: int, b: int) -> int:
    return a + b


def fail() -> None:
    raise ValueError("no")


@pytest.mark.parametrize("placement", ["return", "keep"])
async def test_run_of_a_function_gives_its_value(session: remit.Session, placement: str) -> None:
    assert await session.run(add, 1, 2, placement=placement) == 3
    with pytest.raises(remit.JobFailed, match="ValueError: no"):
        await session.run(fail, placement=placement)
    assert await session.jobs() == []


def sleep() -> None:
    time.sleep(1000)


async def test_a_cancelled_run_of_a_function_leaves_nothing(session: remit.Session) -> None:
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.run, sleep)
            while not [job for job in await session.jobs() if job.state == "RUNNING"]:
                pass
            scope.cancel()
    assert await session.jobs() == []


async def test_run_with_a_pipe_for_nobody_is_refused(session: remit.Session) -> None:
    with pytest.raises(ValueError, match="stdin=PIPE"):
        await session.run(["cat"], stdin=remit.PIPE)
    assert await session.jobs() == []


# -- save


@pytest.mark.parametrize("placement", ["return", "keep"])
async def test_a_stream_that_is_none_is_not_saved(
    session: remit.Session, placement: str, tmp_path: Path
) -> None:
    job = await session.start(["true"], placement=placement)
    with pytest.raises(ValueError, match="stdot"):
        await job.save(tmp_path / "out", stream="stdot")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("placement", ["return", "keep"])
async def test_a_saved_file_keeps_mode_and_place(
    session: remit.Session, placement: str, tmp_path: Path
) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "real").chmod(0o664)
    (tmp_path / "link").symlink_to("real")
    job = await session.start(["echo", "new"], placement=placement)
    await job.wait()
    await job.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new\n"
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o664
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for name in ("directory", "fifo"):
        with pytest.raises((OSError, remit.RemitError), match=r"is a directory|not a regular file"):
            await job.save(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["directory", "fifo", "link", "real"]


# -- stdin


async def test_the_exception_of_an_iterator_is_the_cause(session: remit.Session) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise RuntimeError("the other half")

    with pytest.raises(remit.JobFailed, match="could not be read here") as caught:
        await session.run(["cat"], stdin=broken())
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert caught.value.result is not None


async def test_an_iterator_is_let_go_of_when_its_job_ends(session: remit.Session) -> None:
    over = anyio.Event()

    async def patient() -> AsyncIterator[bytes]:
        try:
            yield b"x\n"
            await anyio.sleep_forever()
        finally:
            over.set()

    with anyio.fail_after(20):
        assert (await session.run(["head", "-n1"], stdin=patient())).stdout == b"x\n"
        await over.wait()


async def test_pipes_that_give_nothing_take_no_threads(session: remit.Session) -> None:
    read, write = os.pipe()
    with open(read, "rb") as source, open(write, "wb") as sink:
        sink.write(b"line\nrest\n")
        sink.flush()
        assert source.readline() == b"line\n"
        first = await session.start(["head", "-n1"], stdin=source)
        with anyio.fail_after(60):
            assert (await first.result()).stdout == b"rest\n", "what Python had read ahead"
            jobs = [await session.start(["cat"], stdin=source) for _ in range(60)]
            for _ in range(3):
                await anyio.to_thread.run_sync(os.getpid)
            sink.close()
            for job in jobs:
                assert (await job.result()).stdout == b""


# -- what is let go


async def test_finished_jobs_without_a_handle_leave_little(session: remit.Session) -> None:
    async def one() -> tuple[str, weakref.ref[remit.Job]]:
        job = await session.start(["head", "-c", "3000000", "/dev/zero"], buffer_limit=1 << 20)
        assert len((await job.result()).stdout) == 3_000_000
        return job.id, weakref.ref(job)

    before = len(os.listdir("/proc/self/fd"))
    gone = [await one() for _ in range(5)]
    gc.collect()
    assert [reference() for _, reference in gone] == [None] * 5
    with anyio.fail_after(20):
        while _disk.disk._fd >= 0:  # what was on its way to it is, and it is closed
            await anyio.sleep(0.01)
    assert len(os.listdir("/proc/self/fd")) <= before
    infos = {info.id: info for info in await session.jobs()}
    assert set(infos) == {job_id for job_id, _ in gone}
    again = await session.job(gone[0][0])
    assert (again.state, again.has_more_data) == (remit.JobState.COMPLETED, False)
    with pytest.raises(remit.JobStateError, match="are gone"):
        await again.result()
    await again.remove()
    assert len(await session.jobs()) == 4


async def test_a_job_that_runs_is_held_though_its_handle_is_dropped(session: remit.Session) -> None:
    job_id = (await session.start("echo said; read line", stdin=remit.PIPE)).id
    gc.collect()
    job = await session.job(job_id)
    assert (await anext(job.receive())).data == b"said\n"
    await job.send_eof()
    await job.wait()


async def test_many_spilled_jobs_share_one_descriptor(session: remit.Session) -> None:
    before = len(os.listdir("/proc/self/fd"))
    jobs = [
        await session.start(["head", "-c", "300000", "/dev/zero"], buffer_limit=10_000)
        for _ in range(20)
    ]
    for job in jobs:
        await job.wait()
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    for job in jobs:
        assert len((await job.result()).stdout) == 300_000


async def test_what_nobody_holds_is_given_up(session: remit.Session) -> None:
    job = await session.start("head -c 300000 /dev/zero; exec sleep 1000", placement="keep")
    link = session._connection.link
    assert link is not None
    job_id = job.id
    for _ in range(50):
        found = await session.job(job_id)
        async for _record in found.receive(keep=True):
            break
    del found
    gc.collect()
    assert len(link.channels) <= 2
    await session.jobs()  # whatever is said next tells of it
    assert len(link._conversation._channels) <= 3
    del job
    gc.collect()
    assert len(link.channels) == 0
    await (await session.job(job_id)).remove(force=True)


# -- no room here


async def test_a_full_disk_here_holds_up_its_job_alone(
    session: remit.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, *args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_store, "_TRY_AGAIN", 0.01)
    with anyio.fail_after(60):
        with monkeypatch.context() as patched:
            patched.setattr(_disk.Disk, "write", full)
            jobs = [
                await session.start(["head", "-c", "3000000", "/dev/zero"], buffer_limit=10_000)
                for _ in range(3)
            ]
            async for state in jobs[0].changes():
                if state is remit.JobState.BLOCKED:
                    break
            assert (await session.run(["echo", "others"])).stdout == b"others\n"
            size = 0
            async for record in jobs[0].receive():
                size = record.end
            assert size == 3_000_000
            assert len((await jobs[1].result()).stdout) == 3_000_000
        assert len((await jobs[2].result()).stdout) == 3_000_000


async def test_without_descriptors_the_session_goes_on(session: remit.Session) -> None:
    job = await session.start(
        "read line; exec head -c 3000000 /dev/zero", stdin=remit.PIPE, buffer_limit=10_000
    )
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, limits[1]))
    try:
        await job.send(b"go\n")
        with anyio.fail_after(60):
            size = 0
            async for record in job.receive():
                size = record.end
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert size == 3_000_000


# -- others have their turn


@pytest.mark.parametrize("placement", ["return", "keep"])
async def test_a_full_window_does_not_keep_others_waiting(
    session: remit.Session, placement: str
) -> None:
    job = await session.start(
        ["sh", "-c", "for i in $(seq 300); do echo; sleep 0.001; done"], placement=placement
    )
    await job.wait()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count)
        records = [record async for record in job.receive()]
        tasks.cancel_scope.cancel()
    assert turns >= len(records) // 20


CHECKED: dict[str, Callable[[remit.Session, remit.Job, Path], Awaitable[object]]] = {
    "wait": lambda session, job, path: job.wait(),
    "refresh": lambda session, job, path: job.refresh(),
    "stop": lambda session, job, path: job.stop(),
    "result": lambda session, job, path: job.result(),
    "save": lambda session, job, path: job.save(path / "out"),
    "receive": lambda session, job, path: anext(job.receive(from_start=True)),
    "receive nothing": lambda session, job, path: anext(job.receive(), None),
    "aclose": lambda session, job, path: job.receive(keep=True).aclose(),
    "changes": lambda session, job, path: anext(job.changes()),
    "find": lambda session, job, path: session.job(job.id),
    "list": lambda session, job, path: session.jobs(),
}


@pytest.mark.parametrize("placement", ["return", "keep"])
async def test_every_call_gives_way_and_heeds_a_cancel(
    session: remit.Session, placement: str, tmp_path: Path
) -> None:
    job = await session.start(["echo", "on"], placement=placement)
    await job.result()
    for name, call in CHECKED.items():
        turns: list[None] = []

        async def count(turns: list[None] = turns) -> None:
            while True:
                turns.append(None)
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(count)
            while not turns:
                await anyio.lowlevel.checkpoint()
            turns.clear()
            for _ in range(5):  # trio's order within one turn of its loop is any
                await call(session, job, tmp_path)
            tasks.cancel_scope.cancel()
        assert turns, f"{name} gives nobody a turn"
        with anyio.CancelScope() as scope:
            scope.cancel()
            await call(session, job, tmp_path)
        assert scope.cancelled_caught, f"{name} heeds no cancel"


def test_a_result_is_frozen_and_can_be_compared() -> None:
    result = remit.CommandResult(0, b"", b"", {"stdout": 1})
    assert pickle.loads(pickle.dumps(result)) == result
    assert hash(result) == hash(remit.CommandResult(0, b"", b""))
    assert result != remit.CommandResult(0, b"", b"")
    assert pickle.loads(pickle.dumps(result)).dropped["stderr"] == 0

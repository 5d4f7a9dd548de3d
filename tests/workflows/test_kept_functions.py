"""Kept functions: what they said stands on the target, whatever happens to who started them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import remit
from remit._jobs.backing import Backing
from remit._wire.records import Splitter
from testbed import processes, waits

pytestmark = [pytest.mark.anyio, pytest.mark.real]

# It waits between its items until a file is there: the test says when.
PAUSED_AT = 5


def add(a: Any, b: Any) -> Any:
    return a + b


def count(most: int) -> Iterator[int]:
    yield from range(most)


def pause(gate: str) -> Iterator[int]:
    import logging
    import os
    import time

    for number in range(10):
        if number == 5:
            logging.info("paused")
            while not os.path.exists(gate):
                time.sleep(0.02)
        yield number


def interrupted(mark: str) -> None:
    import time

    try:
        print("begun", flush=True)  # within: who reads it may interrupt at once
        time.sleep(1000)
    except KeyboardInterrupt:
        with open(mark, "w") as file:
            file.write("KeyboardInterrupt")
        raise


def flood() -> Iterator[bytes]:
    while True:
        yield bytes(1000)


def keep_secrets(argument: str) -> tuple[str, str, str]:
    import os

    return argument[::-1], os.environ["HIDDEN"][::-1], "moor-hen-in-the-function"[::-1]


def fail() -> None:
    raise ValueError("no such word")


@pytest.fixture
async def session(anyio_backend: str) -> AsyncIterator[remit.Session]:
    async with remit.connect("local:", reconnect=0) as session:
        yield session


def directory(job: remit.Job) -> Path:
    return Path(os.environ["REMIT_STATE_DIR"], "jobs", job.id)


def supervisor(job: remit.Job) -> int:
    """The parent of the job's first process."""
    facts = json.loads((directory(job) / "process.json").read_text())
    found = processes.find(facts["pid"])
    assert found is not None
    return found.parent


async def until_paused(job: remit.Job) -> None:
    with anyio.fail_after(20):
        async for record in job.receive(keep=True):
            if record.stream == "log":
                return


async def test_the_result_stands_in_the_directory(session: remit.Session) -> None:
    job = await session.start(add, [1], ["two"], placement="keep", name="sum")
    assert await job.result() == [1, "two"]
    assert await job.result() == [1, "two"]
    outcome = json.loads((directory(job) / "outcome.json").read_text())
    said = Splitter(0).feed((directory(job) / "records").read_bytes())
    assert outcome["result_at"] == said[-1].at
    assert outcome["sizes"]["records"] == said[-1].end
    found = await session.job("sum")
    assert found.command == "add()"
    assert await found.result() == [1, "two"]
    await job.remove()
    assert not directory(job).exists()


async def test_a_failure_is_found_later(session: remit.Session) -> None:
    job = await session.start(fail, placement="keep")
    await job.wait()
    async with remit.connect("local:") as another:
        found = await another.job(job.id)
        with pytest.raises(remit.JobFailed, match="ValueError: no such word") as caught:
            await found.result()
    assert 'raise ValueError("no such word")' in (caught.value.traceback or "")
    outcome = json.loads((directory(job) / "outcome.json").read_text())
    assert outcome["error"] == "ValueError: no such word"


_HALF = """
import sys, anyio, remit

async def main(job_id):
    async with remit.connect("local:") as session:
        job = await session.job(job_id)
        async for record in job.receive():
            print(record.data, flush=True)
            if record.data == 499:
                await anyio.sleep_forever()

anyio.run(main, sys.argv[1], backend=sys.argv[2])
"""


async def test_one_process_reads_half_and_another_the_rest(
    session: remit.Session, anyio_backend: str
) -> None:
    job = await session.start(count, 1000, placement="keep")
    reader = subprocess.Popen(
        [sys.executable, "-c", _HALF, job.id, anyio_backend], stdout=subprocess.PIPE
    )
    assert reader.stdout is not None
    try:
        first = [int(await anyio.to_thread.run_sync(reader.stdout.readline)) for _ in range(500)]
    finally:
        reader.kill()
        reader.wait()
        reader.stdout.close()
    async with remit.connect("local:") as another:
        found = await another.job(job.id)
        rest = [int(record.data) async for record in found.receive() if record.stream == "value"]
    assert first == list(range(500))
    # What was in hand comes again; and marks may be late after a crash, never early.
    assert rest == list(range(rest[0], 1000))
    assert rest[0] <= 499


async def test_it_outlives_the_agent_and_the_warm_interpreter(
    session: remit.Session, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    job = await session.start(pause, str(gate), placement="keep")
    await until_paused(job)
    assert session._hello is not None
    agent = session._hello.pid
    owner = supervisor(job)
    warm = [one.pid for one in processes.descendants([agent]) if one.pid != owner]
    processes.kill([*{pid for pid in warm if _is_warm(pid)}, agent])
    async with remit.connect("local:") as another:
        found = await another.job(job.id)
        assert found.state is remit.JobState.RUNNING
        gate.touch()
        assert await found.result() == list(range(10))
        assert await found.wait() is remit.JobState.COMPLETED


def _is_warm(pid: int) -> bool:
    """Whether it is an interpreter that functions are forked from."""
    try:
        return b"remit._worker.server" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_what_it_said_outlives_its_supervisor(session: remit.Session, tmp_path: Path) -> None:
    job = await session.start(pause, str(tmp_path / "gate"), placement="keep")
    await until_paused(job)
    pid = json.loads((directory(job) / "process.json").read_text())["pid"]
    processes.kill([supervisor(job)])
    with anyio.fail_after(20):
        assert await job.wait() is remit.JobState.LOST
    reader = job.receive(from_start=True)
    assert [(await anext(reader)).data for _ in range(PAUSED_AT)] == list(range(PAUSED_AT))
    assert (await anext(reader)).stream == "log"
    with pytest.raises(remit.JobFailed, match="supervisor-lost"):
        await anext(reader)
    with pytest.raises(remit.JobFailed, match="supervisor-lost"):
        await job.result()
    (tmp_path / "gate").touch()
    processes.kill([pid])


async def test_what_was_run_and_lost_is_ended_when_it_is_removed(session: remit.Session) -> None:
    async def killing() -> None:
        with anyio.fail_after(20):
            while not session._connection.jobs._watched:  # which it is once its start was answered
                await anyio.sleep(0.02)
        (watched,) = session._connection.jobs._watched
        assert isinstance(watched, Backing)
        job: remit.Job = remit.Job(watched)
        pids.append(json.loads((directory(job) / "process.json").read_text())["pid"])
        processes.kill([supervisor(job)])

    pids: list[int] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(killing)
        with pytest.raises(remit.JobFailed, match="supervisor-lost"):
            await session.run(["sleep", "1000"], placement="keep")
    await waits.gone(*pids)
    assert await session.jobs() == []


async def test_nothing_of_it_is_written_down_but_what_it_says(session: remit.Session) -> None:
    job = await session.start(
        keep_secrets, "kestrel-argument", placement="keep", env={"HIDDEN": "wren-environment"}
    )
    assert await job.result() == (
        "tnemugra-lertsek",
        "tnemnorivne-nerw",
        "noitcnuf-eht-ni-neh-room",
    )
    state = Path(os.environ["REMIT_STATE_DIR"])
    written = b"".join(path.read_bytes() for path in state.rglob("*") if path.is_file())
    assert b"tnemugra-lertsek" in written
    for secret in (b"kestrel-argument", b"wren-environment", b"moor-hen-in-the-function"):
        assert secret not in written


async def test_a_stop_interrupts_it_first(session: remit.Session, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    job = await session.start(interrupted, str(mark), placement="keep")
    async for record in job.receive(keep=True):
        assert record.data == b"begun\n"
        break
    assert await job.stop() == []
    assert job.state is remit.JobState.STOPPED
    assert mark.read_text() == "KeyboardInterrupt"
    with pytest.raises(remit.JobFailed, match=r"\(stopped\)") as caught:
        await job.result()
    assert (caught.value.reason, caught.value.type) == ("stopped", "KeyboardInterrupt")


async def test_limits_of_time_and_space(session: remit.Session, tmp_path: Path) -> None:
    # Its interpreter has to be up by then.
    late = await session.start(interrupted, str(tmp_path / "a"), placement="keep", timeout=2.0)
    much = await session.start(flood, placement="keep", max_output=100_000)
    with (
        anyio.fail_after(20),
        pytest.raises(remit.JobFailed, match=r"job j\w+ on|raised") as caught,
    ):
        await late.result()
    assert caught.value.reason == "timeout"
    assert (tmp_path / "a").exists()
    with anyio.fail_after(20):
        assert await much.wait() is remit.JobState.FAILED
    assert much.outcome is not None
    assert much.outcome.reason == "max-output"
    assert (directory(much) / "records").stat().st_size == 100_000
    values = [record.data async for record in much.receive() if record.stream == "value"]
    assert set(values) == {bytes(1000)}
    assert 90 < len(values) < 100


async def test_a_lease_that_nobody_renews_ends_it(session: remit.Session, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    lease = remit.lease(1.0)
    job = await session.start(interrupted, str(mark), placement="keep", lifetime=lease)
    pid = json.loads((directory(job) / "process.json").read_text())["pid"]
    async for _ in job.receive(keep=True):
        break
    assert session._hello is not None
    os.kill(session._hello.pid, signal.SIGKILL)
    await waits.gone(pid)
    assert mark.read_text() == "KeyboardInterrupt"

"""Kills, ends and lost links under functions: what is told, and that nothing stays behind."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest

import remit
from testbed import processes, waits
from testbed.link import Link
from testbed.surroundings import python_without_ctypes

pytestmark = [pytest.mark.anyio, pytest.mark.real]


def own_pid() -> int:
    import os

    return os.getpid()


def wait_for(gate: str) -> Iterator[int]:
    import os
    import time

    yield os.getpid()
    while not os.path.exists(gate):
        time.sleep(0.02)
    yield 0


def sleep(mark: str) -> None:
    """Tells its pid in a file, then sleeps."""
    import os
    import time

    with open(mark + ".part", "w") as file:
        file.write(str(os.getpid()))
    os.rename(mark + ".part", mark)
    time.sleep(1000)


def deaf(mark: str) -> None:
    """Sleeps in C, where no signal wakes it but KILL."""
    import os
    import signal
    import threading

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    with open(mark + ".part", "w") as file:
        file.write(str(os.getpid()))
    os.rename(mark + ".part", mark)
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def spawn_and_sleep(mark: str) -> None:
    """Leaves its session, as daemons do, and has a child of its own."""
    import os
    import subprocess
    import time

    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    with open(mark + ".part", "w") as file:
        file.write(str(child.pid))
    os.rename(mark + ".part", mark)
    time.sleep(1000)


@pytest.fixture
async def session(anyio_backend: str) -> AsyncIterator[remit.Session]:
    async with remit.connect("local:", reconnect=0, workers=3) as session:
        yield session


async def told(mark: Path) -> int:
    """The pid in the file, once it is there."""
    await waits.there(mark)
    return int(mark.read_text())


def agent_of(session: remit.Session) -> int:
    assert session._hello is not None
    return session._hello.pid


async def pid_of(records: remit.Receiver) -> int:
    record = await anext(records)
    assert record.stream == "value"
    return int(record.data)


async def test_the_warm_interpreter_is_killed(session: remit.Session, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = await session.start(wait_for, str(gate))
    records = job.receive()
    function = await pid_of(records)
    found = processes.find(function)
    assert found is not None
    warm = found.parent
    errors: list[remit.JobFailed] = []

    async def call(name: str) -> None:
        with pytest.raises(remit.JobFailed, match="interpreter") as caught:
            await session.call(sleep, str(tmp_path / name))
        errors.append(caught.value)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            for name in ("a", "b"):
                tasks.start_soon(call, name)
            workers = [await told(tmp_path / name) for name in ("a", "b")]
            processes.kill([warm])
            await waits.gone(*workers)
    assert len(errors) == 2
    assert all("the interpreter for functions on localhost was killed" in str(e) for e in errors)
    # The next call starts another.
    assert await session.call(own_pid) not in workers
    found = processes.find(function)
    assert found is not None
    gate.touch()
    with anyio.fail_after(20):
        assert [record.data async for record in records] == [0]
    assert job.state is remit.JobState.COMPLETED
    assert await (await session.start(own_pid)).result() > 0


@pytest.mark.parametrize("adopts", [True, False])
async def test_the_warm_interpreter_is_killed_with_news_on_the_way(
    anyio_backend: str, tmp_path: Path, adopts: bool
) -> None:
    """Some ends the agent has been told and has not heard yet, of others nobody tells it."""
    program = sys.executable if adopts else python_without_ctypes(sys.executable, tmp_path)
    async with remit.connect(f"local:?python={program}", reconnect=0) as session:
        gates = [str(tmp_path / name) for name in ("early", "late")]
        jobs = [await session.start(wait_for, gates[at]) for at in (0, 0, 0, 1, 1)]
        functions = [await pid_of(job.receive()) for job in jobs]
        warm = processes.find(functions[0])
        assert warm is not None
        agent = agent_of(session)
        os.kill(agent, signal.SIGSTOP)
        try:
            Path(gates[0]).touch()
            # It tells of each before it takes its status.
            with anyio.fail_after(20):
                while any(Path(f"/proc/{pid}").exists() for pid in functions[:3]):
                    await anyio.sleep(0.02)
            processes.kill([warm.parent])
        finally:
            os.kill(agent, signal.SIGCONT)
        with anyio.fail_after(20):
            for job in jobs[:3]:
                assert await job.wait() is remit.JobState.COMPLETED
            assert [job.state for job in jobs[3:]] == [remit.JobState.RUNNING] * 2
            Path(gates[1]).touch()
            expected = remit.JobState.COMPLETED if adopts else remit.JobState.LOST
            for job in jobs[3:]:
                assert await job.wait() is expected


async def test_the_agent_is_killed(session: remit.Session, tmp_path: Path) -> None:
    jobs = [
        await session.start(deaf, str(tmp_path / "deaf")),
        await session.start(spawn_and_sleep, str(tmp_path / "parent")),
    ]
    lost: list[Exception] = []

    async def call(name: str) -> None:
        try:
            await session.call(sleep if name == "worker" else deaf, str(tmp_path / name))
        except remit.RemitError as exc:
            lost.append(exc)

    async with anyio.create_task_group() as tasks:
        for name in ("worker", "deaf-worker"):
            tasks.start_soon(call, name)
        names = ("deaf", "parent", "worker", "deaf-worker")
        pids = [await told(tmp_path / name) for name in names]
        agent = agent_of(session)
        pids += [one.pid for one in processes.descendants([agent])]
        began = time.monotonic()
        processes.kill([agent])
        await waits.gone(*pids)
    assert time.monotonic() - began < 30
    assert [type(error) for error in lost] == [remit.LinkLost] * 2
    for job in jobs:
        assert await job.wait() is remit.JobState.LOST


async def test_a_session_leaves_nothing_behind(anyio_backend: str, tmp_path: Path) -> None:
    async with remit.connect("local:", workers=2) as session:
        await session.start(deaf, str(tmp_path / "deaf"))
        await session.start(spawn_and_sleep, str(tmp_path / "parent"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.call, deaf, str(tmp_path / "worker"))
            pids = [await told(tmp_path / name) for name in ("deaf", "parent", "worker")]
            pids += [one.pid for one in processes.descendants([agent_of(session)])]
            tasks.cancel_scope.cancel()
        began = time.monotonic()
    assert time.monotonic() - began < 15
    await waits.gone(*pids, within=1.0)


async def test_jobs_and_calls_leave_no_descriptor_open(session: remit.Session) -> None:
    agent = agent_of(session)

    async def all_ways() -> None:
        for placement in ("return", "keep"):
            job = await session.start(own_pid, placement=placement)
            await job.result()
            await job.remove()
            failing = await session.start(die, placement=placement)
            with pytest.raises(remit.JobFailed, match="was ended by"):
                await failing.result()
            await failing.remove()
        with pytest.raises(remit.JobFailed, match="was ended by"):
            await session.call(die)

    def held() -> list[int]:
        pids = [agent, *(one.pid for one in processes.descendants([agent]))]
        return sorted(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)

    await all_ways()
    await session.call(own_pid)
    before = held()
    for _ in range(4):
        await all_ways()
    await session.call(own_pid)
    with anyio.fail_after(10):
        while held() != before:
            await anyio.sleep(0.05)


def die() -> None:
    import os

    os.kill(os.getpid(), 9)


async def test_a_blocked_generator_is_stopped(session: remit.Session) -> None:
    """It waits in the middle of an item, since nobody reads."""
    job = await session.start(large_items, full="block", buffer_limit=1 << 16)
    with anyio.fail_after(20):
        async for state in job.changes():
            if state is remit.JobState.BLOCKED:
                break
        assert await job.stop(grace=3.0) == []
        values = [record.data async for record in job.receive() if record.stream == "value"]
    assert set(values) <= {bytes(100_000)}
    assert await job.wait() is remit.JobState.STOPPED
    with pytest.raises(remit.JobFailed, match="stopped"):
        await job.result()


def large_items() -> Iterator[bytes]:
    while True:
        yield bytes(100_000)


async def test_what_is_logged_at_exit_harms_no_result(session: remit.Session) -> None:
    job = await session.start(log_at_exit)
    assert await job.result() == "returned"


def log_at_exit() -> str:
    import atexit
    import logging

    atexit.register(logging.warning, "at exit")
    return "returned"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "package_for_the_road.py").write_text("GREETING = 'hello'\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield "package_for_the_road"
    sys.modules.pop("package_for_the_road", None)


def greet() -> tuple[str, int]:
    import os

    import package_for_the_road  # type: ignore[import-not-found]

    return package_for_the_road.GREETING, os.getpid()


@pytest.fixture
def mark() -> Iterator[Path]:
    """A file that other accounts may write."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        os.chmod(directory, 0o777)
        yield Path(directory, "mark")


async def test_calls_go_on_over_the_next_link(ssh_link: Link, package: str, mark: Path) -> None:
    target = f"ssh:alice?config={ssh_link.config}"
    async with remit.connect(target, reconnect=60, workers=2) as session:
        await session.ship(package)
        greeting, pid = await session.call(greet)
        assert greeting == "hello"
        lost: list[remit.RemitError] = []

        async def call() -> None:
            with pytest.raises(remit.LinkLost, match="was lost") as caught:
                await session.call(sleep, str(mark))
            lost.append(caught.value)

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call)
                sleeper = await told(mark)
                ssh_link.reset()
            assert len(lost) == 1
            again, another = await session.call(greet)
            assert (again, await (await session.start(greet)).result())[0] == "hello"
            assert another != pid
        await waits.gone(sleeper)

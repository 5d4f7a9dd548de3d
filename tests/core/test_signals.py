"""`Job.signal`: to the group of the job's first process, and to nobody else."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import anyio
import pytest

import remit
from remit._agent.base import process_tree
from remit._jobdir import proc
from remit._jobs.signals import signal_word
from remit._wire.refusal import Refused

pytestmark = pytest.mark.anyio

HEEDS = (
    "trap 'echo int; exit 7' INT; trap 'echo usr; exit 9' USR1; echo up; while :; do sleep 1; done"
)


@pytest.fixture(params=["return", "keep"])
def placement(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def up(job: remit.Job) -> None:
    """Until it has said so."""
    await anext(job.receive(keep=True))


async def test_it_is_the_job_that_says_what_comes_of_it(
    session: remit.Session, placement: str
) -> None:
    for name, status in (("INT", 7), ("sigusr1", 9), (2, 7), (signal.SIGUSR1, 9)):
        job = await session.start(HEEDS, placement=placement)
        await up(job)
        await job.signal(name)
        assert await job.wait() is remit.JobState.FAILED
        assert job.outcome is not None
        assert (job.outcome.exit_status, job.outcome.reason) == (status, "exited")


async def test_what_dies_of_it_has_failed(session: remit.Session, placement: str) -> None:
    job = await session.start(["sleep", "1000"], placement=placement)
    await job.signal("KILL")
    assert await job.wait() is remit.JobState.FAILED
    assert job.outcome is not None
    assert (job.outcome.signal, job.outcome.reason) == ("SIGKILL", "signalled")


async def test_the_whole_group_gets_it_and_who_left_it_does_not(
    session: remit.Session, placement: str
) -> None:
    away = "setsid sh -c 'trap \"echo away\" USR1; echo one; sleep 1; sleep 1000' &"
    near = "sh -c 'trap \"echo near; exit\" USR1; echo two; while :; do sleep 0.1; done' &"
    job = await session.start(f"trap : USR1; {away} {near} wait; wait; wait", placement=placement)
    seen = b""
    async for record in job.receive():
        assert isinstance(record.data, bytes)
        seen += record.data
        if seen.count(b"\n") == 2:
            await job.signal("USR1")
        if b"near" in seen:
            break
    assert b"away" not in seen
    assert await job.stop() == []


async def test_a_job_that_is_over_says_so(session: remit.Session, placement: str) -> None:
    job = await session.start(["true"], placement=placement)
    await job.wait()
    with pytest.raises(remit.JobStateError, match="is COMPLETED: nothing of it is signalled"):
        await job.signal("INT")
    assert job.info.pid is None


async def test_one_whose_first_process_has_ended_says_so(
    session: remit.Session, placement: str
) -> None:
    job = await session.start("sleep 1000 & echo $$", placement=placement)
    pid = int(await anext(job.lines(keep=True)))
    while os.path.exists(f"/proc/{pid}"):
        await anyio.sleep(0.01)
    # Its pipes are held open for a moment: it is not over yet.
    with pytest.raises(remit.JobStateError):
        await job.signal("INT")
    await job.stop()


async def test_what_is_no_signal(session: remit.Session, placement: str) -> None:
    job = await session.start(["sleep", "1000"], placement=placement)
    for wrong in ("", "no such", "0", 0, -1, 128, "9999999", "SIGé", "INT\n"):
        with pytest.raises(ValueError, match="is not a signal"):
            await job.signal(wrong)
    for kind in (None, True, 2.0, b"INT"):
        with pytest.raises(TypeError):
            await job.signal(kind)  # type: ignore[arg-type]
    for unknown in ("EMT", 127, "RTMIN+90"):
        with pytest.raises(remit.TargetError, match="there is no signal SIG"):
            await job.signal(unknown)
    assert job.state is remit.JobState.RUNNING
    await job.signal("RTMIN+1")
    await job.wait()
    assert job.outcome is not None
    assert job.outcome.signal == f"SIG{signal.SIGRTMIN + 1}"


async def test_a_suspended_one_gets_it_when_it_goes_on(
    session: remit.Session, placement: str
) -> None:
    job = await session.start(HEEDS, placement=placement)
    await up(job)
    await job.suspend()
    await job.signal("INT")
    assert job.state is remit.JobState.SUSPENDED
    await job.resume()
    assert await job.wait() is remit.JobState.FAILED


async def test_stop_and_cont_suspend_and_resume(session: remit.Session, placement: str) -> None:
    job = await session.start(HEEDS, placement=placement)
    await up(job)
    for name, state in (("STOP", "SUSPENDED"), ("CONT", "RUNNING")):
        await job.signal(name)
        with anyio.fail_after(20):
            while job.state != state:
                await job.refresh()
    await job.stop()


async def test_the_pid_is_that_of_the_first_process(session: remit.Session, placement: str) -> None:
    job = await session.start("echo $$; exec sleep 1000", placement=placement)
    pid = int(await anext(job.lines(keep=True)))
    assert job.info.pid == pid
    assert [info.pid for info in await session.jobs()] == [pid]
    await job.signal("TERM")
    await job.wait()
    assert [info.pid for info in await session.jobs()] == [None]


def _interrupted(path: str) -> str:
    try:
        Path(path).touch()
        time.sleep(1000)
    except KeyboardInterrupt:
        return "interrupted"
    return "slept"


async def test_a_function_gets_a_keyboard_interrupt(
    session: remit.Session, placement: str, tmp_path: Path
) -> None:
    job = await session.start(_interrupted, str(tmp_path / "up"), placement=placement)
    with anyio.fail_after(30):
        while not (tmp_path / "up").exists():
            await anyio.sleep(0.01)
    await job.signal("INT")
    assert await job.result() == "interrupted"


def test_a_pid_is_believed_with_its_start_time_alone() -> None:
    pid = os.posix_spawn("/bin/sleep", ["sleep", "1000"], {}, setsid=True)
    start = proc.start_time(pid)
    assert start is not None
    for wrong in (0, start + 1, start - 1):
        with pytest.raises(Refused, match="has ended"):
            process_tree.signal_group((pid, wrong), "SIGKILL")
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    assert process_tree.signal_group((pid, start), "SIGKILL") == signal.SIGKILL
    os.waitpid(pid, 0)
    with pytest.raises(Refused, match="has ended"):
        process_tree.signal_group((pid, start), "SIGKILL")


@pytest.mark.parametrize(
    ("word", "travels"),
    [
        ("int", "SIGINT"),
        ("SIGINT", "SIGINT"),
        ("2", "SIG2"),
        (2, "SIG2"),
        (signal.SIGINT, "SIGINT"),
        ("rtmax-2", "SIGRTMAX-2"),
    ],
)
def test_how_people_name_them(word: str | int, travels: str) -> None:
    assert signal_word(word) == travels

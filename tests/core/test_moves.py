"""What becomes of a kept job's state when its link is lost and made anew."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

import remit
from remit import JobState
from testbed.moves import Moves

from .conftest import Play, until
from .fake_agent import FakeAgent, agent_script, job_map, pack

pytestmark = pytest.mark.anyio

ID = "jaaaaaaaaaaaa"
_Step = Callable[[remit.Job], Awaitable[object]]


async def _nothing(job: remit.Job) -> None: ...


@pytest.mark.parametrize(
    ("before", "state"), [(_nothing, JobState.RUNNING), (remit.Job.suspend, JobState.SUSPENDED)]
)
async def test_a_job_is_found_as_it_was(before: _Step, state: JobState) -> None:
    async with remit.connect("local:") as session:
        job = await session.start(["sleep", "1000"], placement="keep")
        await before(job)
        assert await _over_a_new_link(session, job) == [JobState.DISCONNECTED, state]
        await job.remove(force=True)


async def test_a_job_that_is_being_stopped_is_found_so(tmp_path: Path) -> None:
    async with remit.connect("local:") as session:
        job = await session.start(
            f"trap '' TERM; touch {tmp_path}/up; while :; do sleep 1; done", placement="keep"
        )
        await session.run(until(tmp_path / "up"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(job.stop, 1000)
            await _becomes(job, JobState.STOPPING)
            tasks.cancel_scope.cancel()  # it goes on there
        seen = await _over_a_new_link(session, job)
        assert seen == [JobState.DISCONNECTED, JobState.STOPPING]
        assert await job.stop(grace=0) == []
        assert job.state is JobState.STOPPED


async def test_a_job_that_has_become_another_meanwhile_is_found_as_that(tmp_path: Path) -> None:
    async with remit.connect("local:") as session:
        job = await session.start(until(tmp_path / "end"), placement="keep")
        await job.suspend()
        async with remit.connect("local:") as other:
            twin = await other.job(job.id)
            _kill_the_agent(session)
            await _becomes(job, JobState.DISCONNECTED)
            await twin.resume()
            (tmp_path / "end").touch()
            await twin.wait()
        assert await job.wait() is JobState.COMPLETED


async def _over_a_new_link(session: remit.Session, job: remit.Job) -> list[JobState]:
    """The states that the job has from the loss of the link on, up to the first one in sight."""
    _kill_the_agent(session)
    seen: list[JobState] = []
    with anyio.fail_after(60):
        async for state in job.changes():
            if seen or state is JobState.DISCONNECTED:
                seen.append(state)
            if len(seen) > 1:
                break
    return seen


async def _becomes(job: remit.Job, wanted: JobState) -> None:
    with anyio.fail_after(60):
        async for state in job.changes():
            if state is wanted:
                return


def _kill_the_agent(session: remit.Session) -> None:
    assert session._hello is not None
    os.kill(session._hello.pid, signal.SIGKILL)


async def test_a_stop_that_is_outlived_leaves_a_job_that_runs(play: Play) -> None:
    async def script(agent: FakeAgent) -> None:
        job = job_map(ID, placement="keep")
        watch = 0
        async for channel, verb, _ in agent.requests():
            if verb == "find":
                agent.conversation.reply(channel, pack({"jobs": [job], "next": None}))
            elif verb == "watch":
                watch = channel
                agent.conversation.accept(channel, pack(job))
            elif verb == "stop":
                agent.conversation.event(watch, pack(["job", {**job, "state": "STOPPING"}]))
                agent.conversation.reply(channel, pack({"survivors": ["1 sudo"], "job": job}))

    play(agent_script(script))
    async with remit.connect("fake:", reconnect=0) as session:
        job = await session.job(ID)
        assert await job.stop() == ["1 sudo"]
        assert job.state is JobState.RUNNING


async def test_news_that_no_move_leads_to_are_older_ones(play: Play, moves: Moves) -> None:
    async def script(agent: FakeAgent) -> None:
        job = job_map(ID, placement="keep")
        async for channel, verb, _ in agent.requests():
            if verb == "find":
                agent.conversation.reply(channel, pack({"jobs": [job], "next": None}))
            elif verb == "watch":
                agent.conversation.accept(channel, pack(job))
                agent.conversation.event(channel, pack(["job", {**job, "state": "PENDING"}]))

    play(agent_script(script))
    async with remit.connect("fake:", reconnect=0) as session:
        job = await session.job(ID)
        await job.refresh()
        assert job.state is JobState.RUNNING
    assert moves.told == ["a job that was RUNNING is PENDING"]
    moves.told.clear()

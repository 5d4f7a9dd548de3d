"""What the agent could not do costs the channel that it was for: its job, its reader, its call."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
from pathlib import Path

import anyio
import pytest

import remit
from core.conftest import Play
from core.fake_agent import FakeAgent, agent_script, job_map, pack
from remit._wire import frames
from testbed import processes

pytestmark = pytest.mark.anyio

_marks = itertools.count(os.getpid() * 1000)  # nobody else's, in other workers either
BUG = {"code": "internal", "message": "the agent has a bug: KeyError('k')"}


async def started(agent: FakeAgent, placement: str) -> tuple[int, str]:
    channel, _, arguments = await agent.request()
    job_id: str = arguments["id"]
    agent.conversation.accept(channel, pack(job_map(job_id) | {"placement": placement}))
    await agent.flush()
    return channel, job_id


@pytest.mark.parametrize("placement", ["return", "keep"])
async def test_a_channel_that_ends_with_an_error_costs_its_job_alone(
    play: Play, placement: str
) -> None:
    async def sound(agent: FakeAgent) -> None:
        channel, _ = await started(agent, placement)
        agent.conversation.end(channel, pack({"error": BUG}))
        await agent.flush()
        channel, job_id = await started(agent, "return")
        end = job_map(job_id, "COMPLETED", outcome={"exit_status": 0, "reason": "exited"})
        agent.conversation.end(channel, pack({"job": end}))
        await agent.flush()
        await agent.next(frames.GOODBYE)
        agent.conversation.goodbye(pack({}))
        await agent.flush()

    play(agent_script(sound))
    async with remit.connect("fake:", reconnect=0) as session:
        job = await session.start(["true"], placement=placement)
        if placement == "keep":
            with pytest.raises(remit.RemitError, match="KeyError"):
                await job.wait()
            assert job.state is remit.JobState.DISCONNECTED
        else:
            assert await job.wait() is remit.JobState.LOST
            assert job.outcome is not None
            assert "KeyError" in str(job.outcome.error)
        other = await session.start(["true"])
        assert await other.wait() is remit.JobState.COMPLETED


@pytest.mark.parametrize("how", ["removed", "deleted"])
async def test_a_kept_job_that_is_gone_when_the_link_comes_back_is_waited_for_no_more(
    how: str,
) -> None:
    async with remit.connect("local:") as session, remit.connect("local:") as other:
        job = await session.start(["sleep", "1000"], placement="keep")
        assert session._hello is not None
        os.kill(session._hello.pid, signal.SIGSTOP)
        found = await other.job(job.id)
        if how == "removed":
            await found.remove(force=True)
        else:
            await found.stop()
            shutil.rmtree(Path(os.environ["REMIT_STATE_DIR"]) / "jobs" / job.id)
        os.kill(session._hello.pid, signal.SIGKILL)
        with anyio.fail_after(60):
            assert await job.wait() is remit.JobState.LOST
            states = [state async for state in job.changes()]
        assert states == [remit.JobState.LOST]
        assert job.outcome is not None
        assert job.outcome.reason == "removed"


@pytest.mark.parametrize(
    ("how", "verb"),
    [("started", "remove"), ("found", "stop"), ("found", "remove"), ("after a new link", "stop")],
)
async def test_a_running_job_whose_directory_is_deleted_is_reached_all_the_same(
    how: str, verb: str
) -> None:
    mark = f"sleep {next(_marks)}"
    async with remit.connect("local:") as session, remit.connect("local:") as other:
        job = await session.start(mark, placement="keep")
        if how == "found":
            job = await other.job(job.id)
        if how == "after a new link":
            assert session._hello is not None
            os.kill(session._hello.pid, signal.SIGKILL)
            with anyio.fail_after(60):
                while (await job.wait(disconnected=True)) is not remit.JobState.DISCONNECTED:
                    pass
                states = job.changes()
                while (await anext(states)) is not remit.JobState.RUNNING:
                    pass
        shutil.rmtree(Path(os.environ["REMIT_STATE_DIR"]) / "jobs" / job.id)
        assert processes.running(mark)
        if verb == "stop":
            assert await job.stop() == []
        else:
            await job.remove(force=True)
        assert not processes.running(mark)

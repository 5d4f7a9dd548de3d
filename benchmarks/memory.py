"""What remit holds in memory, here and there."""

import sys

import anyio

import remit
from benchmarks.place import Place
from benchmarks.sizes import private, resident
from benchmarks.table import Row, at_most
from remit import Session
from testbed import processes

_MB = 1e6


async def measure(place: Place) -> list[Row]:
    return [await _caller(place), *await _target(place)]


def agent_of(session: Session) -> int:
    """The pid of the agent of a local session; its hello told it."""
    assert session._hello is not None
    return session._hello.pid


async def _caller(place: Place) -> Row:
    count = place.amount(20)
    argv = [sys.executable, "-m", "benchmarks.open_sessions", place.loop]
    argv += [place.local_target("memory"), str(count)]
    done = await anyio.run_process(argv, stderr=None)
    remark = f"{count} local sessions"
    each = int(done.stdout) / _MB
    return Row("caller's memory per session", place.loop, each, at_most(1.0, "MB"), remark)


async def _target(place: Place) -> list[Row]:
    count = place.amount(100)
    async with remit.connect(place.local_target("memory")) as session:
        jobs = [await session.start(["sleep", "300"], placement="keep") for _ in range(count)]
        agent = agent_of(session)
        agent_size = resident(agent)
        supervisors = _supervisors(agent)
        each = sum(map(private, supervisors)) / max(1, len(supervisors))
        async with anyio.create_task_group() as tasks:
            for job in jobs:
                tasks.start_soon(job.stop)
        for job in jobs:
            await job.remove()
    assert len(supervisors) == count, f"{len(supervisors)} supervisors of {count} jobs"
    return [
        Row(f"agent with {count} running jobs", place.loop, agent_size / _MB, at_most(20.0, "MB")),
        Row("private memory per kept job", place.loop, each / _MB, at_most(1.2, "MB")),
    ]


def _supervisors(agent: int) -> list[int]:
    """The parents of the jobs' own processes, wherever they were put."""
    everyone = {process.pid: process for process in processes.everyone()}
    above = everyone[agent].parent
    family = {process.pid for process in processes.descendants([above])}
    return sorted(
        {
            process.parent
            for process in everyone.values()
            if process.name == "sleep" and process.parent in family
        }
    )

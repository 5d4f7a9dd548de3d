"""What is done to a job is done to nobody else, whoever has got its pid or its session since."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

import remit
from testbed import daemons, processes, run
from testbed.daemons import Daemon
from testbed.namespace import PidNamespace
from testbed.sshd import Sshd

pytestmark = [pytest.mark.anyio, pytest.mark.real]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"  # what is tried here is the agent


@pytest.mark.parametrize("taken", ["take_session", "take_pid"])
@pytest.mark.parametrize("recorded", [True, False], ids=["ended", "its supervisor killed"])
async def test_a_removal_by_force(pid_namespace: PidNamespace, taken: str, recorded: bool) -> None:
    state_dir = Path(os.environ["REMIT_STATE_DIR"])
    async with remit.connect(pid_namespace.target()) as session:
        job = await session.start(["sleep", "0" if recorded else "1000"], placement="keep")
        process = json.loads((state_dir / "jobs" / job.id / "process.json").read_text())
        if recorded:
            await job.wait()
        else:
            pids = [process["supervisor"]["pid"], process["pid"]]
            processes.kill([pid for inner in pids if (pid := pid_namespace.here(inner))])
        run.wait_until(lambda: pid_namespace.here(process["pid"]) is None, "it to be gone")
        getattr(pid_namespace, taken)(process["pid"])
        await job.stop(grace=0.1)
        await job.remove(force=True)
    assert pid_namespace.harmed() == []


async def test_cancelled_functions_and_a_lost_session(pid_namespace: PidNamespace) -> None:
    for delay in (0.0005, 0.05, 0.2):
        async with remit.connect(pid_namespace.target()) as session:
            with anyio.move_on_after(delay):
                await session.start(sleep, 1000.0)
            await session.start(["sleep", "1000"])
    assert pid_namespace.harmed() == []


def sleep(seconds: float) -> None:
    import time

    time.sleep(seconds)


def leave(line: str) -> None:
    import subprocess

    subprocess.run(line, shell=True, check=True)


@pytest.fixture(params=sorted(daemons.WAYS))
def daemon(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    with daemons.daemon(request.param) as one:
        yield one


@pytest.mark.parametrize("placement", ["return", "keep"])
async def test_what_a_function_leaves_runs_on_and_is_named(daemon: Daemon, placement: str) -> None:
    async with remit.connect("local:") as session:
        job = await session.start(leave, daemon.line, placement=placement)
        assert await job.wait() is remit.JobState.COMPLETED
        assert job.outcome is not None
        named = {int(words.split()[1]) for words in job.outcome.left_behind}
        assert named & set(daemon.pids)
    assert daemon.pids


@pytest.mark.parametrize("placement", ["return", "keep"])
async def test_run_leaves_it_too_and_removes_the_job(
    daemon: Daemon, placement: str, state_dir: Path
) -> None:
    async with remit.connect(f"local:?state={state_dir}") as session:
        await session.run(daemon.line, placement=placement)
        assert await session.jobs() == []
        await session.run(daemon.line, placement=placement, leftovers="stop")
    assert daemon.pids


async def test_the_environment_is_that_of_ssh(sshd: Sshd) -> None:
    config = sshd.config
    over_ssh = subprocess.run(
        ["ssh", "-F", config, "alice", "env", "-0"], capture_output=True, check=True
    )
    wanted = parsed(over_ssh.stdout)
    async with remit.connect(f"ssh:alice?config={config}") as session:
        found = parsed((await session.run(["env", "-0"])).stdout)
        noisy = await session.run(["bash", "-c", "echo only this"])
        called = await session.call(environment)
    assert found.pop("REMIT_JOB")
    for variable in ("_", "SHLVL", "SSH_CLIENT", "SSH_CONNECTION"):
        wanted.pop(variable, None)
        found.pop(variable, None)
    assert found == wanted
    assert set(called) - {"REMIT_JOB", "SHLVL", "SSH_CLIENT", "SSH_CONNECTION"} == set(wanted)
    assert noisy.stdout == b"only this\n"


def environment() -> list[str]:
    import os

    return list(os.environ)


def parsed(printed: bytes) -> dict[str, str]:
    # What rc files printed comes before the first variable.
    entries = [os.fsdecode(entry).rpartition("\n") for entry in printed.split(b"\0") if entry]
    return dict((entry[2] or entry[0]).split("=", 1) for entry in entries)

"""The three workflows, whole, at every place and on both event loops."""

from __future__ import annotations

import subprocess
import sys

import pytest

import remit
from enter.screen import Screen

pytestmark = [pytest.mark.anyio, pytest.mark.real]

_ENTER = """
import sys, anyio
from remit.cli._enter import enter
sys.exit(anyio.run(enter, sys.argv[1], backend=sys.argv[2]))
"""


def test_interactive(target: str, anyio_backend: str) -> None:
    """Enter, start a job that lists a log, see it completed, receive it into a file there, leave;
    from a new session read that file."""
    file = f"/tmp/remit-workflow-{remit.new_job_id()}"
    with Screen([sys.executable, "-c", _ENTER, target, anyio_backend]) as screen:
        screen.wait_for(r"^\[\S+\] ")  # the prompt shows where you are
        screen.type("echo wel''come\n")
        screen.wait_for("welcome")
        screen.type("remit start --name log -- sh -c 'echo line one; echo line two'\n")
        screen.wait_for(r"j[a-z2-7]{12}")
        screen.type("remit wait log; echo wai''ted\n")
        screen.wait_for("waited")
        screen.type("remit jobs\n")
        screen.wait_for(r"log +Completed +True +localhost")
        screen.type(f"remit receive log > {file}; remit jobs\n")
        screen.wait_for(r"log +Completed +False +localhost")
        screen.type("exit 7\n")
        assert screen.process.wait(20) == 7
    again = subprocess.run(
        [sys.executable, "-m", "remit.cli", "run", target, "--", "cat", file],
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert again.stdout == b"line one\nline two\n"
    gone = subprocess.run(
        [sys.executable, "-m", "remit.cli", "jobs", target, "--json"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert b'"log"' not in gone.stdout  # the job went with its session


async def test_return_to_caller(target: str) -> None:
    script = "echo out; echo err >&2; sleep 0.2; echo more; exit 3"
    async with remit.start(target, script) as job:
        records: list[remit.Record] = [record async for record in job.receive()]
        assert await job.wait() is remit.JobState.FAILED
        assert job.outcome == remit.Outcome(exit_status=3, reason="exited")
    assert b"".join(r.data for r in records if r.stream == "stdout") == b"out\nmore\n"
    assert b"".join(r.data for r in records if r.stream == "stderr") == b"err\n"


_FETCH = """
import sys, anyio, remit

async def fetch(target, name):
    async with remit.connect(target) as session:
        job = await session.job(name)
        async for record in job.receive():
            sys.stdout.buffer.write(record.data)
        await job.wait()
        sys.stdout.flush()
        return job.outcome.exit_status

sys.exit(anyio.run(fetch, *sys.argv[1:3], backend=sys.argv[3]))
"""


async def test_keep_on_remote(target: str, anyio_backend: str) -> None:
    name = f"kept-{remit.new_job_id()}"
    script = "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done; exit 4"
    async with remit.connect(target) as session:
        job = await session.start(script, placement="keep", name=name)
        assert job.state is remit.JobState.RUNNING
    # Another process, another session; twice works twice.
    for expected in (b"1\n2\n3\n4\n5\n", b""):
        fetched = subprocess.run(
            [sys.executable, "-c", _FETCH, target, name, anyio_backend],
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert (fetched.stdout, fetched.returncode) == (expected, 4), fetched.stderr.decode()
    async with remit.connect(target) as session:
        found = [info for info in await session.jobs() if info.name == name]
        assert [(info.state, info.has_more_data) for info in found] == [("FAILED", False)]
        await (await session.job(name)).remove()
        assert name not in [info.name for info in await session.jobs()]

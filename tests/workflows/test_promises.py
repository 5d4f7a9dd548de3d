"""What users have been burnt by, tried for real: a killed caller, a flood of output."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import remit
from testbed import processes, waits

pytestmark = [pytest.mark.anyio, pytest.mark.real]

_KILLED = """
import os, signal, sys, anyio, remit

async def main(target, name, mark):
    async with remit.connect(target) as session:
        await session.start(["sleep", mark])
        job = await session.start(["seq", "1", "1000000"], placement="keep", name=name)
        async for record in job.receive(keep=True):
            os.kill(os.getpid(), signal.SIGKILL)

anyio.run(main, *sys.argv[1:4], backend=sys.argv[4])
"""


async def test_a_killed_caller_loses_no_line(target: str, anyio_backend: str) -> None:
    name, mark = f"million-{remit.new_job_id()}", f"{100_000 + time.monotonic_ns() % 899_999}.5"
    caller = subprocess.run(
        [sys.executable, "-c", _KILLED, target, name, mark, anyio_backend],
        timeout=60,
        check=False,
    )
    assert caller.returncode == -signal.SIGKILL
    await waits.gone(*processes.running(f"sleep {mark}"))
    async with remit.connect(target) as session:
        job = await session.job(name)
        records: list[remit.Record] = [record async for record in job.receive()]
        output = b"".join(record.data for record in records)
        assert output == b"".join(b"%d\n" % number for number in range(1, 1_000_001))
        assert await job.wait() is remit.JobState.COMPLETED
        assert job.outcome == remit.Outcome(exit_status=0, reason="exited")
        await job.remove()


_FLOOD = """
import hashlib, sys, anyio, remit

def high_water(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))

async def main(target):
    async with remit.connect(target) as session:
        agent = session._hello.pid
        job = await session.start(["head", "-c", str(2 << 30), "/dev/zero"])
        size = 0
        async for record in job.receive():
            if not size:
                await job.wait()  # it all comes before we read on
            size += len(record.data)
            assert not record.data.strip(b"\\0")
        print(size, high_water("self"), high_water(agent))

anyio.run(main, sys.argv[1], backend=sys.argv[2])
"""


async def test_two_gigabytes_received_slowly_take_little_memory(anyio_backend: str) -> None:
    flood = subprocess.run(
        [sys.executable, "-c", _FLOOD, "local:", anyio_backend],
        stdout=subprocess.PIPE,
        timeout=300,
        check=True,
    )
    size, caller, agent = map(int, flood.stdout.split())
    assert size == 2 << 30
    assert caller < 150 << 10
    assert agent < 150 << 10


async def test_a_kept_flood_passes_the_agent_by(tmp_path: Path) -> None:
    async with remit.connect("local:") as session:
        job = await session.start(["head", "-c", str(200 << 20), "/dev/zero"], placement="keep")
        await job.wait()
        assert session._hello is not None
        written = Path(f"/proc/{session._hello.pid}/io").read_text()
        through = int(written.split("wchar: ")[1].split()[0])
        assert through < 1 << 20
        await job.save(tmp_path / "out")
        assert (tmp_path / "out").stat().st_size == 200 << 20
        await job.remove()
    assert os.listdir(os.path.join(os.environ["REMIT_STATE_DIR"], "jobs")) == []

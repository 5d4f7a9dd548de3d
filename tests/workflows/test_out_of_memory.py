"""Two ways to be out of memory: Python says so itself, or the kernel ends the process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import remit
from testbed import needs

pytestmark = [pytest.mark.anyio, pytest.mark.real]

_V1 = Path("/sys/fs/cgroup/memory")
_LIMIT = 48 << 20


@pytest.fixture
def small() -> Iterator[str]:
    """The file by which a process puts itself where there is little memory."""
    needs.root("a group of processes with little memory")
    parent, limit = (_V1, "memory.limit_in_bytes") if _V1.exists() else (_V1.parent, "memory.max")
    group = parent / f"remit-{os.getpid()}"
    group.mkdir()
    try:
        (group / limit).write_text(str(_LIMIT))
        yield str(group / "cgroup.procs")
    finally:
        group.rmdir()


def fill(group: str) -> int:
    import os

    with open(group, "w") as file:
        file.write(str(os.getpid()))
    return len(bytearray(400 << 20))


def ask_for_too_much() -> int:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    return len(bytearray(2 << 30))


@pytest.mark.parametrize("placement", ["return", "keep"])
async def test_the_kernel_ended_it(small: str, placement: str, tmp_path: Path) -> None:
    async with remit.connect(f"local:?state={tmp_path}") as session:
        job: remit.Job = await session.start(fill, small, placement=placement)
        with pytest.raises(remit.JobFailed, match="out-of-memory killer") as caught:
            await job.result()
        assert (caught.value.signal, caught.value.reason) == ("SIGKILL", "signalled")
        assert job.outcome is not None
        assert job.outcome.note == "the kernel's out-of-memory killer ended a process meanwhile"

        job = await session.start("kill -9 $$", placement=placement)
        assert await job.wait() is remit.JobState.FAILED
        assert job.outcome is not None
        assert (job.outcome.signal, job.outcome.note) == ("SIGKILL", None)


@pytest.mark.parametrize("placement", ["return", "keep"])
async def test_python_said_so(placement: str, tmp_path: Path) -> None:
    async with remit.connect(f"local:?state={tmp_path}") as session:
        job = await session.start(ask_for_too_much, placement=placement)
        with pytest.raises(remit.JobFailed, match="raised MemoryError") as caught:
            await job.result()
        assert (caught.value.type, caught.value.exit_status) == ("MemoryError", 1)

"""Two accounts on one target: what one of them keeps is nobody else's to see or to touch."""

from __future__ import annotations

import json
import pwd
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest

import remit
from remit import JobState
from testbed.accounts import ACCOUNTS
from testbed.sshd import Sshd

pytestmark = [pytest.mark.anyio, pytest.mark.real]

_SECRET = "word-of-alice"


@attrs.frozen
class Kept:
    """A job of alice's that runs, and has printed the secret."""

    job: remit.Job
    state: Path
    pids: dict[str, int]
    """Of its first process and of its supervisor."""

    @property
    def directory(self) -> Path:
        return self.state / "jobs" / self.job.id


def home(name: str) -> Path:
    return Path(pwd.getpwnam(ACCOUNTS[name][0]).pw_dir)


@pytest.fixture(params=["her home", "where all may pass"])
def state(request: pytest.FixtureRequest, run_directory: Path) -> Path:
    """A state directory that is not there yet, named to both."""
    if request.param == "her home":
        return home("alice") / ".local" / "state" / remit.new_job_id()
    passage = run_directory / remit.new_job_id()
    passage.mkdir(mode=0o755)
    alice = pwd.getpwnam(ACCOUNTS["alice"][0])
    shutil.chown(passage, alice.pw_uid, alice.pw_gid)
    return passage / "state"


@asynccontextmanager
async def kept_by_alice(sshd: Sshd, state: Path) -> AsyncIterator[Kept]:
    async with remit.connect(f"ssh:alice?config={sshd.config}&state={state}") as session:
        job = await session.start(
            f"echo {_SECRET}; sleep 1000", placement="keep", name="hers", env={"WORD": _SECRET}
        )
        async for record in job.receive(keep=True):
            assert record.data == f"{_SECRET}\n".encode()
            break
        process = json.loads((state / "jobs" / job.id / "process.json").read_text())
        pids = {"job": process["pid"], "supervisor": process["supervisor"]["pid"]}
        yield Kept(job, state, pids)
        # Whatever was tried, it runs on as it did.
        await job.refresh()
        assert job.state is JobState.RUNNING
        assert await job.stop() == []
        await job.remove()


async def test_another_account_gets_nowhere_by_hand(sshd: Sshd, state: Path) -> None:
    async with (
        kept_by_alice(sshd, state) as kept,
        remit.connect(f"ssh:bob?config={sshd.config}") as bob,
    ):
        tries = {
            f"ls {kept.state}": "Permission denied",
            f"ls {kept.directory}": "Permission denied",
            f"rm -rf {kept.directory}": "Permission denied",
            f"echo s > {kept.directory}/wake": "Permission denied",
            f"echo '{{}}' > {kept.directory}/ask/stop-1": "Permission denied",
            f"flock -n {kept.directory} true": "Permission denied",
        }
        for name in ("job.json", "process.json", "stdout", "stderr", "index", "lock"):
            tries[f"cat {kept.directory}/{name}"] = "Permission denied"
        for pid in kept.pids.values():
            tries[f"/bin/kill -TERM {pid}"] = "not permitted"
            tries[f"/bin/kill -KILL {pid}"] = "not permitted"
            tries[f"cat /proc/{pid}/environ"] = "Permission denied"
            tries[f"ls /proc/{pid}/fd"] = "Permission denied"
        for line, words in tries.items():
            done = await bob.run(line)
            assert done.exit_status != 0, line
            assert words in done.stderr.decode(), line
            assert done.stdout == b"", line


async def test_another_account_gets_nowhere_through_remit(sshd: Sshd, state: Path) -> None:
    async with (
        kept_by_alice(sshd, state) as kept,
        remit.connect(f"ssh:bob?config={sshd.config}") as bob,
        remit.connect(f"ssh:bob?config={sshd.config}&state={state}") as prying,
    ):
        # Where bob keeps his own there is nothing of hers.
        assert kept.job.id not in [job.id for job in await bob.jobs()]
        with pytest.raises(remit.JobNotFound, match="no job"):
            await bob.job(kept.job.id)
        # Named the place where she keeps it, remit says what is in the way.
        for attempt in (prying.jobs, lambda: prying.job(kept.job.id), lambda: prying.job("hers")):
            with pytest.raises(remit.TargetError, match=f"{state}: Permission denied"):
                await attempt()
        with pytest.raises(remit.TargetError, match="Permission denied"):
            await prying.start(["true"], placement="keep")


async def test_nothing_of_a_job_stands_in_a_command_line_that_all_can_see(sshd: Sshd) -> None:
    """But its own command. Of the agent's no word is about what it runs."""
    async with remit.connect(f"ssh:alice?config={sshd.config}") as session:
        job = await session.start(
            "cat > /dev/null; sleep 1000",
            stdin=remit.PIPE,
            name=f"name-{_SECRET}",
            env={"WORD": f"env-{_SECRET}"},
        )
        await job.send(f"stdin-{_SECRET}".encode())
        async with remit.connect(f"ssh:bob?config={sshd.config}") as bob:
            listed = (await bob.run("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '")).stdout
        assert b"sleep 1000" in listed
        assert _SECRET.encode() not in listed
        await job.stop()

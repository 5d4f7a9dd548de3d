"""A long list of jobs: printed as it comes, whole, and soon.

A tenth of what is promised is made here. With ``REMIT_FULL_SIZE`` in the environment it is all of
it, and the times are told.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

import remit
from cli.program import REMIT, Cli
from remit.cli import _jobs, _render
from testbed.accounts import ACCOUNTS
from testbed.sshd import Sshd

FULL = bool(os.environ.get("REMIT_FULL_SIZE"))
COUNT = 10_000 if FULL else 6_000
# What is promised for 10,000; a computer that runs other tests beside this one gets more time.
LIMIT = 1.0 if FULL else 5.0


@pytest.fixture(scope="module")
def many(sshd: Sshd) -> Iterator[str]:
    """A target over ssh where `COUNT` finished jobs are kept, ages and names going together."""
    account = pwd.getpwnam(ACCOUNTS["quiet"][0])
    state = Path(account.pw_dir) / f"state-{remit.new_job_id()}"
    target = f"ssh:quiet?config={sshd.config}&state={state}"
    subprocess.run(
        [REMIT, "start", "--keep", "--name", "pattern", target, "--", "true"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    subprocess.run([REMIT, "wait", "--on", target, "pattern"], check=True, capture_output=True)
    (pattern,) = (state / "jobs").iterdir()
    files = {name: (pattern / name).read_bytes() for name in ("job.json", "outcome.json")}
    files["stdout"] = files["stderr"] = b""
    made = json.loads(files["job.json"])
    for number in range(1, COUNT):
        copy = pattern.parent / remit.new_job_id()
        copy.mkdir(mode=0o700)
        named = {**made, "id": copy.name, "name": f"n{number}", "created": 1e9 + number}
        files["job.json"] = json.dumps(named).encode()
        for name, data in files.items():
            (copy / name).write_bytes(data)
            os.chmod(copy / name, 0o600)
            os.chown(copy / name, account.pw_uid, account.pw_gid)
        os.chown(copy, account.pw_uid, account.pw_gid)
    yield target
    shutil.rmtree(state)


@pytest.mark.real
def test_thousands_of_jobs_are_listed_over_ssh(cli: Cli, many: str) -> None:
    lines = cli.answer("jobs", many).splitlines()
    assert lines[0].split() == ["ID", "NAME", "STATE", "HASMOREDATA", "LOCATION", "COMMAND"]
    ids = [line.split()[0] for line in lines[1:]]
    assert len(set(ids)) == len(ids) == COUNT
    assert all(re.fullmatch(r"j\w{12}  (n\d+|pattern) +Completed +False +quiet +true", line)
               for line in lines[1:])  # fmt: skip
    listed = json.loads(cli("jobs", "--json", many).stdout)
    assert [job["id"] for job in listed] == ids


@pytest.mark.real
def test_who_has_read_enough_does_not_wait_for_the_rest(cli: Cli, many: str) -> None:
    """As `head` would: the program ends as one whose reader has gone."""
    with cli.running("jobs", many) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"ID")
        process.stdout.close()
        assert process.wait(20) == 141
        assert process.stderr is not None
        assert process.stderr.read() == b""


@pytest.mark.real
@pytest.mark.anyio
async def test_the_list_is_there_soon(many: str) -> None:
    async with remit.connect(many) as session:
        began = time.monotonic()
        found = await session.jobs()
        took = time.monotonic() - began
    assert len(found) == COUNT
    print(f"{COUNT} jobs listed over ssh in {took:.2f} s")
    assert took < LIMIT
    assert [job.name for job in found[:3]] == ["n1", "n2", "n3"]
    assert found[-1].name == "pattern"


class _Slow:
    """A session whose second page comes when it is let."""

    def __init__(self) -> None:
        self.let = anyio.Event()
        self.asked: list[str | None] = []

    async def _kept_jobs(self, after: str | None) -> tuple[list[remit.JobInfo], str | None]:
        self.asked.append(after)
        if after is None:
            return [_job("jaaaaaaaaaaaa", "short")], "jaaaaaaaaaaaa"
        await self.let.wait()
        return [_job("jbbbbbbbbbbbb", "a-longer-name")], None


def _job(job_id: str, name: str) -> remit.JobInfo:
    return remit.JobInfo(
        id=job_id,
        name=name,
        state=remit.JobState.COMPLETED,
        location="build7",
        command=("make",),
        placement="keep",
        lifetime="detached",
        has_more_data=False,
        created=None,
    )


@pytest.mark.anyio
@pytest.mark.parametrize("as_json", [False, True])
async def test_what_came_is_printed_while_the_rest_is_awaited(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], as_json: bool
) -> None:
    session = _Slow()

    @asynccontextmanager
    async def connect(target: str) -> AsyncIterator[_Slow]:
        yield session

    monkeypatch.setattr(remit, "connect", connect)
    listing = _render.JobArray() if as_json else _render.JobTable(None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_jobs.show_kept, "ssh:build7", listing)
        await anyio.wait_all_tasks_blocked()
        first = capfdbinary.readouterr().out
        assert session.asked == [None, "jaaaaaaaaaaaa"]
        assert b"jaaaaaaaaaaaa" in first
        session.let.set()
    rest = capfdbinary.readouterr().out
    assert b"jbbbbbbbbbbbb" in rest
    if as_json:
        assert [job["name"] for job in json.loads(first + rest)] == ["short", "a-longer-name"]
    else:
        assert (first + rest).decode().splitlines() == [
            "ID             NAME   STATE      HASMOREDATA  LOCATION  COMMAND",
            "jaaaaaaaaaaaa  short  Completed  False        build7    make",
            "jbbbbbbbbbbbb  a-longer-name  Completed  False        build7    make",
        ]

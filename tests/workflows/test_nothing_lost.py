"""Kept jobs survive everything short of their own machine: links that are cut, processes that are
killed on either side, a disk that is full.

Sizes and times are scaled down. With ``REMIT_FULL_SIZE`` in the environment they are as large as
what is promised, and the times are told.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

import remit
from remit import JobState, SessionState
from testbed import needs, processes, waits
from testbed.accounts import ACCOUNTS
from testbed.link import Link
from testbed.sshd import Sshd

pytestmark = [pytest.mark.anyio, pytest.mark.real]

FULL = bool(os.environ.get("REMIT_FULL_SIZE"))
LAST = 59_500_000 if FULL else 6_700_000  # seq prints 500 MiB, or 50
CUT = 60.0 if FULL else 4.0  # seconds
SILENCE = 15.0 if FULL else 2.0
# Seconds from when a link is possible until the handle works again.
BACK_WITHIN = 10.0
GONE_WITHIN = 30.0

# It ends by itself, should the test fail before it is stopped.
_COUNT = "i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); sleep 0.02; done"


def ssh_target(config: Path) -> str:
    """With a state directory of its own: other runs share the account."""
    home = pwd.getpwnam(ACCOUNTS["quiet"][0]).pw_dir
    return f"ssh:quiet?config={config}&state={home}/.local/state/{remit.new_job_id()}"


def alive(sleeping: str) -> list[int]:
    return processes.running(f"sleep {sleeping}")


@pytest.fixture
def mark() -> Iterator[str]:
    """Seconds that no other job sleeps; who still does at the end is ended."""
    seconds = f"{100_000 + time.monotonic_ns() % 899_999}.5"
    yield seconds
    processes.kill(alive(seconds))


async def ended(sleeping: str) -> None:
    await waits.gone(*alive(sleeping), within=GONE_WITHIN)
    assert alive(sleeping) == []


async def first_line(job: remit.Job) -> None:
    async for _ in job.receive(keep=True):
        return


# -- a cut in the middle of a long answer


def sha256_of_seq(last: int) -> str:
    digest = hashlib.sha256()
    with subprocess.Popen(["seq", str(last)], stdout=subprocess.PIPE) as seq:
        assert seq.stdout is not None
        while data := seq.stdout.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()


async def test_a_cut_while_receiving_is_a_pause(ssh_link: Link) -> None:
    """The loop goes on by itself, and all bytes are there, once and in order."""
    digest, size = hashlib.sha256(), 0
    cut_at = healed_at = back_at = 0.0
    seen: list[SessionState] = []

    async def watch(session: remit.Session) -> None:
        async for state in session.changes():
            seen.append(state)

    async def heal() -> None:
        nonlocal healed_at
        await anyio.sleep(CUT)
        ssh_link.heal()
        healed_at = time.monotonic()

    began = time.monotonic()
    async with (
        remit.connect(ssh_target(ssh_link.config), silence=SILENCE) as session,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(watch, session)
        job = await session.start(["seq", str(LAST)], placement="keep")
        async for record in job.receive():
            assert isinstance(record.data, bytes)
            assert (record.stream, record.offset) == ("stdout", size)
            digest.update(record.data)
            size += len(record.data)
            if not cut_at and size > LAST * 4:
                ssh_link.cut()
                cut_at = time.monotonic()
                tasks.start_soon(heal)
            if healed_at and not back_at:
                back_at = time.monotonic()
        assert seen == [SessionState.OPEN, SessionState.RECONNECTING, SessionState.OPEN]
        assert await job.wait() is JobState.COMPLETED
        assert not job.has_more_data
        took = time.monotonic() - began
        await job.remove()
        tasks.cancel_scope.cancel()
    assert digest.hexdigest() == sha256_of_seq(LAST)
    assert back_at - healed_at < BACK_WITHIN
    print(
        f"{size} bytes, cut for {healed_at - cut_at:.1f} s, in {took:.1f} s; "
        f"the loop went on {back_at - healed_at:.1f} s after the link was whole"
    )


# -- processes that are killed


def _agent(session: remit.Session, link: Link | None) -> list[int]:
    assert session._hello is not None
    return [session._hello.pid]


def _client(session: remit.Session, link: Link | None) -> list[int]:
    name = session.target.partition(":")[0]
    return [p.pid for p in processes.descendants([os.getpid()]) if p.name == name]


def _server(session: remit.Session, link: Link | None) -> list[int]:
    assert link is not None
    return link.sshd.session_pids("quiet")


_VICTIMS: dict[str, tuple[str, Callable[[remit.Session, Link | None], list[int]]]] = {
    "agent": ("ssh", _agent),
    "ssh client": ("ssh", _client),
    "sshd's session process": ("ssh", _server),
    "docker client": ("docker", _client),
}


@pytest.mark.parametrize("victim", list(_VICTIMS))
async def test_who_is_killed_takes_no_kept_job_along(
    victim: str, request: pytest.FixtureRequest
) -> None:
    place, find = _VICTIMS[victim]
    if place == "ssh":
        link = request.getfixturevalue("ssh_link")
        target = ssh_target(link.config)
    else:
        link = None
        target = f"docker:{request.getfixturevalue('docker').python}"
    async with remit.connect(target) as session:
        job = await session.start(_COUNT, placement="keep")
        reader = job.receive()
        records: list[remit.Record] = [await anext(reader) for _ in range(3)]
        states = session.changes()
        assert await anext(states) is SessionState.OPEN
        pids = find(session, link)
        assert len(pids) == 1
        processes.kill(pids)
        killed_at = time.monotonic()
        with anyio.fail_after(BACK_WITHIN):
            assert await anext(states) is SessionState.RECONNECTING
            assert await anext(states) is SessionState.OPEN
            await job.refresh()
            assert job.state is JobState.RUNNING
            again = await session.job(job.id)
            assert again.started == job.started
            # More than was written before the kill.
            records += [await anext(reader) for _ in range(20)]
        print(f"{victim}: it worked again {time.monotonic() - killed_at:.1f} s after the kill")
        assert await job.stop() == []
        # Its shell may have complained of that.
        records += [record async for record in reader if record.stream == "stdout"]
        data = b"".join(record.data for record in records)
        assert await job.wait() is JobState.STOPPED
        await job.remove()
    count = data.count(b"\n")
    assert data == b"".join(b"%d\n" % number for number in range(count))


@pytest.mark.parametrize("place", ["local", "ssh"])
async def test_what_is_bound_to_a_session_ends_with_its_agent(
    place: str, mark: str, request: pytest.FixtureRequest
) -> None:
    """Its daemons too; detached jobs run on."""
    target = "local:" if place == "local" else ssh_target(request.getfixturevalue("sshd").config)
    returned, kept, detached = f"{mark}1", f"{mark}2", f"{mark}3"

    def tree(seconds: str) -> str:
        return f"setsid sleep {seconds} & (sleep {seconds} &); echo up; sleep {seconds}"

    try:
        async with remit.connect(target) as session:
            await first_line(await session.start(tree(returned)))
            await first_line(await session.start(tree(kept), placement="keep", lifetime="session"))
            job = await session.start(tree(detached), placement="keep")
            await first_line(job)
            # A sleep that is on its way, and its shell.
            assert len(alive(returned)) >= 3
            assert len(alive(kept)) >= 3
            processes.kill(_agent(session, None))
            began = time.monotonic()
            await ended(returned)
            await ended(kept)
            print(f"{place}: they were gone {time.monotonic() - began:.1f} s after the agent")
            assert len(alive(detached)) >= 3
            with anyio.fail_after(BACK_WITHIN):
                await job.refresh()
            assert job.state is JobState.RUNNING
            assert await job.stop() == []
            assert alive(detached) == []
            await job.remove()
    finally:
        for seconds in (returned, kept, detached):
            processes.kill(alive(seconds))


async def failed(job: remit.Job) -> remit.CommandResult | None:
    with pytest.raises(remit.JobFailed, match="supervisor-lost") as caught:
        await job.result()
    return caught.value.result


async def test_without_its_supervisor_a_job_is_lost_and_stop_finds_its_processes(
    mark: str, state_dir: Path
) -> None:
    async with remit.connect(f"local:?state={state_dir}") as session:
        job = await session.start(
            f"trap '' PIPE; (setsid sleep {mark} &); echo so far; echo and this >&2; sleep {mark}",
            placement="keep",
        )
        reader = job.receive(keep=True)
        got = [await anext(reader) for _ in range(2)]
        assert sorted(record.data for record in got) == [b"and this\n", b"so far\n"]
        path = state_dir / "jobs" / job.id / "process.json"
        processes.kill([json.loads(path.read_text())["supervisor"]["pid"]])
        with anyio.fail_after(BACK_WITHIN):
            assert await job.wait() is JobState.LOST
        assert job.outcome == remit.Outcome(reason="supervisor-lost")
        with pytest.raises(remit.JobFailed, match="supervisor-lost"):
            await anext(reader)
        result = await failed(job)
        assert result is not None
        assert (result.stdout, result.stderr) == (b"so far\n", b"and this\n")
        assert len(alive(mark)) >= 2
        assert await job.stop() == []
        assert alive(mark) == []
        assert job.state is JobState.LOST  # what it came to is not known any better


# -- a disk that is full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    needs.root("mounting a small file system")
    path = tmp_path / "small"
    path.mkdir()
    options = ["-o", "size=16m,mode=0700"]
    subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", "-l", path], check=True)


@contextmanager
def gate(path: Path) -> Iterator[Callable[[], None]]:
    """A FIFO that holds up whoever reads it until the gate is opened."""
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR)

    def open_it() -> None:
        os.write(fd, b"go\n")

    yield open_it
    os.close(fd)


async def test_a_full_disk_stops_who_fills_it_and_nobody_else(
    small_disk: Path, tmp_path: Path
) -> None:
    with gate(tmp_path / "gate") as open_it:
        wait = f"read word < {tmp_path / 'gate'}; exit 5"
        async with remit.connect(f"local:?state={small_disk}") as session:
            quiet = await session.start(wait, placement="keep")
            returned = await session.start("cat", stdin=remit.PIPE)
            flood = await session.start(
                ["head", "-c", str(100 << 20), "/dev/zero"], placement="keep"
            )
            with anyio.fail_after(30):
                assert await flood.wait() is JobState.FAILED
            assert flood.outcome is not None
            assert flood.outcome.reason == "no-space"
            assert "No space left" in str(flood.outcome.error)
            recorded = json.loads((small_disk / "jobs" / flood.id / "outcome.json").read_text())
            written = (small_disk / "jobs" / flood.id / "stdout").stat().st_size
            assert (recorded["reason"], recorded["sizes"]["stdout"]) == ("no-space", written)
            # The session is as it was, and so are its other jobs; their ends are written down.
            assert session.state is SessionState.OPEN
            assert (await session.run(["echo", "alive"])).stdout == b"alive\n"
            await returned.send(b"still here")
            await returned.send_eof()
            assert (await returned.result()).stdout == b"still here"
            await quiet.refresh()
            assert quiet.state is JobState.RUNNING
            open_it()
            assert await quiet.wait() is JobState.FAILED
            assert quiet.outcome == remit.Outcome(exit_status=5, reason="exited")
            size = [record.end async for record in flood.receive(keep=True)][-1]
            assert size == written > 12 << 20
            for job in (quiet, flood):
                await job.remove()


# -- much output


async def test_ten_gibibytes_are_read_from_the_middle_at_once(
    sshd: Sshd,
) -> None:
    """Of a job that printed little the files are made as if it had printed that much."""
    size, piece = 10 << 30, 1 << 18
    target = ssh_target(sshd.config)
    state = Path(target.partition("state=")[2])
    async with remit.connect(target) as session:
        job = await session.start(["true"], placement="keep")
        await job.wait()
        directory = state / "jobs" / job.id
        middle = size // 2 + 12345
        with (directory / "stdout").open("r+b") as file:
            file.truncate(size)
            file.seek(middle)
            file.write(b"the middle")
        lines = [f"{1e9:17.6f} stdout   {at:020} {piece:015}\n" for at in range(0, size, piece)]
        assert {len(line) for line in lines} == {64}
        (directory / "index").write_text("".join(lines))
        outcome = json.loads((directory / "outcome.json").read_text())
        outcome["sizes"]["stdout"] = size
        (directory / "outcome.json").write_text(json.dumps(outcome))
        # As a consuming reader left it.
        marks = directory / "marks.json"
        marks.write_text(json.dumps({"stdout": middle, "stderr": 0, "reader": "earlier"}))
        owner = (directory / "stdout").stat()
        os.chown(marks, owner.st_uid, owner.st_gid)
        marks.chmod(0o600)
    async with remit.connect(target) as session:
        began = time.monotonic()
        job = await session.job(job.id)
        async for record in job.receive():
            took = time.monotonic() - began
            assert record.offset == middle
            assert isinstance(record.data, bytes)
            assert record.data.startswith(b"the middle")
            break
        print(f"the middle of 10 GiB was there after {took:.3f} s")
        assert took < 1.0
        await job.remove()


async def test_what_a_slow_reader_used_up_stays_used_up(tmp_path: Path) -> None:
    """Also where the agent was killed, and all there is has been sent to the reader by now."""
    async with remit.connect(f"local:?state={tmp_path}") as session:
        count = "for i in 1 2 3 4 5 6 7 8 9; do echo $i; sleep 0.05; done"
        job = await session.start(count, placement="keep")
        await job.wait()
        reader = job.receive()
        await anext(reader)
        states = session.changes()
        await anext(states)
        assert session._hello is not None
        processes.kill([session._hello.pid])
        assert await anext(states) is SessionState.RECONNECTING
        assert await anext(states) is SessionState.OPEN
        for _ in range(4):
            record = await anext(reader)
        marks = tmp_path / "jobs" / job.id / "marks.json"
        with anyio.fail_after(10):
            while json.loads(marks.read_text())["stdout"] != record.offset:
                await anyio.sleep(0.05)

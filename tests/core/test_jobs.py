"""Jobs and their results: the same promises for both placements, on the real agent."""

from __future__ import annotations

import hashlib
import io
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

import remit
from core.conftest import until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["return", "keep"])
def placement(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def text(job: remit.Job, **how: bool) -> bytes:
    records: list[remit.Record] = [record async for record in job.receive(**how)]
    return b"".join(record.data for record in records)


# -- what it is


async def test_what_a_job_says_of_itself(session: remit.Session, placement: str) -> None:
    began = datetime.now(UTC) - timedelta(seconds=1)
    job = await session.start(["sh", "-c", "exit 0"], placement=placement, name="mine")
    assert await job.wait() is remit.JobState.COMPLETED
    assert (job.name, job.command, job.location) == ("mine", ("sh", "-c", "exit 0"), "localhost")
    assert (job.placement, job.group) == (placement, None)
    assert job.lifetime == {"return": "session", "keep": "detached"}[placement]
    assert job.outcome == remit.Outcome(exit_status=0, reason="exited")
    assert job.created is not None
    assert job.started is not None
    assert job.finished is not None
    assert began < job.created <= job.started <= job.finished < datetime.now(UTC)
    assert not job.has_more_data


async def test_the_id_can_be_given(session: remit.Session, placement: str) -> None:
    job_id = remit.new_job_id()
    job = await session.start(["true"], placement=placement, id=job_id)
    assert job.id == job_id
    await job.wait()


@pytest.mark.parametrize(
    ("line", "state", "exit_status", "signal_name", "reason"),
    [
        ("exit 0", "COMPLETED", 0, None, "exited"),
        ("exit 3", "FAILED", 3, None, "exited"),
        ("kill -9 $$", "FAILED", None, "SIGKILL", "signalled"),
        ("exit 255", "FAILED", 255, None, "exited"),
    ],
)
async def test_how_it_ended(
    session: remit.Session,
    placement: str,
    line: str,
    state: str,
    exit_status: int | None,
    signal_name: str | None,
    reason: str,
) -> None:
    job = await session.start(line, placement=placement)
    assert await job.wait() == state
    assert job.outcome is not None
    assert (job.outcome.exit_status, job.outcome.signal) == (exit_status, signal_name)
    assert job.outcome.reason == reason


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"work": ["no-such-program-here"]}, "no such program: no-such-program-here"),
        ({"work": ["true"], "cwd": "/no/such/dir"}, "no such directory: /no/such/dir"),
    ],
)
async def test_what_cannot_start_has_failed_and_says_why(
    session: remit.Session, placement: str, options: dict[str, Any], words: str
) -> None:
    job = await session.start(**options, placement=placement)
    assert await job.wait() is remit.JobState.FAILED
    assert job.outcome is not None
    assert job.outcome.reason == "start-failed"
    assert words in (job.outcome.error or "")
    with pytest.raises(remit.JobFailed, match=words):
        await job.result()


async def test_a_time_limit(session: remit.Session, placement: str) -> None:
    job = await session.start(["sleep", "1000"], placement=placement, timeout=0.3)
    assert await job.wait() is remit.JobState.FAILED
    assert job.outcome is not None
    assert job.outcome.reason == "timeout"


async def test_environment_directory_and_words(
    session: remit.Session, placement: str, tmp_path: Path
) -> None:
    words = ["a b", "", "'", '"', "$HOME", "*", "\\", "ä\udcff", "new\nline"]
    job = await session.start(
        ["sh", "-c", 'printf "%s|" "$PWD" "$A" "$REMIT_JOB" "$@"', "sh", *words],
        placement=placement,
        cwd=tmp_path,
        env={"A": "1 $x"},
    )
    done = await job.result()
    expected = [str(tmp_path), "1 $x", job.id, *words]
    assert done.stdout.split(b"|")[:-1] == [os.fsencode(word) for word in expected]


# -- stdin


async def pieces() -> AsyncIterator[bytes]:
    yield b"x" * 100_000
    yield b"y" * 100_000


@pytest.mark.parametrize("kind", ["bytes", "file", "iterable"])
async def test_stdin(session: remit.Session, placement: str, kind: str) -> None:
    data = b"x" * 100_000 + b"y" * 100_000
    stdin: Any = {"bytes": data, "file": io.BytesIO(data), "iterable": pieces()}[kind]
    job = await session.start(["sha256sum"], stdin=stdin, placement=placement)
    assert (await job.result()).stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


async def test_without_stdin_there_is_nothing_to_read(
    session: remit.Session, placement: str
) -> None:
    job = await session.start(["cat"], placement=placement)
    assert (await job.result()).stdout == b""


async def test_a_conversation_over_a_pipe(session: remit.Session) -> None:
    job = await session.start(["cat"], stdin=remit.PIPE)
    receiver = job.receive()
    await job.send(b"one\n")
    assert (await anext(receiver)).data == b"one\n"
    await job.send(b"two\n")
    await job.send_eof()
    assert (await anext(receiver)).data == b"two\n"
    assert await job.wait() is remit.JobState.COMPLETED
    with pytest.raises(remit.JobStateError, match=r"no longer reads|closed by send_eof"):
        await job.send(b"three\n")


async def test_a_job_that_does_not_read_its_stdin(session: remit.Session) -> None:
    job = await session.start(["true"], stdin=remit.PIPE)
    with pytest.raises(remit.JobStateError, match="no longer reads"):
        await job.send(b"x" * 10_000_000)
    assert (await session.run(["true"], stdin=b"x" * 1_000_000)).exit_status == 0


async def broken() -> AsyncIterator[bytes]:
    yield b"half"
    raise OSError("the disk is gone")


async def test_half_an_input_is_no_input(session: remit.Session, placement: str) -> None:
    if placement == "keep":
        with pytest.raises(OSError, match="the disk is gone"):
            await session.start(["cat"], stdin=broken(), placement=placement)
        assert await session.jobs() == []
    else:
        job = await session.start(["cat"], stdin=broken())
        with pytest.raises(remit.JobFailed, match="the disk is gone"):
            await job.result()


# -- receive


async def test_records_are_in_order_over_both_streams(
    session: remit.Session, placement: str, tmp_path: Path
) -> None:
    line = f"echo a; {until(tmp_path / '1')}; echo b >&2; {until(tmp_path / '2')}; echo c"
    job = await session.start(line, placement=placement)
    records = []
    async for record in job.receive():
        records.append(record)
        (tmp_path / str(len(records))).touch()
    assert [(record.stream, record.data, record.offset) for record in records] == [
        ("stdout", b"a\n", 0),
        ("stderr", b"b\n", 0),
        ("stdout", b"c\n", 2),
    ]
    assert [record.seq for record in records] == sorted(record.seq for record in records)
    assert {(record.job, record.location) for record in records} == {(job.id, "localhost")}


async def test_what_was_in_hand_at_a_break_comes_again(
    session: remit.Session, placement: str, tmp_path: Path
) -> None:
    line = f"for i in 1 2 3; do echo $i; {until(tmp_path / '$i')}; done"
    job = await session.start(line, placement=placement)
    async for record in job.receive():
        if record.data == b"2\n":
            break
        (tmp_path / "1").touch()
    for name in ("2", "3"):
        (tmp_path / name).touch()
    assert await text(job) == b"2\n3\n"
    assert await text(job) == b""
    assert not job.has_more_data


async def test_keep_uses_nothing_up(session: remit.Session, placement: str) -> None:
    job = await session.start("echo a; echo b", placement=placement)
    assert await text(job, keep=True) == b"a\nb\n"
    assert job.has_more_data
    assert await text(job, keep=True) == b"a\nb\n"
    assert await text(job) == b"a\nb\n"
    assert await text(job, keep=True) == b""
    assert not job.has_more_data


async def test_from_start_reads_all_again(session: remit.Session, placement: str) -> None:
    job = await session.start("echo a; echo b", placement=placement)
    assert await text(job) == b"a\nb\n"
    assert await text(job, from_start=True) == b"a\nb\n"
    assert await text(job, keep=True, from_start=True) == b"a\nb\n"
    assert await text(job) == b""


async def test_without_wait_there_is_what_there_is(session: remit.Session, placement: str) -> None:
    job = await session.start("echo a; sleep 1000", placement=placement)
    assert (await anext(job.receive(keep=True))).data == b"a\n"
    assert await text(job, wait=False) == b"a\n"
    assert await text(job, wait=False) == b""
    assert job.has_more_data
    await job.stop()


async def test_a_new_reader_takes_over(
    session: remit.Session, placement: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    job = await session.start(f"echo a; {until(gate)}; echo b", placement=placement)
    first, second, along = job.receive(), job.receive(), job.receive(keep=True)
    assert (await anext(first)).data == b"a\n"
    assert (await anext(second)).data == b"a\n"
    assert (await anext(along)).data == b"a\n"
    gate.touch()
    with pytest.raises(remit.JobStateError, match="taken over"):
        await anext(first)
    assert [record.data async for record in second] == [b"b\n"]
    assert [record.data async for record in along] == [b"b\n"]


async def test_many_bytes_are_the_same_bytes(session: remit.Session, placement: str) -> None:
    line = "seq 1 2000000"
    job = await session.start(line, placement=placement)
    digest = hashlib.sha256()
    async for record in job.receive():
        assert isinstance(record.data, bytes)
        digest.update(record.data)
    expected = hashlib.sha256()
    for number in range(1, 2_000_001):
        expected.update(b"%d\n" % number)
    assert digest.hexdigest() == expected.hexdigest()


async def test_a_large_result_is_whole(session: remit.Session, placement: str) -> None:
    job = await session.start("seq 1 1000000; seq 1 300000 >&2", placement=placement)
    done = await job.result()
    assert done.stdout == b"".join(b"%d\n" % number for number in range(1, 1_000_001))
    assert done.stderr == b"".join(b"%d\n" % number for number in range(1, 300_001))
    assert not job.has_more_data
    assert await text(job) == b""


async def test_merged_streams(session: remit.Session, placement: str) -> None:
    job = await session.start("echo a; echo b >&2; echo c", merge=True, placement=placement)
    assert await job.result() == remit.CommandResult(0, b"a\nb\nc\n", b"")


async def test_a_failed_result_uses_nothing_up(session: remit.Session, placement: str) -> None:
    job = await session.start("echo a; exit 1", placement=placement)
    with pytest.raises(remit.JobFailed, match="exited with status 1"):
        await job.result()
    assert await text(job) == b"a\n"


async def test_save_writes_a_file_where_the_results_are(
    session: remit.Session, placement: str, tmp_path: Path
) -> None:
    job = await session.start("echo a; echo b >&2", placement=placement)
    await job.wait()
    assert await job.save(tmp_path / "out") == str(tmp_path / "out")
    await job.save(tmp_path / "err", stream="stderr")
    assert (tmp_path / "out").read_bytes() == b"a\n"
    assert (tmp_path / "err").read_bytes() == b"b\n"
    with pytest.raises((remit.RemitError, OSError), match="directory"):
        await job.save(tmp_path / "no" / "such")


# -- full buffers


async def test_an_unread_return_job_spills_and_loses_nothing(session: remit.Session) -> None:
    job = await session.start(["seq", "1", "3000000"], buffer_limit=1 << 20)
    assert await job.wait() is remit.JobState.COMPLETED
    digest = hashlib.sha256()
    async for record in job.receive():
        assert isinstance(record.data, bytes)
        digest.update(record.data)
    expected = hashlib.sha256(b"".join(b"%d\n" % number for number in range(1, 3_000_001)))
    assert digest.hexdigest() == expected.hexdigest()


async def test_a_blocked_job_waits_for_its_reader(session: remit.Session) -> None:
    job = await session.start(
        ["head", "-c", "5000000", "/dev/zero"], full="block", buffer_limit=1 << 17
    )
    async for state in job.changes():
        if state is remit.JobState.BLOCKED:
            break
    with pytest.raises(remit.JobStateError, match="BLOCKED"):
        await job.wait()
    assert len(await text(job)) == 5_000_000
    assert await job.wait() is remit.JobState.COMPLETED


async def test_dropped_bytes_are_told(session: remit.Session) -> None:
    job = await session.start(["seq", "1", "500000"], full="drop", buffer_limit=1 << 18)
    await job.wait()
    everything = b"".join(b"%d\n" % number for number in range(1, 500_001))
    at = 0
    async for record in job.receive():
        assert record.offset == at
        if isinstance(record.data, remit.Gap):
            assert at == 0
            at += record.data.size
        else:
            assert record.data == everything[at : record.end]
            at = record.end
    assert at == len(everything)


# -- managing


async def test_stop_ends_the_whole_tree(session: remit.Session, placement: str) -> None:
    job = await session.start("setsid sleep 1000.5 & sleep 1000.5", placement=placement)
    while (await session.run("pgrep -c -f '^sleep 1000[.]5$'")).stdout != b"2\n":
        pass
    assert await job.stop() == []
    assert await job.wait() is remit.JobState.STOPPED
    assert (await session.run(["pgrep", "-f", "^sleep 1000[.]5$"])).exit_status == 1
    assert await job.stop() == []  # of a finished job: nothing to do


async def test_stop_kills_what_does_not_heed_term(session: remit.Session, placement: str) -> None:
    job = await session.start(
        "trap '' TERM; echo on; while :; do sleep 1; done", placement=placement
    )
    await anext(job.receive(keep=True))
    assert await job.stop(grace=0.3) == []
    assert job.state is remit.JobState.STOPPED


async def test_suspend_and_resume(session: remit.Session, placement: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = await session.start(f"{until(gate)}; echo on", placement=placement)
    await job.suspend()
    assert job.state is remit.JobState.SUSPENDED
    gate.touch()
    with anyio.move_on_after(0.5) as waiting:
        await job.wait()
    assert waiting.cancelled_caught
    await job.resume()
    assert await job.wait() is remit.JobState.COMPLETED


async def test_remove(session: remit.Session, placement: str) -> None:
    job = await session.start(["sleep", "1000"], placement=placement, name="gone")
    with pytest.raises(remit.JobStateError, match="is RUNNING"):
        await job.remove()
    await job.remove(force=True)
    with pytest.raises(remit.JobNotFound, match="no job 'gone'"):
        await session.job("gone")
    assert await session.jobs() == []


async def test_many_are_removed_at_once(session: remit.Session, placement: str) -> None:
    jobs = [await session.start(["sleep", "1000"], placement=placement) for _ in range(12)]
    async with anyio.create_task_group() as tasks:
        for job in jobs:
            tasks.start_soon(job.remove, True)
    assert {job.state for job in jobs} == {remit.JobState.STOPPED}
    assert await session.jobs() == []


async def test_a_job_that_another_removes_is_no_longer_known(session: remit.Session) -> None:
    job = await session.start(["sleep", "1000"], placement="keep")
    async with remit.connect("local:") as other:
        await (await other.job(job.id)).remove(force=True)
    with anyio.fail_after(30):
        assert await job.wait() in (remit.JobState.STOPPED, remit.JobState.LOST)


async def test_a_job_is_found_by_id_name_and_prefix(session: remit.Session, placement: str) -> None:
    job = await session.start(["true"], placement=placement, name="findme")
    for word in (job.id, "findme", job.id[:5]):
        assert (await session.job(word)).id == job.id
    await session.start(["true"], placement=placement, name="findme")
    with pytest.raises(remit.JobNotFound, match="matches 2 jobs") as caught:
        await session.job("findme")
    assert job.id in str(caught.value)
    with pytest.raises(remit.JobNotFound, match="no job"):
        await session.job("nothere")
    assert {info.name for info in await session.jobs()} == {"findme"}


async def test_a_pipe_held_open_does_not_hold_the_job_up(
    session: remit.Session, placement: str
) -> None:
    job = await session.start("echo on; setsid sleep 1000 &", placement=placement)
    with anyio.fail_after(30):
        done = await job.result()
    assert done.stdout == b"on\n"
    assert job.outcome is not None
    assert "output held open by" in (job.outcome.note or "")
    await job.remove(force=True)


async def test_a_kept_job_outlives_its_session() -> None:
    async with remit.connect("local:") as session:
        job = await session.start("sleep 0.5; echo on; exit 4", placement="keep", name="outlive")
    assert job.state is remit.JobState.DISCONNECTED
    async with remit.connect("local:") as session:
        again = await session.job("outlive")
        assert await text(again) == b"on\n"
        assert await again.wait() is remit.JobState.FAILED
        assert again.outcome == remit.Outcome(exit_status=4, reason="exited")


async def test_an_id_that_was_taken_back_never_runs(session: remit.Session) -> None:
    job = await session.start(["true"], placement="keep")
    await job.wait()
    await job.remove()
    with pytest.raises(remit.JobStateError, match=job.id):
        await session.start(["true"], placement="keep", id=job.id)


async def test_a_repeated_start_runs_once(session: remit.Session, tmp_path: Path) -> None:
    job_id = remit.new_job_id()
    line = f"echo ran >> {tmp_path}/ran; sleep 0.2"
    first = await session.start(line, placement="keep", id=job_id)
    second = await session.start(line, placement="keep", id=job_id)
    await first.wait()
    await second.wait()
    third = await session.start(line, placement="keep", id=job_id)
    assert third.state is remit.JobState.COMPLETED
    assert (tmp_path / "ran").read_text() == "ran\n"


# -- what can never be right


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"work": []}, ValueError, "needs a program"),
        ({"work": [""]}, ValueError, "needs a program"),
        ({"work": "  "}, ValueError, "command line is empty"),
        ({"work": ["a\0b"]}, ValueError, "NUL"),
        ({"work": b"true"}, TypeError, "sequence of words"),
        ({"work": 3}, TypeError, "sequence of words"),
        ({"work": ["true"], "python": "python3"}, ValueError, "for functions"),
        ({"work": print, "python": ""}, ValueError, "python must be the path"),
        ({"work": ["true"], "placement": "nowhere"}, ValueError, "no placement"),
        ({"work": ["true"], "lifetime": "detached"}, ValueError, "detached"),
        ({"work": ["true"], "lifetime": "ever"}, ValueError, "lifetime"),
        ({"work": ["true"], "timeout": -1}, ValueError, "timeout"),
        ({"work": ["true"], "timeout": float("nan")}, ValueError, "timeout"),
        ({"work": ["true"], "cwd": ""}, ValueError, "cwd is empty"),
        ({"work": ["true"], "env": {"A=B": "1"}}, ValueError, "environment"),
        ({"work": ["true"], "name": ""}, ValueError, "name"),
        ({"work": ["true"], "name": "a\nb"}, ValueError, "name"),
        ({"work": ["true"], "id": "x"}, ValueError, "job id"),
        ({"work": ["true"], "full": "explode"}, ValueError, "full"),
        ({"work": ["true"], "stdin": "text"}, TypeError, "stdin"),
        ({"work": ["true"], "stdin": remit.PIPE, "placement": "keep"}, ValueError, "PIPE"),
        ({"work": ["true", "x" * 2_000_000]}, ValueError, "the most is"),
    ],
)
async def test_arguments_that_can_never_be_right(
    session: remit.Session, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        await session.start(**options)
    assert await session.jobs() == []


async def test_signal_names_are_the_targets(session: remit.Session) -> None:
    job = await session.start(f"kill -{signal.SIGUSR1.value} $$")
    await job.wait()
    assert job.outcome is not None
    assert job.outcome.signal == "SIGUSR1"
